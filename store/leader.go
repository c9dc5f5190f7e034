package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/hostsched/hostsched/scheduler"
)

// Leader is the right to write to one shard, won by TakeOver. It keeps one
// connection for all its transactions and registers it in the fence row, so
// that a successor can disconnect it. A Leader is used by one goroutine.
type Leader struct {
	db    *DB
	claim Claim
	fence Fence

	conn        *sql.Conn
	sessionID   int64
	sessionPeer string
	writes      int64
	// shardID is the row of afe_shards, 0 for the master.
	shardID int64
	// termID is the row of hostsched_terms.
	termID int64
	// manual is true once the connection begins transactions by itself: see
	// transaction.go.
	manual bool
	// fresh is true while the connection need not be tried before it is used: it
	// was, earlier in the same Apply.
	fresh bool
	pace  pace
	// basis is what the plan being applied stands on; nil outside of Apply.
	basis *scheduler.Basis
}

// Fence returns the fence row as it was taken over.
func (l *Leader) Fence() Fence { return l.fence }

// Close gives the connection up. The fence row stays as it is: the next term
// takes it over.
func (l *Leader) Close() error { return l.disconnect() }

func (l *Leader) disconnect() error {
	if l.conn == nil {
		return nil
	}
	conn := l.conn
	l.conn, l.fresh, l.manual = nil, false, false
	// Session settings must not leak into the pool: have the driver drop it.
	err := conn.Raw(func(any) error { return driver.ErrBadConn })
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) {
		err = nil
	}
	if cerr := conn.Close(); cerr != nil && !errors.Is(cerr, sql.ErrConnDone) {
		err = errors.Join(err, cerr)
	}
	return err
}

// connection returns the leader's connection, opening and registering a new one
// if the last was lost.
func (l *Leader) connection(ctx context.Context) (*sql.Conn, error) {
	if l.conn != nil {
		if l.fresh || l.conn.PingContext(ctx) == nil {
			l.fresh = l.basis != nil
			return l.conn, nil
		}
		if err := l.disconnect(); err != nil {
			return nil, err
		}
	}
	conn, err := l.db.sql.Conn(ctx)
	if err != nil {
		return nil, err
	}
	l.conn = conn
	if err := l.identify(ctx); err != nil {
		return nil, errors.Join(err, l.disconnect())
	}
	if l.fence.Epoch == 0 {
		return conn, nil // not taken over yet: TakeOver registers
	}
	if err := errors.Join(l.register(ctx), l.beginByItself(ctx)); err != nil {
		return nil, errors.Join(err, l.disconnect())
	}
	return conn, nil
}

// identify prepares the session and finds out by what it can be recognised.
func (l *Leader) identify(ctx context.Context) error {
	if l.db.dialect.server == serverSQLite {
		l.sessionID = int64(os.Getpid())
		l.sessionPeer = processStart(os.Getpid())
		return nil
	}
	// If this process is paused inside a transaction, the server ends the
	// session after about one TTL even when nobody may kill it.
	idle := int(math.Ceil(l.db.cfg.TxTimeout.Seconds()))
	for _, text := range []string{
		fmt.Sprintf("SET SESSION wait_timeout = %d, innodb_lock_wait_timeout = %d", max(1, idle), int(lockWait.Seconds())),
		"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
	} {
		if _, err := l.conn.ExecContext(ctx, text); err != nil {
			return err
		}
	}
	return l.conn.QueryRowContext(ctx, "SELECT ID, HOST FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()").Scan(&l.sessionID, &l.sessionPeer)
}

// register writes the connection's identity into the fence row, in a
// transaction of its own: the successor must be able to read it while the
// connection is inside another.
func (l *Leader) register(ctx context.Context) error {
	res, err := l.conn.ExecContext(ctx, "UPDATE hostsched_fence SET session_id = ?, session_peer = ? WHERE shard = ? AND epoch = ? AND holder = ?",
		l.sessionID, l.sessionPeer, l.fence.Shard.String(), l.fence.Epoch, l.fence.Holder)
	if err != nil {
		return err
	}
	if l.manual {
		if _, err := l.conn.ExecContext(ctx, "COMMIT"); err != nil {
			return err
		}
	}
	return l.oneFence(res)
}

// Verify asks the database whether this term is still the latest, on a fresh
// connection if the old one was lost. ErrFenced says that it is not.
func (l *Leader) Verify(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.db.cfg.TxTimeout)
	defer cancel()
	if _, err := l.connection(ctx); err != nil {
		return l.explain(err, "verify the fence")
	}
	return l.explain(l.register(ctx), "verify the fence")
}

func (l *Leader) oneFence(res sql.Result) error {
	n, err := res.RowsAffected()
	if err != nil {
		return err
	}
	if n != 1 {
		return fmt.Errorf("%w: shard %s, epoch %d of %s is over: another replica has taken over", ErrFenced, l.fence.Shard, l.fence.Epoch, l.fence.Holder)
	}
	return nil
}

// write runs one fenced transaction. It either happened as a whole or, with an
// error, not at all; a lost answer to COMMIT is looked up.
func (l *Leader) write(ctx context.Context, what string, work func(context.Context, dbtx) error) error {
	ctx, cancel := context.WithTimeout(ctx, l.db.cfg.TxTimeout)
	defer cancel()
	if _, err := l.connection(ctx); err != nil {
		return l.explain(err, what)
	}
	l.writes++
	id := fmt.Sprintf("%d.%d", l.fence.Epoch, l.writes)
	tx, err := l.begin(ctx)
	if err != nil {
		return l.explain(err, what)
	}
	if err := l.inTx(ctx, tx, id, work); err != nil {
		return l.explain(tx.rollBack(ctx, err), what)
	}
	err = tx.commit(ctx)
	if err == nil && l.db.fail.afterCommit != nil {
		err = l.db.fail.afterCommit()
	}
	if err == nil {
		return nil
	}
	return l.explain(l.resolve(context.WithoutCancel(ctx), id, err), what)
}

func (l *Leader) inTx(ctx context.Context, tx dbtx, id string, work func(context.Context, dbtx) error) error {
	if err := l.checkFence(ctx, tx, id); err != nil {
		return err
	}
	if l.db.fail.inTx != nil {
		if err := l.db.fail.inTx(ctx); err != nil {
			return err
		}
	}
	return work(ctx, tx)
}

// checkFence locks the fence row for this transaction, if the term is still the
// latest and the layout is the one the plan was made on.
func (l *Leader) checkFence(ctx context.Context, tx dbtx, id string) error {
	query := "UPDATE hostsched_fence SET ticks = ticks + 1, last_write = ? WHERE shard = ? AND epoch = ? AND holder = ?"
	args := []any{id, l.fence.Shard.String(), l.fence.Epoch, l.fence.Holder}
	if l.basis != nil {
		query += " AND layout = ?"
		args = append(args, l.basis.Layout)
	}
	res, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return err
	}
	fenced := l.oneFence(res)
	if fenced == nil || l.basis == nil {
		return fenced
	}
	f, err := readFence(ctx, tx, l.fence.Shard)
	if err == nil && f.Epoch == l.fence.Epoch && f.Holder == l.fence.Holder {
		return fmt.Errorf("%w: shard %s", ErrLayout, l.fence.Shard)
	}
	return errors.Join(fenced, err)
}

// resolve finds out what became of a transaction whose COMMIT was not answered.
// Reading the row for update waits until the server has ended the transaction
// one way or the other.
func (l *Leader) resolve(ctx context.Context, id string, commitErr error) error {
	ctx, cancel := context.WithTimeout(ctx, l.db.cfg.TxTimeout)
	defer cancel()
	if err := l.disconnect(); err != nil {
		return errors.Join(commitErr, err)
	}
	tx, err := l.db.sql.BeginTx(ctx, nil)
	if err != nil {
		return errors.Join(commitErr, err)
	}
	query := "SELECT epoch, holder, last_write FROM hostsched_fence WHERE shard = ?"
	if l.db.dialect.server != serverSQLite { // SQLite's transaction is exclusive already
		query += " FOR UPDATE"
	}
	var epoch int64
	var holder, last string
	err = tx.QueryRowContext(ctx, query, l.fence.Shard.String()).Scan(&epoch, &holder, &last)
	if rerr := tx.Rollback(); rerr != nil {
		err = errors.Join(err, rerr)
	}
	switch {
	case err != nil:
		return errors.Join(commitErr, err)
	case epoch != l.fence.Epoch || holder != l.fence.Holder:
		return fmt.Errorf("%w: shard %s was taken over before the commit was answered", ErrFenced, l.fence.Shard)
	case last == id:
		return nil // it did happen
	}
	return fmt.Errorf("commit did not happen: %w", commitErr)
}

func (l *Leader) explain(err error, what string) error {
	if err != nil {
		l.fresh = false // whatever failed, it may be the connection
	}
	if err == nil || errors.Is(err, ErrFenced) || errors.Is(err, ErrLayout) {
		return err
	}
	return explain(err, what, l.db.target.name)
}

// evictProcess ends a stopped process that holds the write lock of an SQLite
// file; nothing else frees that lock. Only a process on this machine that was
// registered with the same start time, and that is stopped, is touched.
func evictProcess(pid int64, start string) error {
	if start == "" || pid <= 1 || processStart(int(pid)) != start || !processStopped(int(pid)) {
		return nil
	}
	if err := syscall.Kill(int(pid), syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end the stopped predecessor, process %d, which holds the database locked: %w", pid, err)
	}
	return nil
}

// processStart returns a process's start time in clock ticks since boot, "" if
// it cannot be told.
func processStart(pid int) string { return processField(pid, 21) }

func processStopped(pid int) bool { return processField(pid, 2) == "T" }

// processField reads a field of /proc/PID/stat, counted from 0. The second
// field is the command in brackets, which may contain blanks.
func processField(pid, field int) string {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	_, rest, ok := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) <= field-2 {
		return ""
	}
	return fields[field-2]
}
