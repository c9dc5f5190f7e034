package admin_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
	"github.com/hostsched/hostsched/store/sqldb"
)

// oddNames are names of which some databases take some for the same, and some that
// cannot be used at all.
var oddNames = []string{
	"lab-west ", "lab-west", "Lab-West", "LAB-WEST", "läb-west", "lab-wesT", "straße", "strasse", "strase", "STRASSE",
	"Master", "mäster", "master", "MASTER ", "lab-x", "lab-x", "a/b", "", "lab-ok", "yes", "ües", "Yes", "lab-\u212bngstrom", "lab-\u00e5ngstrom",
}

// TestServedNamesDifferInTheDatabase compares our verdict on names with that of the
// tables in which shards are looked up, whatever their collations are.
func TestServedNamesDifferInTheDatabase(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		for _, name := range oddNames {
			storetest.Exec(t, db, "INSERT INTO afe_shards (hostname) VALUES (?)", name)
		}
		requireDifferent(t, db)
		if db.Dialect.Server == sqldb.ServerSQLite {
			return
		}
		storetest.Exec(t, db, "UPDATE afe_shards SET hostname = 'lab-a' WHERE hostname LIKE '%ngstrom'") // not in latin1
		for _, collation := range []string{"latin1 COLLATE latin1_swedish_ci", "utf8mb4 COLLATE utf8mb4_bin", "utf8mb4 COLLATE utf8mb4_unicode_ci"} {
			storetest.Exec(t, db, "ALTER TABLE afe_shards CONVERT TO CHARACTER SET "+collation)
			requireDifferent(t, db)
		}
	})
}

// requireDifferent: a row is served unless its name cannot be used, or is the same as
// the master's or that of a row which is served before it.
func requireDifferent(t *testing.T, db *store.DB) {
	t.Helper()
	rows, err := store.ShardRows(t.Context(), db.Pool, db.Dialect)
	require.NoError(t, err)
	unserved := shard.Unserved(rows)
	same := func(id shard.ID, name shard.Name) bool {
		own := storetest.Count(t, db, "SELECT COUNT(*) FROM afe_shards WHERE id = ? AND hostname = ?", int64(id), name.String())
		return own+storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_fence WHERE shard = ?", name.String()) > 0
	}
	for _, r := range rows {
		storetest.Exec(t, db, "DELETE FROM hostsched_fence")
		storetest.Exec(t, db, "INSERT INTO hostsched_fence (shard, epoch, token, etcd_cluster, holder, taken_at, ticks, last_write, session_id, session_peer) VALUES (?, 0, 0, '', '', CURRENT_TIMESTAMP, 0, '', 0, '')", r.Name.String())
		_, err := shard.Parse(r.Name.String())
		taken := same(r.ID, shard.Master)
		for _, before := range rows[:r.ID-1] {
			_, not := unserved[before.ID]
			taken = taken || !not && same(r.ID, before.Name)
		}
		_, not := unserved[r.ID]
		require.Equal(t, err != nil || taken, not, "row %d, %q: %s", r.ID, r.Name, unserved[r.ID])
	}
}

// TestUnservedShards: rows that no replica can lead are listed with their reason, what
// waits because of them is counted, and each can be removed.
func TestUnservedShards(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillShardedLab(t, db)
		lab := admin.New(db)
		storetest.Exec(t, db, "INSERT INTO afe_shards (hostname) VALUES ('A'), ('lab south'), ('Master'), (?)", strings.Repeat("x", 200))
		storetest.Exec(t, db, "INSERT INTO afe_shards_labels (label_id, shard_id) SELECT l.id, s.id FROM afe_labels l, afe_shards s WHERE l.name = 'board:b02' AND s.hostname = 'lab south'")
		storetest.Exec(t, db, "UPDATE afe_hosts SET shard_id = (SELECT MAX(id) FROM afe_shards WHERE hostname = 'lab south') WHERE id IN (SELECT host_id FROM afe_hosts_labels WHERE label_id = (SELECT id FROM afe_labels WHERE name = 'board:b02'))")
		storetest.Exec(t, db, "UPDATE afe_jobs SET shard_id = 4 WHERE id <= 3")

		served, unserved, err := lab.ShardDatabases(t.Context())
		require.NoError(t, err)
		require.Len(t, served, 3)
		require.Len(t, unserved, 4)
		scope := storetest.SharedScope(shard.Master)
		waiting, err := lab.Waiting(t.Context(), scope)
		require.NoError(t, err)
		require.Len(t, waiting, 4)
		require.EqualValues(t, 4, waiting[1].ID)
		require.Equal(t, 20, waiting[1].Hosts)
		require.Positive(t, waiting[1].Entries)
		found, err := lab.Check(t.Context(), scope, nil)
		require.NoError(t, err)
		require.Len(t, found.NotServed, 4)
		require.Contains(t, found.NotServed[1].Text, "20 hosts")
		found, err = lab.Check(t.Context(), storetest.SharedScope("a"), nil)
		require.NoError(t, err)
		require.Empty(t, found.NotServed, "the master's business")

		require.ErrorIs(t, lab.AddShard(t.Context(), "B", "", "me", ""), admin.ErrInput)
		require.ErrorIs(t, lab.AddShard(t.Context(), "MASTER", "", "me", ""), admin.ErrInput)
		_, err = lab.AssignLabel(t.Context(), "board:b00", "A", "me", "x")
		require.ErrorIs(t, err, store.ErrNoShard)
		require.ErrorIs(t, lab.RemoveUnserved(t.Context(), 1, "me", "x"), admin.ErrInput, "it is served")
		l := storetest.TakeOver(t, db, storetest.SharedScope("a"), 1)
		for _, u := range unserved {
			_, err := lab.ReleaseJobs(t.Context(), u.ID)
			require.NoError(t, err)
			require.NoError(t, lab.RemoveUnserved(t.Context(), u.ID, "me", "x"))
		}
		require.NoError(t, l.Verify(t.Context()), "removing A does not concern a")
		shards, err := lab.Shards(t.Context())
		require.NoError(t, err)
		require.Len(t, shards, 3)
		require.Equal(t, 60, shards[0].Hosts+shards[1].Hosts+shards[2].Hosts)
		waiting, err = lab.Waiting(t.Context(), scope)
		require.NoError(t, err)
		require.Empty(t, waiting)
	})
}

// TestLabelOfAnUnservedShard: a label can be taken from a row that nobody leads.
func TestLabelOfAnUnservedShard(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillShardedLab(t, db)
		storetest.Exec(t, db, "UPDATE afe_shards SET hostname = ? WHERE hostname = 'b'", strings.Repeat("x", 200))
		from, err := admin.New(db).AssignLabel(t.Context(), "board:b01", "a", "me", "x")
		require.NoError(t, err)
		require.Len(t, from, 200)
		shards, err := admin.New(db).Shards(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{"board:b00", "board:b01"}, shards[1].Labels)
	})
}
