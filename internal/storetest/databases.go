package storetest

import (
	"context"
	"database/sql"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// TxTimeout bounds the transactions of tests. It is short so that tests that wait
// for its expiry are short, too.
const TxTimeout = 2 * time.Second

// Database is a kind of database that conformance tests run on.
type Database struct {
	Name string
	// DSN makes an empty database that lasts as long as the test.
	DSN func(t testing.TB) string
}

// Databases are the kinds of database of this run, as testserver.Chosen says.
func Databases(t testing.TB) []Database {
	t.Helper()
	kind, err := testserver.Chosen()
	require.NoError(t, err)
	var all []Database
	if kind != testserver.MySQL {
		all = append(all, Database{string(testserver.SQLite), SQLiteFile})
	}
	if kind != testserver.SQLite {
		all = append(all, Database{string(kind), testserver.Database})
	}
	return all
}

// SQLiteFile is the DSN of a SQLite file that does not exist yet.
func SQLiteFile(t testing.TB) string {
	t.Helper()
	return "sqlite:" + filepath.Join(t.TempDir(), "lab.db")
}

// OnEachDatabase runs a test on each kind of database, in an empty one.
func OnEachDatabase(t *testing.T, test func(t *testing.T, dsn string)) {
	t.Helper()
	for _, d := range Databases(t) {
		t.Run(d.Name, func(t *testing.T) { test(t, d.DSN(t)) })
	}
}

// OnEachLab runs a test on each kind of database, in one that has the tables of a
// lab, but no rows.
func OnEachLab(t *testing.T, test func(t *testing.T, db *store.DB)) {
	t.Helper()
	OnEachDatabase(t, func(t *testing.T, dsn string) { test(t, NewLab(t, dsn)) })
}

// OnEachLabInParallel is OnEachLab for tests that mostly wait: all such tests of a
// package run side by side. They must not look at what concerns the whole server.
func OnEachLabInParallel(t *testing.T, test func(t *testing.T, db *store.DB)) {
	t.Helper()
	t.Parallel()
	OnEachDatabase(t, func(t *testing.T, dsn string) {
		t.Parallel()
		test(t, NewLab(t, dsn))
	})
}

// Open opens a database until the test ends.
func Open(t testing.TB, dsn string) *store.DB {
	t.Helper()
	db, err := store.Open(context.Background(), sqldb.Config{DSN: dsn, TxTimeout: TxTimeout, Create: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// NewLab opens a database and gives it the tables of a lab.
func NewLab(t testing.TB, dsn string) *store.DB {
	t.Helper()
	db := Open(t, dsn)
	_, err := schema.Up(context.Background(), db.DB, schema.Options{})
	require.NoError(t, err)
	return db
}

// NewServerLab is a new lab on the server of this run, for tests of what SQLite
// does not have.
func NewServerLab(t testing.TB) *store.DB {
	t.Helper()
	return NewLab(t, testserver.Database(t))
}

// RemoveGuard lets hosts have several active entries, as they may have in a lab of
// Autotest's own.
func RemoveGuard(t testing.TB, db *store.DB) {
	t.Helper()
	require.NoError(t, schema.RemoveGuard(context.Background(), db.DB))
}

// Opened is a database, however a test has opened it.
type Opened interface{ SQL() *sql.DB }

// Exec changes a database as another client does, and returns how many rows it
// changed.
func Exec(t testing.TB, db Opened, query string, args ...any) int64 {
	t.Helper()
	res, err := db.SQL().ExecContext(context.Background(), query, args...)
	require.NoError(t, err, query)
	n, err := res.RowsAffected()
	require.NoError(t, err, query)
	return n
}

// Count is the number that a query returns.
func Count(t testing.TB, db Opened, query string, args ...any) int {
	t.Helper()
	var n int
	require.NoError(t, db.SQL().QueryRowContext(context.Background(), query, args...).Scan(&n), query)
	return n
}

// RequireOneLine makes sure that an error is one line, as people read it, and does
// not tell the password of the tests.
func RequireOneLine(t testing.TB, err error) {
	t.Helper()
	require.NotContains(t, err.Error(), "\n")
	require.NotContains(t, err.Error(), "sesame", "no password")
}

// AddPast gives every host of a lab so many special tasks that are over.
func AddPast(t testing.TB, db Opened, each int) {
	t.Helper()
	Exec(t, db, "CREATE TABLE numbers (n INT PRIMARY KEY)")
	Exec(t, db, "INSERT INTO numbers VALUES (0)")
	for n := 1; n < each; n *= 2 {
		Exec(t, db, "INSERT INTO numbers SELECT n + ? FROM numbers", n)
	}
	Exec(t, db, "INSERT INTO afe_special_tasks (host_id, task, requested_by_id, is_active, is_complete, success, is_aborted, time_requested)"+
		" SELECT h.id, 'Reset', (SELECT MIN(id) FROM afe_users), 0, 1, 1, 0, CURRENT_TIMESTAMP FROM afe_hosts h JOIN numbers n WHERE n.n < ?", each)
	Exec(t, db, "ANALYZE TABLE afe_special_tasks")
}

// RowsRead is how many rows the server of a lab reads meanwhile, for whomever.
func RowsRead(t testing.TB, db Opened, work func()) int {
	t.Helper()
	read := func() (sum int) {
		rows, err := db.SQL().Query("SHOW GLOBAL STATUS LIKE 'Handler_read%'")
		require.NoError(t, err)
		defer func() { require.NoError(t, rows.Close()) }()
		for rows.Next() {
			var name, value string
			require.NoError(t, rows.Scan(&name, &value))
			n, err := strconv.Atoi(value)
			require.NoError(t, err)
			sum += n
		}
		require.NoError(t, rows.Err())
		return sum
	}
	before := read()
	work()
	return read() - before
}
