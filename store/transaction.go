package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// dbtx runs statements in a transaction.
type dbtx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// transaction is a leader's. On MySQL and MariaDB it needs no statement to
// begin: the leader's connection does not commit by itself, so the update of
// the fence begins the transaction. In a large plan that is one statement less
// for every chunk.
type transaction struct {
	dbtx
	tx   *sql.Tx   // nil on MySQL and MariaDB
	conn *sql.Conn // nil on SQLite
}

// beginByItself makes the leader's connection begin transactions by itself, and
// commit none.
func (l *Leader) beginByItself(ctx context.Context) error {
	if l.db.dialect.server == serverSQLite {
		return nil
	}
	_, err := l.conn.ExecContext(ctx, "SET SESSION autocommit = 0")
	l.manual = err == nil
	return err
}

// begin begins a transaction on the leader's connection.
func (l *Leader) begin(ctx context.Context) (transaction, error) {
	if l.manual {
		return transaction{dbtx: l.conn, conn: l.conn}, nil
	}
	tx, err := l.conn.BeginTx(ctx, nil)
	return transaction{dbtx: tx, tx: tx}, err
}

func (t transaction) commit(ctx context.Context) error {
	if t.tx != nil {
		return t.tx.Commit()
	}
	_, err := t.conn.ExecContext(ctx, "COMMIT")
	return err
}

// rollBackTimeout bounds a rollback whose transaction has run out of time. The
// server rolls back by itself when the connection ends.
const rollBackTimeout = time.Second

// rollBack undoes everything because of err, and returns that.
func (t transaction) rollBack(ctx context.Context, err error) error {
	if t.tx != nil {
		return rollbackUnless(t.tx, err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollBackTimeout)
	defer cancel()
	if _, rerr := t.conn.ExecContext(ctx, "ROLLBACK"); rerr != nil && !errors.Is(rerr, sql.ErrConnDone) && !isConnection(rerr) {
		return errors.Join(err, fmt.Errorf("roll back: %w", rerr))
	}
	return err
}
