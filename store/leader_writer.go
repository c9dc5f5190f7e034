package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"os"

	"github.com/hostsched/hostsched/store/sqldb"
)

// writer is a connection over which a leader writes. It has a row of the fence to
// itself, in which it registers so that a successor can disconnect it, and which
// its transactions check. Several writers write a plan at the same time.
// They do not wait for each other's fence row, but a takeover, which changes the
// rows of all writers, waits for every one of them.
type writer struct {
	l   *Leader
	num int

	conn        *sql.Conn
	sessionID   int64
	sessionPeer string
	writes      int64
	// last is the id of the last write that was committed. doubtful is that of a later
	// one of which nobody knows whether it was; empty if there is none.
	last, doubtful string
	// manual is true once the connection begins transactions by itself, see
	// leader_transaction.go.
	manual bool
	// tried is true if the connection was tried earlier in the same Apply, so that
	// it need not be tried again before it is used.
	tried bool
}

func (w *writer) disconnect() error {
	if w.conn == nil {
		return nil
	}
	conn := w.conn
	w.conn, w.tried, w.manual = nil, false, false
	return sqldb.DropConn(conn) // with its settings
}

// connection returns the writer's connection, opening and registering a new one
// if the last was lost.
func (w *writer) connection(ctx context.Context) (*sql.Conn, error) {
	if w.conn != nil {
		if w.tried || w.conn.PingContext(ctx) == nil {
			w.tried = w.l.basis != nil
			return w.conn, nil
		}
		if err := w.disconnect(); err != nil {
			return nil, err
		}
	}
	conn, err := w.l.db.Pool.Conn(ctx)
	if err != nil {
		return nil, err
	}
	w.conn = conn
	if err := w.identify(ctx); err != nil {
		return nil, errors.Join(err, w.disconnect())
	}
	if w.l.fence.Epoch == 0 {
		return conn, nil // not taken over yet: TakeOver registers
	}
	if err := errors.Join(w.register(ctx), w.beginByItself(ctx)); err != nil {
		return nil, errors.Join(err, w.disconnect())
	}
	return conn, nil
}

// identify prepares the session and finds out by what it can be recognised.
func (w *writer) identify(ctx context.Context) error {
	if w.l.db.Dialect.Server == sqldb.ServerSQLite {
		w.sessionID = int64(os.Getpid())
		w.sessionPeer = processStart(os.Getpid())
		return nil
	}
	// A user with special rights could write to a standby.
	if err := w.l.db.CheckWrites(ctx, w.conn); err != nil {
		return err
	}
	// If this process is paused inside a transaction, the server ends the
	// session after about one TTL, even if the successor may not end it.
	idle := int(math.Ceil(w.l.db.Config.TxTimeout.Seconds()))
	for _, text := range []string{
		fmt.Sprintf("SET SESSION wait_timeout = %d, innodb_lock_wait_timeout = %d", max(1, idle), int(sqldb.LockWait.Seconds())),
		"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
	} {
		if _, err := w.conn.ExecContext(ctx, text); err != nil {
			return err
		}
	}
	return w.conn.QueryRowContext(ctx, "SELECT ID, HOST FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()").Scan(&w.sessionID, &w.sessionPeer)
}

// register writes the connection's identity into the writer's row, in a
// transaction of its own: the successor must be able to read it while the
// connection is inside another.
func (w *writer) register(ctx context.Context) error {
	res, err := w.conn.ExecContext(ctx, "UPDATE hostsched_fence SET session_id = ?, session_peer = ? WHERE shard = ? AND lane = ? AND epoch = ? AND holder = ?",
		w.sessionID, w.sessionPeer, w.l.fence.Shard.String(), w.num, w.l.fence.Epoch, w.l.fence.Holder)
	if err != nil {
		return err
	}
	if w.manual {
		if _, err := w.conn.ExecContext(ctx, "COMMIT"); err != nil {
			return err
		}
	}
	return w.refused(ctx, w.conn, w.l.oneFence(res))
}

// refused says why an update of the writer's row found none, if it did not.
func (w *writer) refused(ctx context.Context, q sqldb.Querier, err error) error {
	if !errors.Is(err, ErrFenced) {
		return err
	}
	r, rerr := w.readRow(ctx, q, "")
	if rerr != nil {
		return rerr
	}
	if jerr := w.judge(r); jerr != nil {
		return jerr
	}
	if w.l.basis != nil {
		return fmt.Errorf("%w: shard %s", ErrLayout, w.l.fence.Shard)
	}
	return err
}

// write runs one fenced transaction. It either happened as a whole or, with an
// error, not at all; a lost answer to COMMIT is looked up.
func (w *writer) write(ctx context.Context, what string, work func(context.Context, sqldb.Querier) error) error {
	ctx, cancel := context.WithTimeout(ctx, w.l.db.Config.TxTimeout)
	defer cancel()
	if _, err := w.connection(ctx); err != nil {
		return w.explain(err, what)
	}
	defer w.dropAfterPanic()
	w.writes++
	id := fmt.Sprintf("%d.%d", w.l.fence.Epoch, w.writes)
	tx, err := w.begin(ctx)
	if err != nil {
		return w.explain(err, what)
	}
	if err := w.inTx(ctx, tx, id, work); err != nil {
		return w.explain(tx.rollBack(ctx, err), what)
	}
	w.doubtful = id
	err = tx.commit(ctx)
	if err == nil && w.l.db.fail.afterCommit != nil {
		err = w.l.db.fail.afterCommit()
	}
	if err != nil {
		err = w.resolve(context.WithoutCancel(ctx), id, err)
	}
	if err == nil {
		w.last, w.doubtful = id, ""
	}
	return w.explain(err, what)
}

// dropAfterPanic drops the connection of a transaction that panicked, so that the server rolls it
// back and the next one does not go on in it, and goes on with the panic.
func (w *writer) dropAfterPanic() {
	if p := recover(); p != nil {
		_ = w.disconnect() // what it was dropped for is worse
		panic(p)
	}
}

func (w *writer) inTx(ctx context.Context, tx sqldb.Querier, id string, work func(context.Context, sqldb.Querier) error) error {
	if err := w.checkFence(ctx, tx, id); err != nil {
		return err
	}
	if w.l.db.fail.inTx != nil {
		if err := w.l.db.fail.inTx(ctx); err != nil {
			return err
		}
	}
	return work(ctx, tx)
}

// settle finds out which of the last two writes was committed, if that is not known.
// Reading the row for update waits for a COMMIT that is still under way.
func (w *writer) settle(ctx context.Context, tx sqldb.Querier) error {
	if w.doubtful == "" {
		return nil
	}
	r, err := w.readRow(ctx, tx, w.l.db.Dialect.ForUpdate)
	if err == nil {
		err = w.judge(r)
	}
	if err != nil {
		return err
	}
	w.last, w.doubtful = r.lastWrite, ""
	return nil
}

// checkFence locks the fence row of the writer for this transaction, if the term is
// still the latest and the layout is the one the plan was made on.
func (w *writer) checkFence(ctx context.Context, tx sqldb.Querier, id string) error {
	if err := w.settle(ctx, tx); err != nil {
		return err
	}
	query := "UPDATE hostsched_fence SET ticks = ticks + 1, last_write = ? WHERE shard = ? AND lane = ? AND epoch = ? AND holder = ? AND last_write = ?"
	args := []any{id, w.l.fence.Shard.String(), w.num, w.l.fence.Epoch, w.l.fence.Holder, w.last}
	if w.l.basis != nil {
		query += " AND layout = ?"
		args = append(args, w.l.basis.Layout)
	}
	res, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return err
	}
	return w.refused(ctx, tx, w.l.oneFence(res))
}

// resolve finds out what became of a transaction whose COMMIT was not answered.
// Reading the row for update waits until the server has ended the transaction
// one way or the other.
func (w *writer) resolve(ctx context.Context, id string, commitErr error) error {
	ctx, cancel := context.WithTimeout(ctx, w.l.db.Config.TxTimeout)
	defer cancel()
	if err := w.disconnect(); err != nil {
		return errors.Join(commitErr, err)
	}
	tx, err := w.l.db.Pool.BeginTx(ctx, nil)
	if err != nil {
		return errors.Join(commitErr, err)
	}
	r, err := w.readRow(ctx, tx, w.l.db.Dialect.ForUpdate)
	if rerr := tx.Rollback(); rerr != nil {
		err = errors.Join(err, rerr)
	}
	switch {
	case err != nil:
		return errors.Join(commitErr, err)
	case r.epoch > w.l.fence.Epoch:
		return fmt.Errorf("%w: shard %s was taken over before the commit was answered", ErrFenced, w.l.fence.Shard)
	}
	if err := w.judge(r); err != nil {
		return err
	}
	if r.lastWrite == id {
		return nil // it did happen
	}
	w.doubtful = ""
	return fmt.Errorf("commit did not happen: %w", commitErr)
}

func (w *writer) explain(err error, what string) error {
	if err != nil {
		w.tried = false // because whatever failed may be the connection
	}
	if err == nil || errors.Is(err, ErrFenced) || errors.Is(err, ErrLayout) || errors.Is(err, ErrWentBack) {
		return err
	}
	return sqldb.Explain(err, what, w.l.db.Target())
}
