package storetest

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// BackUp reads a database at one moment, as dump programs do. restore puts all tables back
// while others use them, each for itself and in the order of their names, as a dump does
// that is played.
func BackUp(t testing.TB, db Opened) (restore func()) {
	t.Helper()
	tx, err := db.SQL().BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	require.NoError(t, err)
	var statements []backedUp
	for _, table := range column(t, tx, "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE = 'BASE TABLE' ORDER BY TABLE_NAME") {
		var name, create string
		require.NoError(t, tx.QueryRow("SHOW CREATE TABLE "+table).Scan(&name, &create))
		statements = append(statements, backedUp{text: "DROP TABLE IF EXISTS " + table}, backedUp{text: create}, backedUp{text: "LOCK TABLES " + table + " WRITE"})
		statements = append(statements, rowsOf(t, tx, table)...)
		statements = append(statements, backedUp{text: "UNLOCK TABLES"})
	}
	require.NoError(t, tx.Rollback())
	return func() {
		t.Helper()
		conn, err := db.SQL().Conn(t.Context())
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close()) }()
		for _, s := range append([]backedUp{{text: "SET foreign_key_checks = 0"}}, append(statements, backedUp{text: "SET foreign_key_checks = 1"})...) {
			_, err := conn.ExecContext(t.Context(), s.text, s.args...)
			require.NoError(t, err, s.text)
		}
	}
}

// backedUp is a statement that restores something.
type backedUp struct {
	text string
	args []any
}

func column(t testing.TB, tx *sql.Tx, query string) (out []string) {
	t.Helper()
	rows, err := tx.Query(query)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	for rows.Next() {
		var v string
		require.NoError(t, rows.Scan(&v))
		out = append(out, v)
	}
	require.NoError(t, rows.Err())
	return out
}

// rowsOf returns a statement for each row of a table.
func rowsOf(t testing.TB, tx *sql.Tx, table string) (out []backedUp) {
	t.Helper()
	rows, err := tx.Query("SELECT * FROM " + table)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	columns, err := rows.Columns()
	require.NoError(t, err)
	insert := fmt.Sprintf("INSERT INTO %s (`%s`) VALUES (?%s)", table, strings.Join(columns, "`, `"), strings.Repeat(", ?", len(columns)-1))
	for rows.Next() {
		values := make([]sql.NullString, len(columns))
		args, fields := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			fields[i] = &values[i]
		}
		require.NoError(t, rows.Scan(fields...))
		for i, v := range values {
			args[i] = v
		}
		out = append(out, backedUp{insert, args})
	}
	require.NoError(t, rows.Err())
	return out
}
