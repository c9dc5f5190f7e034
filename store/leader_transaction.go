package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/hostsched/hostsched/store/sqldb"
)

// transaction is a writer's. On MySQL and MariaDB it needs no statement to
// begin: the writer's connection does not commit by itself, so the update of
// the fence begins the transaction. In a large plan that is one statement less
// for every chunk.
type transaction struct {
	sqldb.Querier
	tx   *sql.Tx   // nil on MySQL and MariaDB
	conn *sql.Conn // nil on SQLite
}

// beginByItself makes the writer's connection begin transactions by itself, and
// commit none.
func (w *writer) beginByItself(ctx context.Context) error {
	if w.l.db.Dialect.Server == sqldb.ServerSQLite {
		return nil
	}
	_, err := w.conn.ExecContext(ctx, "SET SESSION autocommit = 0")
	w.manual = err == nil
	return err
}

// begin begins a transaction on the writer's connection.
func (w *writer) begin(ctx context.Context) (transaction, error) {
	if w.manual {
		return transaction{Querier: w.conn, conn: w.conn}, nil
	}
	tx, err := w.conn.BeginTx(ctx, nil)
	return transaction{Querier: tx, tx: tx}, err
}

func (t transaction) commit(ctx context.Context) error {
	if t.tx != nil {
		return t.tx.Commit()
	}
	_, err := t.conn.ExecContext(ctx, "COMMIT")
	return err
}

// rollBack undoes everything because of err, and returns that.
func (t transaction) rollBack(ctx context.Context, err error) error {
	if t.tx != nil {
		return sqldb.RollbackUnless(t.tx, err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sqldb.RollBackTimeout)
	defer cancel()
	if _, rerr := t.conn.ExecContext(ctx, "ROLLBACK"); rerr != nil && !errors.Is(rerr, sql.ErrConnDone) && !sqldb.IsConnection(rerr) {
		return errors.Join(err, fmt.Errorf("roll back: %w", rerr))
	}
	return err
}
