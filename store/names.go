package store

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hostsched/hostsched/store/sqldb"
)

// maxNamed bounds the names of one statement: SQLite takes 500 queries in a UNION.
const maxNamed = 200

// RowsNamed finds the rows of a table by names that come from elsewhere, among those of a
// condition, which is empty or begins with AND. Which texts are the
// same name is the database's decision, by the collation of the column, as in the statements
// of other clients: it may tell capitals, accents and trailing blanks apart, or not. A join of
// two columns could not do that, because servers refuse to compare columns that differ in
// collation.
func RowsNamed(r *sqldb.Reader, table, column, where string, names []string) map[string]int64 {
	found := make(map[string]int64, len(names))
	one := fmt.Sprintf("MIN(id) FROM %s WHERE %s = ?%s", table, column, where)
	forEachName(r, one, 1, storable(r, table, column, names), func(name string, id int64) { found[name] = id })
	return found
}

// bytesCharset is what servers call the character set of a column of bytes.
const bytesCharset = "binary"

// storable leaves out the names that a column cannot contain, because its character set lacks
// what they consist of. A server fails when it should compare such a name with the column.
func storable(r *sqldb.Reader, table, column string, names []string) []string {
	if r.Dialect.Server == sqldb.ServerSQLite || len(names) == 0 {
		return names
	}
	charset := ""
	// The same in information_schema takes milliseconds, because the server reads the
	// definition of the table anew.
	r.Rows("SELECT CHARSET((SELECT "+column+" FROM "+table+" LIMIT 0))", func(v sqldb.Row) { charset = v.Text(0) })
	if charset == bytesCharset || charset == sqldb.AnyText {
		return names
	}
	fitting := make([]string, 0, len(names))
	back := "CONVERT(CONVERT(? USING " + charset + ") USING " + sqldb.AnyText + ") = CONVERT(? USING " + sqldb.AnyText + ") COLLATE " + sqldb.AnyText + "_bin"
	forEachName(r, back, 2, names, func(name string, same int64) {
		if same != 0 {
			fitting = append(fitting, name)
		}
	})
	return fitting
}

// forEachName asks for a number for each name: SELECT expression, in which the name stands in
// so many places. What is NULL is left out.
func forEachName(r *sqldb.Reader, expression string, places int, names []string, each func(name string, number int64)) {
	for chunk := range slices.Chunk(names, maxNamed) {
		queries := make([]string, len(chunk))
		var args []any
		for i, name := range chunk {
			queries[i] = fmt.Sprintf("SELECT %d, %s", i, expression)
			args = append(args, slices.Repeat([]any{name}, places)...)
		}
		r.RowsOf(strings.Join(queries, " UNION ALL "), args, func(v sqldb.Row) {
			if number := v.Int(1); number.Valid {
				each(chunk[v.Int(0).N], number.N)
			}
		})
	}
}
