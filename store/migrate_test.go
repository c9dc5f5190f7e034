package store_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

func onEveryEmptyServer(t *testing.T, test func(t *testing.T, dsn string)) {
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) { test(t, s.dsn(t)) })
	}
}

func TestMigrateUpStatusDown(t *testing.T) {
	onEveryEmptyServer(t, func(t *testing.T, dsn string) {
		ctx := t.Context()
		db := open(t, dsn)
		st, err := db.MigrationStatus(ctx)
		require.NoError(t, err)
		require.Equal(t, "none", st.Lab)
		require.Zero(t, st.Schema)
		require.ErrorIs(t, db.Check(ctx, store.Use{StaticLabels: true, Shared: true}), store.ErrSchema)

		for range 2 { // the second time nothing is left to do
			st, err = db.Migrate(ctx, store.MigrateOptions{})
			require.NoError(t, err)
			require.Equal(t, "ours", st.Lab)
			require.EqualValues(t, store.SchemaVersion, st.Schema)
			require.True(t, st.Guard)
			require.NoError(t, db.Check(ctx, store.Use{StaticLabels: true, Shared: true}))
		}

		st, err = db.MigrateDown(ctx, store.MigrateOptions{})
		require.NoError(t, err)
		require.Zero(t, st.Schema)
		require.False(t, st.Guard)
		require.Equal(t, "ours", st.Lab, "the lab stays")
		st, err = db.Migrate(ctx, store.MigrateOptions{})
		require.NoError(t, err)
		require.True(t, st.Guard)
		st, err = db.MigrateDown(ctx, store.MigrateOptions{Lab: true})
		require.NoError(t, err)
		require.Equal(t, "none", st.Lab)
	})
}

// TestMigrateExistingLab: beside Autotest's tables only our own are added, and
// the guard on request.
func TestMigrateExistingLab(t *testing.T) {
	onEveryEmptyServer(t, func(t *testing.T, dsn string) {
		ctx := t.Context()
		db := open(t, dsn)
		_, err := db.Migrate(ctx, store.MigrateOptions{})
		require.NoError(t, err)
		_, err = db.MigrateDown(ctx, store.MigrateOptions{})
		require.NoError(t, err)
		_, err = db.SQL().Exec("DROP TABLE hostsched_lab_schema") // now it is somebody else's
		require.NoError(t, err)
		columns := count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries")
		require.Zero(t, columns)

		st, err := db.Migrate(ctx, store.MigrateOptions{})
		require.NoError(t, err)
		require.Equal(t, "autotest", st.Lab)
		require.False(t, st.Guard)
		require.NoError(t, db.Check(ctx, store.Use{StaticLabels: true, Shared: true}))
		_, err = db.MigrateDown(ctx, store.MigrateOptions{Lab: true})
		require.ErrorIs(t, err, store.ErrServer, "Autotest's tables are never dropped")

		fillLab(t, db)
		_, err = db.SQL().Exec("UPDATE afe_host_queue_entries SET active = 1, host_id = 7 WHERE id IN (1, 2)")
		require.NoError(t, err)
		_, err = db.Migrate(ctx, store.MigrateOptions{Guard: true})
		require.ErrorContains(t, err, "host 7")
		_, err = db.SQL().Exec("UPDATE afe_host_queue_entries SET active = 0, host_id = NULL WHERE id = 2")
		require.NoError(t, err)
		st, err = db.Migrate(ctx, store.MigrateOptions{Guard: true})
		require.NoError(t, err)
		require.True(t, st.Guard)
		// SELECT * of another client sees what it always saw.
		rows, err := db.SQL().Query("SELECT * FROM afe_host_queue_entries WHERE 1=0")
		require.NoError(t, err)
		defer func() { require.NoError(t, rows.Close()) }()
		names, err := rows.Columns()
		require.NoError(t, err)
		require.NoError(t, rows.Err())
		require.Len(t, names, 13)
	})
}

func TestTwoMigratorsAtOnce(t *testing.T) {
	onEveryEmptyServer(t, func(t *testing.T, dsn string) {
		var g errgroup.Group
		for range 4 {
			db := open(t, dsn)
			g.Go(func() error {
				_, err := db.Migrate(context.Background(), store.MigrateOptions{})
				return err
			})
		}
		require.NoError(t, g.Wait())
	})
}

func TestWrongSchemaVersion(t *testing.T) {
	onEveryServer(t, func(t *testing.T, db *store.DB) {
		_, err := db.SQL().Exec("INSERT INTO hostsched_schema (version_id, is_applied) VALUES (99, 1)")
		require.NoError(t, err)
		for _, err := range []error{db.Check(t.Context(), store.Use{Shared: true}), migrateError(db)} {
			require.ErrorIs(t, err, store.ErrSchema)
			require.ErrorContains(t, err, "99")
			requireOneLine(t, err)
		}
		_, err = db.SQL().Exec("DELETE FROM hostsched_schema WHERE version_id > 0")
		require.NoError(t, err)
		require.ErrorIs(t, db.Check(t.Context(), store.Use{Shared: true}), store.ErrSchema)
	})
}

func migrateError(db *store.DB) error {
	_, err := db.Migrate(context.Background(), store.MigrateOptions{})
	return err
}

func TestMissingTableAndColumn(t *testing.T) {
	onEveryServer(t, func(t *testing.T, db *store.DB) {
		_, err := db.SQL().Exec("ALTER TABLE afe_special_tasks RENAME COLUMN requested_by_id TO asked_by")
		require.NoError(t, err)
		err = db.Check(t.Context(), store.Use{Shared: true})
		require.ErrorIs(t, err, store.ErrSchema)
		require.ErrorContains(t, err, "afe_special_tasks")
		requireOneLine(t, err)
		_, err = db.SQL().Exec("DROP TABLE afe_special_tasks")
		require.NoError(t, err)
		err = db.Check(t.Context(), store.Use{Shared: true})
		require.ErrorIs(t, err, store.ErrSchema)
		require.ErrorContains(t, err, "afe_special_tasks")
	})
}

// requireOneLine: a person gets one line that says what was tried and on what.
func requireOneLine(t *testing.T, err error) {
	t.Helper()
	require.NotContains(t, err.Error(), "\n")
	require.NotContains(t, err.Error(), "sesame", "no password")
}

func TestMissingPrivilege(t *testing.T) {
	dsn := testserver.Database(t)
	db := open(t, dsn)
	_, err := db.Migrate(t.Context(), store.MigrateOptions{})
	require.NoError(t, err)
	reader := open(t, testserver.User(t, dsn, "reader", "sesame", "SELECT"))
	err = reader.Check(t.Context(), store.Use{Shared: true})
	require.ErrorIs(t, err, store.ErrPrivilege)
	require.ErrorContains(t, err, "update table afe_hosts")
	requireOneLine(t, err)
	_, err = reader.TakeOver(t.Context(), store.Claim{Shard: shard.Master, Token: 1, Cluster: "c", Holder: "h"})
	require.ErrorIs(t, err, store.ErrPrivilege)
}

func TestOpenRefusesBadInput(t *testing.T) {
	server := testserver.Shared(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed := silent.Addr().String()
	require.NoError(t, silent.Close())
	dir := t.TempDir()
	for name, c := range map[string]struct {
		cfg  store.Config
		want error
		text string
	}{
		"empty":          {store.Config{}, store.ErrDSN, "empty"},
		"no slash":       {store.Config{DSN: "root:sesame@tcp(localhost)"}, store.ErrDSN, "slash"},
		"brackets":       {store.Config{DSN: "root:sesame@tcp(localhost/x"}, store.ErrDSN, ""},
		"no database":    {store.Config{DSN: "root:sesame@tcp(localhost:3306)/"}, store.ErrDSN, "database name"},
		"no path":        {store.Config{DSN: "sqlite:"}, store.ErrDSN, "file path"},
		"not local":      {store.Config{DSN: "root:sesame@tcp(db.example.com:3306)/afe"}, store.ErrNotLocal, "--production"},
		"not local ip":   {store.Config{DSN: "root:sesame@tcp(10.1.2.3:3306)/afe"}, store.ErrNotLocal, "--production"},
		"nobody listens": {store.Config{DSN: "root:sesame@tcp(" + closed + ")/afe"}, store.ErrUnreachable, "address"},
		"no such user":   {store.Config{DSN: server.DSN("mysql", "nobody", "sesame")}, store.ErrUnreachable, "password"},
		"no such schema": {store.Config{DSN: server.DSN("nowhere", "root", "")}, store.ErrUnreachable, "database name"},
		"no such folder": {store.Config{DSN: "sqlite:" + filepath.Join(dir, "missing", "lab.db"), Create: true}, store.ErrUnreachable, "folder"},
		"no such file":   {store.Config{DSN: "sqlite:" + filepath.Join(dir, "lab.db")}, store.ErrUnreachable, "migrate up"},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			_, err := store.Open(t.Context(), c.cfg)
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.text)
			requireOneLine(t, err)
			require.Less(t, time.Since(began), 10*time.Second)
		})
	}
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, files, "nothing was written")
}

func TestHasPassword(t *testing.T) {
	for dsn, want := range map[string]bool{
		"root:x@tcp(localhost)/a": true, "root@tcp(localhost)/a": false, "sqlite:x.db": false, "nonsense": false,
	} {
		require.Equal(t, want, store.HasPassword(dsn), fmt.Sprintf("%q", dsn))
	}
}
