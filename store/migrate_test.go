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
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
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
		st, err := schema.ReadStatus(ctx, db.DB)
		require.NoError(t, err)
		require.Equal(t, "none", st.Lab)
		require.Zero(t, st.Schema)
		require.ErrorIs(t, schema.Check(ctx, db.DB, schema.Use{StaticLabels: true, Shared: true}), sqldb.ErrSchema)

		for range 2 { // the second time nothing is left to do
			st, err = schema.Up(ctx, db.DB, schema.Options{})
			require.NoError(t, err)
			require.Equal(t, "ours", st.Lab)
			require.EqualValues(t, schema.SchemaVersion, st.Schema)
			require.True(t, st.Guard)
			require.NoError(t, schema.Check(ctx, db.DB, schema.Use{StaticLabels: true, Shared: true}))
		}

		st, err = schema.Down(ctx, db.DB, schema.Options{})
		require.NoError(t, err)
		require.Zero(t, st.Schema)
		require.False(t, st.Guard)
		require.Equal(t, "ours", st.Lab, "the lab stays")
		st, err = schema.Up(ctx, db.DB, schema.Options{})
		require.NoError(t, err)
		require.True(t, st.Guard)
		st, err = schema.Down(ctx, db.DB, schema.Options{Lab: true})
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
		_, err := schema.Up(ctx, db.DB, schema.Options{})
		require.NoError(t, err)
		_, err = schema.Down(ctx, db.DB, schema.Options{})
		require.NoError(t, err)
		_, err = db.SQL().Exec("DROP TABLE hostsched_lab_schema") // now it is somebody else's
		require.NoError(t, err)
		columns := count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries")
		require.Zero(t, columns)

		st, err := schema.Up(ctx, db.DB, schema.Options{})
		require.NoError(t, err)
		require.Equal(t, "autotest", st.Lab)
		require.False(t, st.Guard)
		require.NoError(t, schema.Check(ctx, db.DB, schema.Use{StaticLabels: true, Shared: true}))
		_, err = schema.Down(ctx, db.DB, schema.Options{Lab: true})
		require.ErrorIs(t, err, sqldb.ErrServer, "Autotest's tables are never dropped")

		fillLab(t, db)
		_, err = db.SQL().Exec("UPDATE afe_host_queue_entries SET active = 1, host_id = 7 WHERE id IN (1, 2)")
		require.NoError(t, err)
		_, err = schema.Up(ctx, db.DB, schema.Options{Guard: true})
		require.ErrorContains(t, err, "host 7")
		_, err = db.SQL().Exec("UPDATE afe_host_queue_entries SET active = 0, host_id = NULL WHERE id = 2")
		require.NoError(t, err)
		st, err = schema.Up(ctx, db.DB, schema.Options{Guard: true})
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
				_, err := schema.Up(context.Background(), db.DB, schema.Options{})
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
		for _, err := range []error{schema.Check(t.Context(), db.DB, schema.Use{Shared: true}), migrateError(db)} {
			require.ErrorIs(t, err, sqldb.ErrSchema)
			require.ErrorContains(t, err, "99")
			requireOneLine(t, err)
		}
		_, err = db.SQL().Exec("DELETE FROM hostsched_schema WHERE version_id > 0")
		require.NoError(t, err)
		require.ErrorIs(t, schema.Check(t.Context(), db.DB, schema.Use{Shared: true}), sqldb.ErrSchema)
	})
}

func migrateError(db *store.DB) error {
	_, err := schema.Up(context.Background(), db.DB, schema.Options{})
	return err
}

func TestMissingTableAndColumn(t *testing.T) {
	onEveryServer(t, func(t *testing.T, db *store.DB) {
		_, err := db.SQL().Exec("ALTER TABLE afe_special_tasks RENAME COLUMN requested_by_id TO asked_by")
		require.NoError(t, err)
		err = schema.Check(t.Context(), db.DB, schema.Use{Shared: true})
		require.ErrorIs(t, err, sqldb.ErrSchema)
		require.ErrorContains(t, err, "afe_special_tasks")
		requireOneLine(t, err)
		_, err = db.SQL().Exec("DROP TABLE afe_special_tasks")
		require.NoError(t, err)
		err = schema.Check(t.Context(), db.DB, schema.Use{Shared: true})
		require.ErrorIs(t, err, sqldb.ErrSchema)
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
	_, err := schema.Up(t.Context(), db.DB, schema.Options{})
	require.NoError(t, err)
	reader := open(t, testserver.User(t, dsn, "reader", "sesame", "SELECT"))
	err = schema.Check(t.Context(), reader.DB, schema.Use{Shared: true})
	require.ErrorIs(t, err, sqldb.ErrPrivilege)
	require.ErrorContains(t, err, "update table afe_hosts")
	requireOneLine(t, err)
	_, err = reader.TakeOver(t.Context(), store.Claim{Shard: shard.Master, Token: 1, Cluster: "c", Holder: "h"})
	require.ErrorIs(t, err, sqldb.ErrPrivilege)
}

func TestOpenRefusesBadInput(t *testing.T) {
	server := testserver.Shared(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed := silent.Addr().String()
	require.NoError(t, silent.Close())
	dir := t.TempDir()
	for name, c := range map[string]struct {
		cfg  sqldb.Config
		want error
		text string
	}{
		"empty":          {sqldb.Config{}, sqldb.ErrDSN, "empty"},
		"no slash":       {sqldb.Config{DSN: "root:sesame@tcp(localhost)"}, sqldb.ErrDSN, "slash"},
		"brackets":       {sqldb.Config{DSN: "root:sesame@tcp(localhost/x"}, sqldb.ErrDSN, ""},
		"no database":    {sqldb.Config{DSN: "root:sesame@tcp(localhost:3306)/"}, sqldb.ErrDSN, "database name"},
		"no path":        {sqldb.Config{DSN: "sqlite:"}, sqldb.ErrDSN, "file path"},
		"not local":      {sqldb.Config{DSN: "root:sesame@tcp(db.example.com:3306)/afe"}, sqldb.ErrNotLocal, "--production"},
		"not local ip":   {sqldb.Config{DSN: "root:sesame@tcp(10.1.2.3:3306)/afe"}, sqldb.ErrNotLocal, "--production"},
		"nobody listens": {sqldb.Config{DSN: "root:sesame@tcp(" + closed + ")/afe"}, sqldb.ErrUnreachable, "address"},
		"no such user":   {sqldb.Config{DSN: server.DSN("mysql", "nobody", "sesame")}, sqldb.ErrUnreachable, "password"},
		"no such schema": {sqldb.Config{DSN: server.DSN("nowhere", "root", "")}, sqldb.ErrUnreachable, "database name"},
		"no such folder": {sqldb.Config{DSN: "sqlite:" + filepath.Join(dir, "missing", "lab.db"), Create: true}, sqldb.ErrUnreachable, "folder"},
		"no such file":   {sqldb.Config{DSN: "sqlite:" + filepath.Join(dir, "lab.db")}, sqldb.ErrUnreachable, "migrate up"},
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
		require.Equal(t, want, sqldb.HasPassword(dsn), fmt.Sprintf("%q", dsn))
	}
}
