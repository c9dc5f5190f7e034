package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"time"
)

// row is a row as the driver delivers it. It is valid until the next one: what
// is kept must be copied. A snapshot reads hundreds of thousands of values, and
// database/sql would convert every one of them on the way.
type row []driver.Value

// int decodes an integer column.
func (r row) int(i int) integer {
	var v integer
	v.decode(r[i])
	return v
}

// text decodes a column of text; NULL is empty.
func (r row) text(i int) string {
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

// same tells whether a column of text has not changed, without copying it.
func (r row) same(i int, have string) bool {
	if b, ok := r[i].([]byte); ok {
		return string(b) == have
	}
	return r.text(i) == have
}

// interned is text that many rows have in common, kept once.
type interned map[string]string

func (in interned) text(r row, i int) string {
	b, ok := r[i].([]byte)
	if !ok {
		return r.text(i)
	}
	s, known := in[string(b)]
	if !known {
		s = string(b)
		in[s] = s
	}
	return s
}

// rows runs a query in the reader's transaction and passes on every row.
func (r *reader) rows(query string, each func(row)) { r.rowsOf(query, nil, each) }

// rowsOf is rows for a query with arguments.
func (r *reader) rowsOf(query string, args []any, each func(row)) {
	if r.err != nil {
		return
	}
	named := make([]driver.NamedValue, len(args))
	for i, arg := range args {
		named[i] = driver.NamedValue{Ordinal: i + 1, Value: arg}
	}
	r.err = r.conn.Raw(func(conn any) error { return driverRows(r.ctx, conn, query, named, each) })
}

func driverRows(ctx context.Context, conn any, query string, args []driver.NamedValue, each func(row)) (err error) {
	queryer, ok := conn.(driver.QueryerContext)
	if !ok {
		return fmt.Errorf("the database driver %T cannot run a query in one step", conn)
	}
	rows, err := queryer.QueryContext(ctx, query, args)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	values := make(row, len(rows.Columns()))
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

// ids runs a query for one integer column.
func (r *reader) ids(query string, each func(id int64)) {
	r.rows(query, func(v row) {
		if id := v.int(0); id.valid {
			each(id.n)
		}
	})
}

// pairs runs a query for two integer columns, and passes on those that are.
func (r *reader) pairs(query string, each func(from, to int64)) {
	r.rows(query, func(v row) {
		if from, to := v.int(0), v.int(1); from.valid && to.valid {
			each(from.n, to.n)
		}
	})
}

// reader runs queries of one read-only transaction until the first error.
type reader struct {
	ctx     context.Context
	conn    *sql.Conn
	dialect dialect
	err     error
}

// read runs queries that all see the same state.
func (db *base) read(ctx context.Context, queries func(*reader)) (err error) {
	conn, err := db.reads.Conn(ctx)
	if err != nil {
		return err
	}
	end, err := db.beginReading(ctx, conn)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	r := &reader{ctx: ctx, conn: conn, dialect: db.dialect}
	queries(r)
	if err = end(); err != nil {
		err = errors.Join(err, dropConn(conn))
	} else {
		err = conn.Close()
	}
	if r.err != nil {
		return r.err // the rest only follows from it
	}
	return err
}

// beginReading begins a read-only transaction. Reading connections to MySQL and
// MariaDB begin one by themselves.
func (db *base) beginReading(ctx context.Context, conn *sql.Conn) (end func() error, err error) {
	if db.dialect.server != serverSQLite {
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

// dropConn ends a connection whose state must not leak into its pool.
func dropConn(conn *sql.Conn) error {
	err := conn.Raw(func(any) error { return driver.ErrBadConn })
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) {
		err = nil
	}
	if cerr := conn.Close(); cerr != nil && !errors.Is(cerr, sql.ErrConnDone) {
		err = errors.Join(err, cerr)
	}
	return err
}

// dbtx runs statements: a database, a connection or a transaction.
type dbtx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

type scanner func(dest ...any) error

// eachRow runs a query with arguments, for the few rows that no snapshot reads.
func eachRow(ctx context.Context, q dbtx, query string, args []any, each func(scanner) error) (err error) {
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

// eachID runs a query for one column of ids.
func eachID(ctx context.Context, q dbtx, query string, each func(id int64)) error {
	return eachRow(ctx, q, query, nil, func(scan scanner) error {
		var id int64
		err := scan(&id)
		each(id)
		return err
	})
}

// rollbackUnless rolls a transaction back if err is set. A transaction that is
// already over is no error.
func rollbackUnless(tx *sql.Tx, err error) error {
	if err == nil {
		return nil
	}
	if rerr := tx.Rollback(); rerr != nil && !errors.Is(rerr, sql.ErrTxDone) && !isConnection(rerr) {
		return errors.Join(err, fmt.Errorf("roll back: %w", rerr))
	}
	return err
}
