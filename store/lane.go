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

// lane is a connection by which a leader writes. It registers itself in the
// fence row of the lane, so that a successor can disconnect it, and its
// transactions check that row. A large plan is written by several lanes side by
// side: they do not wait for each other, but a takeover, which changes the rows
// of all lanes, waits for every one of them.
type lane struct {
	l   *Leader
	num int

	conn        *sql.Conn
	sessionID   int64
	sessionPeer string
	writes      int64
	// manual is true once the connection begins transactions by itself: see
	// transaction.go.
	manual bool
	// fresh is true while the connection need not be tried before it is used: it
	// was, earlier in the same Apply.
	fresh bool
}

func (la *lane) disconnect() error {
	if la.conn == nil {
		return nil
	}
	conn := la.conn
	la.conn, la.fresh, la.manual = nil, false, false
	return sqldb.DropConn(conn) // with its settings
}

// connection returns the lane's connection, opening and registering a new one
// if the last was lost.
func (la *lane) connection(ctx context.Context) (*sql.Conn, error) {
	if la.conn != nil {
		if la.fresh || la.conn.PingContext(ctx) == nil {
			la.fresh = la.l.basis != nil
			return la.conn, nil
		}
		if err := la.disconnect(); err != nil {
			return nil, err
		}
	}
	conn, err := la.l.db.Pool.Conn(ctx)
	if err != nil {
		return nil, err
	}
	la.conn = conn
	if err := la.identify(ctx); err != nil {
		return nil, errors.Join(err, la.disconnect())
	}
	if la.l.fence.Epoch == 0 {
		return conn, nil // not taken over yet: TakeOver registers
	}
	if err := errors.Join(la.register(ctx), la.beginByItself(ctx)); err != nil {
		return nil, errors.Join(err, la.disconnect())
	}
	return conn, nil
}

// identify prepares the session and finds out by what it can be recognised.
func (la *lane) identify(ctx context.Context) error {
	if la.l.db.Dialect.Server == sqldb.ServerSQLite {
		la.sessionID = int64(os.Getpid())
		la.sessionPeer = processStart(os.Getpid())
		return nil
	}
	// If this process is paused inside a transaction, the server ends the
	// session after about one TTL even when nobody may kill it.
	idle := int(math.Ceil(la.l.db.Config.TxTimeout.Seconds()))
	for _, text := range []string{
		fmt.Sprintf("SET SESSION wait_timeout = %d, innodb_lock_wait_timeout = %d", max(1, idle), int(sqldb.LockWait.Seconds())),
		"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
	} {
		if _, err := la.conn.ExecContext(ctx, text); err != nil {
			return err
		}
	}
	return la.conn.QueryRowContext(ctx, "SELECT ID, HOST FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()").Scan(&la.sessionID, &la.sessionPeer)
}

// register writes the connection's identity into the lane's row, in a
// transaction of its own: the successor must be able to read it while the
// connection is inside another.
func (la *lane) register(ctx context.Context) error {
	res, err := la.conn.ExecContext(ctx, "UPDATE hostsched_fence SET session_id = ?, session_peer = ? WHERE shard = ? AND lane = ? AND epoch = ? AND holder = ?",
		la.sessionID, la.sessionPeer, la.l.fence.Shard.String(), la.num, la.l.fence.Epoch, la.l.fence.Holder)
	if err != nil {
		return err
	}
	if la.manual {
		if _, err := la.conn.ExecContext(ctx, "COMMIT"); err != nil {
			return err
		}
	}
	return la.l.oneFence(res)
}

// write runs one fenced transaction. It either happened as a whole or, with an
// error, not at all; a lost answer to COMMIT is looked up.
func (la *lane) write(ctx context.Context, what string, work func(context.Context, sqldb.Querier) error) error {
	ctx, cancel := context.WithTimeout(ctx, la.l.db.Config.TxTimeout)
	defer cancel()
	if _, err := la.connection(ctx); err != nil {
		return la.explain(err, what)
	}
	la.writes++
	id := fmt.Sprintf("%d.%d", la.l.fence.Epoch, la.writes)
	tx, err := la.begin(ctx)
	if err != nil {
		return la.explain(err, what)
	}
	if err := la.inTx(ctx, tx, id, work); err != nil {
		return la.explain(tx.rollBack(ctx, err), what)
	}
	err = tx.commit(ctx)
	if err == nil && la.l.db.fail.afterCommit != nil {
		err = la.l.db.fail.afterCommit()
	}
	if err == nil {
		return nil
	}
	return la.explain(la.resolve(context.WithoutCancel(ctx), id, err), what)
}

func (la *lane) inTx(ctx context.Context, tx sqldb.Querier, id string, work func(context.Context, sqldb.Querier) error) error {
	if err := la.checkFence(ctx, tx, id); err != nil {
		return err
	}
	if la.l.db.fail.inTx != nil {
		if err := la.l.db.fail.inTx(ctx); err != nil {
			return err
		}
	}
	return work(ctx, tx)
}

// checkFence locks the fence row of the lane for this transaction, if the term is
// still the latest and the layout is the one the plan was made on.
func (la *lane) checkFence(ctx context.Context, tx sqldb.Querier, id string) error {
	query := "UPDATE hostsched_fence SET ticks = ticks + 1, last_write = ? WHERE shard = ? AND lane = ? AND epoch = ? AND holder = ?"
	args := []any{id, la.l.fence.Shard.String(), la.num, la.l.fence.Epoch, la.l.fence.Holder}
	if la.l.basis != nil {
		query += " AND layout = ?"
		args = append(args, la.l.basis.Layout)
	}
	res, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return err
	}
	fenced := la.l.oneFence(res)
	if fenced == nil || la.l.basis == nil {
		return fenced
	}
	f, err := readFence(ctx, tx, la.l.fence.Shard)
	if err == nil && f.Epoch == la.l.fence.Epoch && f.Holder == la.l.fence.Holder {
		return fmt.Errorf("%w: shard %s", ErrLayout, la.l.fence.Shard)
	}
	return errors.Join(fenced, err)
}

// resolve finds out what became of a transaction whose COMMIT was not answered.
// Reading the row for update waits until the server has ended the transaction
// one way or the other.
func (la *lane) resolve(ctx context.Context, id string, commitErr error) error {
	ctx, cancel := context.WithTimeout(ctx, la.l.db.Config.TxTimeout)
	defer cancel()
	if err := la.disconnect(); err != nil {
		return errors.Join(commitErr, err)
	}
	tx, err := la.l.db.Pool.BeginTx(ctx, nil)
	if err != nil {
		return errors.Join(commitErr, err)
	}
	query := "SELECT epoch, holder, last_write FROM hostsched_fence WHERE shard = ? AND lane = ?" + la.l.db.Dialect.ForUpdate
	var epoch int64
	var holder, last string
	err = tx.QueryRowContext(ctx, query, la.l.fence.Shard.String(), la.num).Scan(&epoch, &holder, &last)
	if rerr := tx.Rollback(); rerr != nil {
		err = errors.Join(err, rerr)
	}
	switch {
	case err != nil:
		return errors.Join(commitErr, err)
	case epoch != la.l.fence.Epoch || holder != la.l.fence.Holder:
		return fmt.Errorf("%w: shard %s was taken over before the commit was answered", ErrFenced, la.l.fence.Shard)
	case last == id:
		return nil // it did happen
	}
	return fmt.Errorf("commit did not happen: %w", commitErr)
}

func (la *lane) explain(err error, what string) error {
	if err != nil {
		la.fresh = false // whatever failed, it may be the connection
	}
	if err == nil || errors.Is(err, ErrFenced) || errors.Is(err, ErrLayout) {
		return err
	}
	return sqldb.Explain(err, what, la.l.db.Target())
}
