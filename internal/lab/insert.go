package lab

import (
	"context"
	"strings"

	"github.com/hostsched/hostsched/store/sqldb"
)

// Bounds of one INSERT: SQLite allows 32,766 parameters, and servers bound the size of a
// statement, some at a megabyte.
const (
	insertParams = 30_000
	insertBytes  = 512 << 10
)

// insert writes rows, many per statement. verb is INSERT INTO, or the dialect's that passes
// over rows that there are; tuple is the VALUES list of one row, with its parameters.
func insert(ctx context.Context, tx sqldb.Querier, verb, into, tuple string, rows [][]any) error {
	for len(rows) > 0 {
		n, size := 0, 0
		var args []any
		for n < len(rows) && (n == 0 || len(args)+len(rows[n]) <= insertParams && size+sizeOf(rows[n]) <= insertBytes) {
			size += sizeOf(rows[n])
			args = append(args, rows[n]...)
			n++
		}
		text := verb + " " + into + " VALUES " + strings.TrimSuffix(strings.Repeat(tuple+", ", n), ", ")
		if _, err := tx.ExecContext(ctx, text, args...); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// sizeOf is about how many bytes a row takes in a statement.
func sizeOf(row []any) int {
	size := 16 * len(row)
	for _, v := range row {
		switch v := v.(type) {
		case string:
			size += len(v)
		case []byte:
			size += len(v)
		}
	}
	return size
}
