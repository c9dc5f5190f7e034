package schema_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

func TestMigrateUpStatusDown(t *testing.T) {
	storetest.OnEachDatabase(t, func(t *testing.T, dsn string) {
		ctx := t.Context()
		db := open(t, dsn)
		st, err := schema.ReadStatus(ctx, db)
		require.NoError(t, err)
		require.Equal(t, "none", st.Lab)
		require.Zero(t, st.Schema)
		require.ErrorIs(t, schema.Check(ctx, db, schema.Use{StaticLabels: true, Shared: true}), sqldb.ErrSchema)

		for range 2 { // the second time nothing is left to do
			st, err = schema.Up(ctx, db, schema.Options{})
			require.NoError(t, err)
			require.Equal(t, "ours", st.Lab)
			require.EqualValues(t, schema.SchemaVersion, st.Schema)
			require.True(t, st.Guard)
			require.NoError(t, schema.Check(ctx, db, schema.Use{StaticLabels: true, Shared: true}))
		}

		st, err = schema.Down(ctx, db, schema.Options{})
		require.NoError(t, err)
		require.Zero(t, st.Schema)
		require.False(t, st.Guard)
		require.Equal(t, "ours", st.Lab, "the lab stays")
		st, err = schema.Up(ctx, db, schema.Options{})
		require.NoError(t, err)
		require.True(t, st.Guard)
		for range 2 { // the second time nothing is left to do
			st, err = schema.Down(ctx, db, schema.Options{Lab: true})
			require.NoError(t, err)
			require.Equal(t, "none", st.Lab)
		}
	})
}

// TestMigrateExistingLab: beside Autotest's tables only our own are added, and
// the guard on request.
func TestMigrateExistingLab(t *testing.T) {
	storetest.OnEachDatabase(t, func(t *testing.T, dsn string) {
		ctx := t.Context()
		db := open(t, dsn)
		_, err := schema.Up(ctx, db, schema.Options{})
		require.NoError(t, err)
		_, err = schema.Down(ctx, db, schema.Options{})
		require.NoError(t, err)
		_, err = db.Pool.Exec("DROP TABLE hostsched_lab_schema") // now it is somebody else's
		require.NoError(t, err)
		columns := storetest.Count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries")
		require.Zero(t, columns)

		st, err := schema.Up(ctx, db, schema.Options{})
		require.NoError(t, err)
		require.Equal(t, "autotest", st.Lab)
		require.False(t, st.Guard)
		require.NoError(t, schema.Check(ctx, db, schema.Use{StaticLabels: true, Shared: true}))
		_, err = schema.Down(ctx, db, schema.Options{Lab: true})
		require.ErrorIs(t, err, sqldb.ErrServer, "Autotest's tables are never dropped")

		_, err = simlab.Create(ctx, db.Pool, smallLab)
		require.NoError(t, err)
		_, err = db.Pool.Exec("UPDATE afe_host_queue_entries SET active = 1, host_id = 7 WHERE id IN (1, 2)")
		require.NoError(t, err)
		_, err = schema.Up(ctx, db, schema.Options{Guard: true})
		require.ErrorContains(t, err, "host 7")
		_, err = db.Pool.Exec("UPDATE afe_host_queue_entries SET active = 0, host_id = NULL WHERE id = 2")
		require.NoError(t, err)
		st, err = schema.Up(ctx, db, schema.Options{Guard: true})
		require.NoError(t, err)
		require.True(t, st.Guard)
		// SELECT * of another client sees what it always saw.
		rows, err := db.Pool.Query("SELECT * FROM afe_host_queue_entries WHERE 1=0")
		require.NoError(t, err)
		defer func() { require.NoError(t, rows.Close()) }()
		names, err := rows.Columns()
		require.NoError(t, err)
		require.NoError(t, rows.Err())
		require.Len(t, names, 13)
	})
}

func TestTwoMigratorsAtOnce(t *testing.T) {
	storetest.OnEachDatabase(t, func(t *testing.T, dsn string) {
		var g errgroup.Group
		for range 4 {
			db := open(t, dsn)
			g.Go(func() error {
				_, err := schema.Up(context.Background(), db, schema.Options{})
				return err
			})
		}
		require.NoError(t, g.Wait())
	})
}

// TestFenceOfAFormerVersion: the row of a shard that was led under schema
// version 2 becomes the rows of all lanes, and who led then is refused.
func TestFenceOfAFormerVersion(t *testing.T) {
	storetest.OnEachDatabase(t, func(t *testing.T, dsn string) {
		db, err := store.Open(t.Context(), sqldb.Config{DSN: dsn, Create: true})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		require.NoError(t, schema.UpTo(t.Context(), db.DB, 2))
		storetest.Exec(t, db.DB, "INSERT INTO hostsched_fence (shard, epoch, token, etcd_cluster, holder, taken_at, ticks, last_write, session_id, session_peer, layout) VALUES ('master', 7, 9, 'test', 'former', CURRENT_TIMESTAMP, 5, '', 0, '', 3)")
		require.EqualValues(t, schema.SchemaVersion, up(t, db.DB).Schema)

		stillLeads := func() int64 {
			res, err := db.Pool.Exec("UPDATE hostsched_fence SET ticks = ticks + 1 WHERE shard = 'master' AND epoch = 7 AND holder = 'former'")
			require.NoError(t, err)
			n, err := res.RowsAffected()
			require.NoError(t, err)
			return n
		}
		require.EqualValues(t, 1, stillLeads(), "the migration ends no term")

		_, err = db.TakeOver(t.Context(), claim(9))
		require.ErrorIs(t, err, store.ErrOvertaken)
		l := lead(t, db)
		require.EqualValues(t, 8, l.Fence().Epoch)
		require.Empty(t, l.Fence().ClusterName, "it belongs to no cluster as long as nobody named one")
		require.Equal(t, db.Dialect.Writers, storetest.Count(t, db.DB, "SELECT COUNT(*) FROM hostsched_fence WHERE epoch = 8 AND token = 10 AND layout = 3"))
		require.Zero(t, stillLeads())
		_, err = simlab.Create(t.Context(), db.Pool, smallLab)
		require.NoError(t, err)
		requireWorks(t, db, l)
		require.Equal(t, 3, storetest.Count(t, db.DB, "SELECT value FROM hostsched_facts WHERE name = 'oldest'"))
	})
}

var masterScope = store.Scope{Shard: shard.Master, Shared: true}

var smallLab = simlab.Spec{Seed: 1, Hosts: 60, Boards: 3, Suites: 6, Entries: 80, MinimumShare: 0.1}

func claim(token int64) store.Claim {
	return store.Claim{Shard: shard.Master, Token: token, Cluster: "test", Holder: "replica"}
}

func lead(t testing.TB, db *store.DB) *store.Leader {
	t.Helper()
	l, err := db.TakeOver(t.Context(), claim(10))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

// requireWorks: a leader gives hosts to entries.
func requireWorks(t testing.TB, db *store.DB, l *store.Leader) {
	t.Helper()
	s, err := db.Snapshot(t.Context(), masterScope)
	require.NoError(t, err)
	plan := scheduler.MakePlan(s)
	require.NotEmpty(t, plan.Assignments)
	applied, err := l.Apply(t.Context(), plan)
	require.NoError(t, err)
	require.Equal(t, plan, applied.Applied)
}
