package schema

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hostsched/hostsched/store/sqldb"
)

// copyColumn is a column that is copied, and its type in small letters.
type copyColumn struct{ name, kind string }

func (c copyColumn) isTime() bool {
	return c.kind == "datetime" || c.kind == "timestamp"
}

// quoted is for names that are words of SQL, too; both kinds of server take it.
func (c copyColumn) quoted() string { return "`" + c.name + "`" }

// read selects a column. Times of the lab are in the zone of their server, and travel as
// UTC.
func (c copyColumn) read(d sqldb.Dialect) string {
	switch {
	case !c.isTime():
		return c.quoted()
	case d.Server == sqldb.ServerSQLite:
		return "COALESCE(strftime('%Y-%m-%d %H:%M:%S', " + c.quoted() + "), " + c.quoted() + " || '')"
	}
	return "CONVERT_TZ(" + c.quoted() + ", @@session.time_zone, '+00:00')"
}

func (c copyColumn) write(d sqldb.Dialect) string {
	if c.isTime() && d.Server != sqldb.ServerSQLite {
		return "CONVERT_TZ(?, '+00:00', @@session.time_zone)"
	}
	return "?"
}

// columns are those of a table that can be written.
func columns(ctx context.Context, db *sqldb.DB, table string) (out []copyColumn, err error) {
	query := "SELECT COLUMN_NAME, LOWER(DATA_TYPE) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? AND COALESCE(GENERATION_EXPRESSION, '') = '' ORDER BY ORDINAL_POSITION"
	if db.Dialect.Server == sqldb.ServerSQLite {
		query = "SELECT name, LOWER(type) FROM pragma_table_xinfo(?) WHERE hidden = 0 ORDER BY cid"
	}
	err = sqldb.EachRow(ctx, db.Pool, query, []any{table}, func(scan sqldb.Scanner) error {
		var c copyColumn
		err := scan(&c.name, &c.kind)
		out = append(out, c)
		return err
	})
	return out, sqldb.Explain(err, "ask for the columns of table "+table, db.Target())
}

// sameColumns returns the columns of a table, which both databases must have.
func (c *copier) sameColumns(ctx context.Context, table string) ([]copyColumn, error) {
	have, err := columns(ctx, c.from, table)
	if err != nil {
		return nil, err
	}
	want, err := columns(ctx, c.to, table)
	if err != nil {
		return nil, err
	}
	names := func(all []copyColumn) (out []string) {
		for _, x := range all {
			out = append(out, x.name)
		}
		slices.Sort(out)
		return out
	}
	if !slices.Equal(names(have), names(want)) {
		return nil, fmt.Errorf("%w: table %s has the columns %v in %s and %v in %s", sqldb.ErrSchema, table, names(have), c.from.Target(), names(want), c.to.Target())
	}
	return have, nil
}

// table copies a table and compares the numbers of rows.
func (c *copier) table(ctx context.Context, table string) (rows int64, err error) {
	all, err := c.sameColumns(ctx, table)
	if err != nil {
		return 0, err
	}
	if rows, err = c.rows(ctx, table, all); err != nil {
		return rows, err
	}
	if err := c.keepNextID(ctx, table); err != nil {
		return rows, err
	}
	var have, copied int64
	count := "SELECT COUNT(*) FROM " + copiedRows(table)
	err = errors.Join(c.source.QueryRowContext(ctx, count).Scan(&have), c.pool.QueryRowContext(ctx, count).Scan(&copied))
	if err != nil {
		return rows, sqldb.Explain(err, "count the rows of table "+table, c.to.Target())
	}
	if have != rows || have != copied {
		return rows, fmt.Errorf("table %s has %d rows in %s, %d were read, and %s has %d; does somebody else write there?", table, have, c.from.Target(), rows, c.to.Target(), copied)
	}
	return rows, nil
}

// copiedRows names the rows of a table that are copied: all, but for the fences of writers,
// of which databases of different kinds have different numbers. A leader makes them anew.
func copiedRows(table string) string {
	if table == "hostsched_fence" {
		return table + " WHERE lane = 0"
	}
	return table
}

// rows reads all rows of a table and writes them in batches.
func (c *copier) rows(ctx context.Context, table string, all []copyColumn) (rows int64, err error) {
	b := newBatch(c, table, all)
	var reads []string
	for _, x := range all {
		reads = append(reads, x.read(c.from.Dialect))
	}
	query := "SELECT " + strings.Join(reads, ", ") + " FROM " + copiedRows(table)
	err = sqldb.EachRow(ctx, c.source, query, nil, func(scan sqldb.Scanner) error {
		rows++
		return b.add(ctx, scan)
	})
	if err != nil {
		return rows, sqldb.Explain(err, "copy table "+table, c.from.Target())
	}
	return rows, b.flush(ctx)
}

// batch collects rows for one INSERT.
type batch struct {
	c       *copier
	table   string
	columns []copyColumn
	// head begins the statement, row is the part for one row.
	head, row   string
	args        []any
	most, rows  int
	bytes       int
	copiedSoFar int64
}

func newBatch(c *copier, table string, all []copyColumn) *batch {
	var names, writes []string
	for _, x := range all {
		names, writes = append(names, x.quoted()), append(writes, x.write(c.to.Dialect))
	}
	return &batch{
		c: c, table: table, columns: all, most: min(copyRows, copyParams/len(all)),
		head: "INSERT INTO " + table + " (" + strings.Join(names, ", ") + ") VALUES ", row: "(" + strings.Join(writes, ", ") + ")",
	}
}

// add takes a row. All values travel as texts, which the columns of both kinds of server
// take for what they are; no column has bytes that are none.
func (b *batch) add(ctx context.Context, scan sqldb.Scanner) error {
	values := make([]sql.NullString, len(b.columns))
	targets := make([]any, len(values))
	for i := range values {
		targets[i] = &values[i]
	}
	if err := scan(targets...); err != nil {
		return err
	}
	for i, v := range values {
		b.bytes += len(v.String)
		b.args = append(b.args, b.columns[i].value(v))
	}
	b.rows++
	if b.rows < b.most && b.bytes < copyBytes {
		return nil
	}
	return b.flush(ctx)
}

// value is what a column gets. SQLite has no truth values, but its driver makes some of
// columns that are declared so.
func (c copyColumn) value(v sql.NullString) any {
	if !v.Valid {
		return nil
	}
	number := strings.Contains(c.kind, "int") || strings.Contains(c.kind, "bool")
	switch {
	case number && v.String == "true":
		return "1"
	case number && v.String == "false":
		return "0"
	}
	return v.String
}

func (b *batch) flush(ctx context.Context) error {
	if b.rows == 0 {
		return nil
	}
	text := b.head + strings.TrimSuffix(strings.Repeat(b.row+", ", b.rows), ", ")
	if _, err := b.c.pool.ExecContext(ctx, text, b.args...); err != nil {
		return sqldb.Explain(err, "write table "+b.table, b.c.to.Target())
	}
	b.copiedSoFar += int64(b.rows)
	b.args, b.rows, b.bytes = b.args[:0], 0, 0
	if b.c.opts.Progress != nil {
		b.c.opts.Progress(b.table, b.copiedSoFar)
	}
	return nil
}

// keepNextID makes the target continue with the ids of a table where the source would: an
// id whose row was deleted must not come again, because people have it in their notes.
func (c *copier) keepNextID(ctx context.Context, table string) error {
	query := "SELECT AUTO_INCREMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?"
	if c.from.Dialect.Server == sqldb.ServerSQLite {
		query = "SELECT seq + 1 FROM sqlite_sequence WHERE name = ?"
	}
	var next sql.NullInt64
	err := c.source.QueryRowContext(ctx, query, table).Scan(&next)
	if errors.Is(err, sql.ErrNoRows) || err == nil && !next.Valid {
		return nil
	}
	if err != nil {
		return sqldb.Explain(err, "ask for the next id of table "+table, c.from.Target())
	}
	if c.to.Dialect.Server != sqldb.ServerSQLite {
		_, err = c.pool.ExecContext(ctx, fmt.Sprintf("ALTER TABLE %s AUTO_INCREMENT = %d", table, next.Int64))
		return sqldb.Explain(err, "set the next id of table "+table, c.to.Target())
	}
	_, err = c.pool.ExecContext(ctx, "DELETE FROM sqlite_sequence WHERE name = ?", table)
	if err == nil {
		_, err = c.pool.ExecContext(ctx, "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", table, next.Int64-1)
	}
	return sqldb.Explain(err, "set the next id of table "+table, c.to.Target())
}
