package sqldb_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/store/sqldb"
)

// TestExecAll: statements that are sent together act as they would one by one, up to the
// first error, and only the connections of leaders take them.
func TestExecAll(t *testing.T) {
	db := storetest.NewServerLab(t)
	storetest.Exec(t, db, "CREATE TABLE several (id INT PRIMARY KEY, said VARCHAR(40) NOT NULL)")
	conn, err := db.Leaders.Conn(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	exec := func(args []any, statements ...string) ([]int64, error) {
		return sqldb.ExecAll(t.Context(), conn, statements, args)
	}

	odd := `it's; DROP TABLE several; -- \ " ?`
	affected, err := exec([]any{odd, int64(2), "two"},
		"INSERT INTO several VALUES (1, ?)",
		"INSERT INTO several VALUES (?, ?), (3, 'three')",
		"UPDATE several SET said = said WHERE id > 1",
		"DELETE FROM several WHERE id = 9")
	require.NoError(t, err)
	require.Equal(t, []int64{1, 2, 2, 0}, affected)
	require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM several WHERE id = 1 AND said = ?", odd))

	_, err = conn.ExecContext(t.Context(), "START TRANSACTION")
	require.NoError(t, err)
	_, err = exec(nil, "INSERT INTO several VALUES (4, 'four')", "INSERT INTO several VALUES (1, 'again')", "INSERT INTO several VALUES (5, 'five')")
	require.True(t, sqldb.IsDuplicate(err), err)
	_, err = conn.ExecContext(t.Context(), "COMMIT")
	require.NoError(t, err)
	require.Equal(t, 4, storetest.Count(t, db, "SELECT COUNT(*) FROM several"), "nothing after the error")

	_, err = db.Pool.ExecContext(t.Context(), "DELETE FROM several; DELETE FROM several")
	require.Error(t, err)
	err = db.Read(t.Context(), func(r *sqldb.Reader) { r.IDs("SELECT 1; SELECT 2", func(int64) {}) })
	require.Error(t, err)
	require.Equal(t, 4, storetest.Count(t, db, "SELECT COUNT(*) FROM several"))
}
