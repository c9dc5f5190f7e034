package schema_test

import (
	"os"
	"sort"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

func TestMain(m *testing.M) {
	if dsn := os.Getenv(victimEnv); dsn != "" {
		os.Exit(migrateUntilKilled(dsn))
	}
	testserver.HostileDefaults()
	testserver.Main(m)
}

func onEveryServer(t *testing.T, test func(t *testing.T, db *sqldb.DB)) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) { test(t, db.DB) })
}

func open(t testing.TB, dsn string) *sqldb.DB {
	t.Helper()
	return storetest.Open(t, dsn).DB
}

func up(t testing.TB, db *sqldb.DB) schema.Status {
	t.Helper()
	st, err := schema.Up(t.Context(), db, schema.Options{})
	require.NoError(t, err)
	return st
}

func isSQLite(db *sqldb.DB) bool { return db.Dialect.Server == sqldb.ServerSQLite }

// requireClean: the database is as a single, undisturbed Up makes it.
func requireClean(t testing.TB, want string, db *sqldb.DB, hint ...any) {
	t.Helper()
	st, err := schema.ReadStatus(t.Context(), db)
	require.NoError(t, err, hint...)
	require.Equal(t, schema.LabOurs, st.Lab, hint...)
	require.True(t, st.Guard, hint...)
	require.EqualValues(t, schema.SchemaVersion, st.Schema, hint...)
	require.Equal(t, want, picture(t, db), hint...)
}

// clean is the picture of a database that a single, undisturbed Up made.
func clean(t testing.TB, dsn string) string {
	t.Helper()
	if strings.HasPrefix(dsn, "sqlite:") {
		dsn = storetest.SQLiteFile(t)
	} else {
		dsn = testserver.Database(t)
	}
	db := open(t, dsn)
	up(t, db)
	return picture(t, db)
}

// picture is all that Up makes.
func picture(t testing.TB, db *sqldb.DB) string {
	t.Helper()
	query := "SELECT CONCAT_WS(' ', TABLE_NAME, TABLE_COMMENT, CREATE_OPTIONS) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()"
	if isSQLite(db) {
		query = "SELECT type || ' ' || name || ' ' || COALESCE(sql, '') FROM sqlite_master"
	}
	return strings.Join(texts(t, db, query), "\n") + "\n" + columnsAndKeys(t, db)
}

// columnsAndKeys are what statements rely on, and the facts.
func columnsAndKeys(t testing.TB, db *sqldb.DB) string {
	t.Helper()
	queries := []string{
		"SELECT CONCAT_WS(' ', TABLE_NAME, ORDINAL_POSITION, COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, QUOTE(COLUMN_DEFAULT), COLLATION_NAME, COLUMN_KEY, EXTRA, GENERATION_EXPRESSION) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE()",
		"SELECT CONCAT_WS(' ', TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX, COLUMN_NAME, NON_UNIQUE, SUB_PART, INDEX_TYPE) FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE()",
		"SELECT CONCAT_WS(' ', TABLE_NAME, CONSTRAINT_NAME, COLUMN_NAME, REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME) FROM information_schema.KEY_COLUMN_USAGE WHERE TABLE_SCHEMA = DATABASE()",
		"SELECT CONCAT(name, ' is ', value) FROM hostsched_facts",
	}
	if isSQLite(db) {
		queries = []string{
			"SELECT m.name || ' ' || c.cid || ' ' || c.name || ' ' || c.type || ' ' || c.'notnull' || ' ' || COALESCE(c.dflt_value, 'NULL') || ' ' || c.pk FROM sqlite_master m, pragma_table_xinfo(m.name) c WHERE m.type = 'table'",
			"SELECT m.name || ' ' || i.name || ' ' || i.'unique' || ' ' || i.partial FROM sqlite_master m, pragma_index_list(m.name) i WHERE m.type = 'table'",
			"SELECT name || ' is ' || value FROM hostsched_facts",
		}
	}
	var lines []string
	for _, query := range queries {
		lines = append(lines, texts(t, db, query)...)
	}
	return strings.Join(lines, "\n")
}

func texts(t testing.TB, db *sqldb.DB, query string) []string {
	t.Helper()
	var lines []string
	require.NoError(t, sqldb.EachRow(t.Context(), db.Pool, query, nil, func(scan sqldb.Scanner) error {
		var line string
		err := scan(&line)
		lines = append(lines, line)
		return err
	}), query)
	sort.Strings(lines)
	return lines
}

// requireEmpty: no table of anybody is left.
func requireEmpty(t testing.TB, db *sqldb.DB, hint ...any) {
	t.Helper()
	require.Empty(t, tableNames(t, db), hint...)
}

func tableNames(t testing.TB, db *sqldb.DB) []string {
	t.Helper()
	query := "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()"
	if isSQLite(db) {
		query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
	}
	return texts(t, db, query)
}
