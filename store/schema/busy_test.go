package schema_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// These bound a migration that waits for others, and others that wait for it.
const (
	maxMigration = 7 * time.Second
	maxSelect    = 6 * time.Second
)

// useTable keeps a table in use by a transaction of another session, until the
// returned function ends it.
func useTable(t testing.TB, db *sqldb.DB, table string) (end func()) {
	t.Helper()
	tx, err := db.Pool.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	var n sql.NullInt64
	require.NoError(t, tx.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM "+table).Scan(&n))
	return func() { require.NoError(t, tx.Rollback()) }
}

// requireInUse: what others keep in use makes a migration give up soon, with one
// line that names the table and somebody who uses it.
func requireInUse(t testing.TB, table string, migrate func() error) {
	t.Helper()
	began := time.Now()
	err := migrate()
	require.ErrorIs(t, err, schema.ErrInUse)
	require.ErrorContains(t, err, table)
	require.ErrorContains(t, err, "root@")
	require.Less(t, time.Since(began), maxMigration)
	storetest.RequireOneLine(t, err)
}

// TestGuardOnATableInUse: the guard is not worth a standstill of everybody who
// reads the queue.
func TestGuardOnATableInUse(t *testing.T) {
	dsn := testserver.Database(t)
	db, err := store.Open(t.Context(), sqldb.Config{DSN: dsn})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	up(t, db.DB)
	require.NoError(t, schema.RemoveGuard(t.Context(), db.DB))
	storetest.Exec(t, db.DB, "DROP TABLE hostsched_lab_schema") // the lab is Autotest's
	want := picture(t, db.DB)
	_, err = simlab.Create(t.Context(), db.Pool, smallLab)
	require.NoError(t, err)
	l := lead(t, db)
	end := useTable(t, db.DB, "afe_host_queue_entries")

	done := make(chan struct{})
	slowest := make(chan time.Duration)
	go func() { slowest <- slowestSelect(done, db.DB) }()
	requireInUse(t, "afe_host_queue_entries", func() error {
		_, err := schema.Up(t.Context(), db.DB, schema.Options{Guard: true})
		return err
	})
	close(done)
	require.Less(t, <-slowest, maxSelect)
	require.Equal(t, want, picture(t, db.DB), "nothing was changed")
	requireWorks(t, db, l)

	end()
	st, err := schema.Up(t.Context(), db.DB, schema.Options{Guard: true})
	require.NoError(t, err)
	require.True(t, st.Guard)
	end = useTable(t, db.DB, "afe_host_queue_entries")
	requireInUse(t, "afe_host_queue_entries", func() error { return schema.RemoveGuard(t.Context(), db.DB) })
	requireInUse(t, "afe_host_queue_entries", func() error {
		_, err := schema.Down(t.Context(), db.DB, schema.Options{})
		return err
	})
	end()
	require.NoError(t, schema.RemoveGuard(t.Context(), db.DB))
}

// slowestSelect is another client that reads the queue all the time.
func slowestSelect(done <-chan struct{}, db *sqldb.DB) (slowest time.Duration) {
	for {
		select {
		case <-done:
			return slowest
		default:
		}
		began := time.Now()
		var n int
		if err := db.Pool.QueryRow("SELECT COUNT(*) FROM afe_host_queue_entries").Scan(&n); err != nil {
			return time.Hour
		}
		slowest = max(slowest, time.Since(began))
	}
}

// TestOwnTableInUse: so it is with the tables of a rolling upgrade.
func TestOwnTableInUse(t *testing.T) {
	db := open(t, testserver.Database(t))
	up(t, db)
	want := columnsAndKeys(t, db)
	_, err := schema.Down(t.Context(), db, schema.Options{})
	require.NoError(t, err)
	require.NoError(t, schema.UpTo(t.Context(), db, 2))
	end := useTable(t, db, "hostsched_fence")
	requireInUse(t, "table hostsched_fence,", func() error {
		_, err := schema.Up(t.Context(), db, schema.Options{})
		require.ErrorContains(t, err, "run migration own/00003_lanes.sql")
		return err
	})
	end()
	up(t, db)
	require.Equal(t, want, columnsAndKeys(t, db))
	end = useTable(t, db, "hostsched_terms")
	requireInUse(t, "table hostsched_terms,", func() error {
		_, err := schema.Down(t.Context(), db, schema.Options{})
		return err
	})
	end()
	up(t, db)
	require.Equal(t, want, columnsAndKeys(t, db))
}

// TestUserWhoMayNotAskWhoIsInTheWay gets told how to find out.
func TestUserWhoMayNotAskWhoIsInTheWay(t *testing.T) {
	dsn := testserver.Database(t)
	db := open(t, dsn)
	up(t, db)
	blind := open(t, testserver.User(t, dsn, "blind", "sesame", "ALL"))
	defer useTable(t, db, "afe_host_queue_entries")()
	err := schema.RemoveGuard(t.Context(), blind)
	require.ErrorIs(t, err, schema.ErrInUse)
	require.ErrorContains(t, err, "table afe_host_queue_entries, which another session uses: ask SHOW PROCESSLIST")
}

// TestFileInUse: a writer that holds an SQLite file makes a migration give up.
func TestFileInUse(t *testing.T) {
	dsn := "sqlite:" + t.TempDir() + "/lab.db"
	db := open(t, dsn)
	tx, err := open(t, dsn).Pool.BeginTx(context.Background(), nil)
	require.NoError(t, err)
	began := time.Now()
	_, err = schema.Up(t.Context(), db, schema.Options{})
	require.ErrorIs(t, err, schema.ErrInUse)
	require.ErrorContains(t, err, "fuser")
	require.Less(t, time.Since(began), maxMigration)
	storetest.RequireOneLine(t, err)
	require.NoError(t, tx.Rollback())
	up(t, db)
	requireClean(t, clean(t, dsn), db)
}
