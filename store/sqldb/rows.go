package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"time"
)

// Row is a row as the driver delivers it. It is valid until the next one: what
// is kept must be copied. A snapshot reads hundreds of thousands of values, and
// database/sql would convert every one of them on the way.
type Row []driver.Value

// Int decodes an integer column.
func (r Row) Int(i int) Integer {
	var v Integer
	v.decode(r[i])
	return v
}

// Text decodes a column of text; NULL is empty.
func (r Row) Text(i int) string {
	switch s := r[i].(type) {
	case nil:
		return ""
	case string:
		return s
	case []byte:
		return string(s)
	case time.Time:
		return s.Format(time.DateTime)
	}
	return fmt.Sprint(r[i])
}

// Same tells whether a column of text has not changed, without copying it.
func (r Row) Same(i int, have string) bool {
	if b, ok := r[i].([]byte); ok {
		return string(b) == have
	}
	return r.Text(i) == have
}

// Interned is text that many rows have in common, kept once.
type Interned map[string]string

// Text decodes a column of text, of which the same is kept once.
func (in Interned) Text(r Row, i int) string {
	b, ok := r[i].([]byte)
	if !ok {
		return r.Text(i)
	}
	s, known := in[string(b)]
	if !known {
		s = string(b)
		in[s] = s
	}
	return s
}

// Rows runs a query in the reader's transaction and passes on every row.
func (r *Reader) Rows(query string, each func(Row)) { r.RowsOf(query, nil, each) }

// RowsOf is rows for a query with arguments.
func (r *Reader) RowsOf(query string, args []any, each func(Row)) {
	if r.Err != nil {
		return
	}
	named := make([]driver.NamedValue, len(args))
	for i, arg := range args {
		named[i] = driver.NamedValue{Ordinal: i + 1, Value: arg}
	}
	r.Err = r.conn.Raw(func(conn any) error { return driverRows(r.ctx, conn, query, named, each) })
}

func driverRows(ctx context.Context, conn any, query string, args []driver.NamedValue, each func(Row)) (err error) {
	queryer, ok := conn.(driver.QueryerContext)
	if !ok {
		return fmt.Errorf("the database driver %T cannot run a query in one step", conn)
	}
	rows, err := queryer.QueryContext(ctx, query, args)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	values := make(Row, len(rows.Columns()))
	for {
		err := rows.Next(values)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		each(values)
	}
}

// IDs runs a query for one integer column.
func (r *Reader) IDs(query string, each func(id int64)) {
	r.Rows(query, func(v Row) {
		if id := v.Int(0); id.Valid {
			each(id.N)
		}
	})
}

// Pairs runs a query for two integer columns, and passes on those that are.
func (r *Reader) Pairs(query string, each func(from, to int64)) {
	r.Rows(query, func(v Row) {
		if from, to := v.Int(0), v.Int(1); from.Valid && to.Valid {
			each(from.N, to.N)
		}
	})
}

// Reader runs queries of one read-only transaction until the first error.
type Reader struct {
	ctx     context.Context
	conn    *sql.Conn
	Dialect Dialect
	Err     error
}

// Read runs queries that all see the same state.
func (db *DB) Read(ctx context.Context, queries func(*Reader)) (err error) {
	conn, err := db.reads.Conn(ctx)
	if err != nil {
		return err
	}
	end, err := db.beginReading(ctx, conn)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	r := &Reader{ctx: ctx, conn: conn, Dialect: db.Dialect}
	returned := false
	defer func() {
		if !returned { // a panic, which is not ours to stop
			_, _ = end(), DropConn(conn)
		}
	}()
	queries(r)
	returned = true
	if err = end(); err != nil {
		err = errors.Join(err, DropConn(conn))
	} else {
		err = conn.Close()
	}
	if r.Err != nil {
		return r.Err // the rest only follows from it
	}
	return err
}

// beginReading begins a read-only transaction. Reading connections to MySQL and
// MariaDB begin one by themselves.
func (db *DB) beginReading(ctx context.Context, conn *sql.Conn) (end func() error, err error) {
	if db.Dialect.Server != ServerSQLite {
		return func() error {
			_, err := conn.ExecContext(ctx, "ROLLBACK")
			return err
		}, nil
	}
	tx, err := conn.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	return func() error {
		if err := tx.Rollback(); !errors.Is(err, sql.ErrTxDone) {
			return err
		}
		return nil // ended with the context
	}, nil
}

// DropConn ends a connection whose state must not leak into its pool.
func DropConn(conn *sql.Conn) error {
	err := conn.Raw(func(any) error { return driver.ErrBadConn })
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) {
		err = nil
	}
	if cerr := conn.Close(); cerr != nil && !errors.Is(cerr, sql.ErrConnDone) {
		err = errors.Join(err, cerr)
	}
	return err
}

// Querier runs statements: a database, a connection or a transaction.
type Querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

type Scanner func(dest ...any) error

// EachRow runs a query with arguments, for the few rows that no snapshot reads.
func EachRow(ctx context.Context, q Querier, query string, args []any, each func(Scanner) error) (err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// EachID runs a query for one column of ids.
func EachID(ctx context.Context, q Querier, query string, each func(id int64)) error {
	return EachRow(ctx, q, query, nil, func(scan Scanner) error {
		var id int64
		err := scan(&id)
		each(id)
		return err
	})
}

// SelectIDs runs a query with arguments for one column of ids.
func SelectIDs(ctx context.Context, q Querier, query string, args ...any) (ids []int64, err error) {
	err = EachRow(ctx, q, query, args, func(scan Scanner) error {
		var id int64
		err := scan(&id)
		ids = append(ids, id)
		return err
	})
	return ids, err
}

// EndedBy is why a transaction was rolled back that its context has ended, of which
// database/sql only says that it is over. Nothing of it was written.
func EndedBy(ctx context.Context, err error) error {
	if errors.Is(err, sql.ErrTxDone) && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// RollbackUnless rolls a transaction back if err is set. A transaction that is
// already over is no error.
func RollbackUnless(tx *sql.Tx, err error) error {
	if err == nil {
		return nil
	}
	if rerr := tx.Rollback(); rerr != nil && !errors.Is(rerr, sql.ErrTxDone) && !IsConnection(rerr) {
		return errors.Join(err, fmt.Errorf("roll back: %w", rerr))
	}
	return err
}
