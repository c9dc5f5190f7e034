package sqldb

import (
	"context"
	"database/sql/driver"
	"net"
	"strings"
	"sync"
	"time"
)

// The address of a database may come to lead to another server: a standby that
// was promoted, behind a proxy, a virtual address or a name. Connections to the
// former server stay open meanwhile, and a leader who only reads would not notice.
// So we look at regular intervals, over a new connection, which server there is.
// When it is another one, or the same with another setting that matters, a new era
// begins: connections of the former are not used for anything new, and those that
// are still busy a little later are cut.
const (
	lookInterval = 1500 * time.Millisecond
	lookTimeout  = 2 * time.Second
	cutAfter     = 2 * time.Second
)

// eras counts the servers that the address has led to.
type eras struct {
	mu     sync.Mutex
	era    int64
	server string // what tells it from another
	open   map[*conn]bool
}

func (e *eras) now() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.era
}

func (e *eras) add(c *conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open == nil {
		e.open = map[*conn]bool{}
	}
	e.open[c] = true
}

func (e *eras) remove(c *conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.open, c)
}

// saw notes which server the address leads to, and tells which it led to before and
// whether that is another one.
func (e *eras) saw(server string) (was string, changed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	was, e.server = e.server, server
	changed = was != "" && was != server
	if changed {
		e.era++
		era := e.era
		time.AfterFunc(cutAfter, func() { e.cutBefore(era) })
	}
	return was, changed
}

// cutBefore cuts the connections of former eras. What they still do would only
// end after a long time if their server is gone for good.
func (e *eras) cutBefore(era int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.open {
		if c.era < era {
			_ = c.socket.Close() // it may be closed already
		}
	}
}

// driverConn is what a connection of the driver can do.
type driverConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.NamedValueChecker
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// conn is a connection of an era.
type conn struct {
	driverConn
	socket net.Conn
	eras   *eras
	era    int64
	// unfinished is true if it is not known whether its transaction has ended.
	unfinished bool
}

func (c *conn) over() bool { return c.era != c.eras.now() }

// Ping implements driver.Pinger.
func (c *conn) Ping(ctx context.Context) error {
	if c.over() {
		return driver.ErrBadConn
	}
	return c.driverConn.Ping(ctx)
}

// ResetSession implements driver.SessionResetter. The pool calls it before it
// uses a connection again.
func (c *conn) ResetSession(ctx context.Context) error {
	if c.over() {
		return driver.ErrBadConn
	}
	return c.driverConn.ResetSession(ctx)
}

// IsValid implements driver.Validator. The pool calls it when it gets a connection
// back.
func (c *conn) IsValid() bool { return !c.over() && !c.unfinished && c.driverConn.IsValid() }

// BeginTx implements driver.ConnBeginTx.
func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	tx, err := c.driverConn.BeginTx(ctx, opts)
	if deadline, bounded := ctx.Deadline(); bounded && err == nil {
		return boundedTx{c, deadline}, nil
	}
	return tx, err
}

// boundedTx is a transaction whose end is bounded as all else of it: the driver waits for ever
// for the answer to COMMIT and ROLLBACK. Only the deadline counts. Whoever cancels a
// transaction while it is committed still hears how it ended.
type boundedTx struct {
	conn     *conn
	deadline time.Time
}

// RollBackTimeout bounds a rollback, also of a transaction that has run out of time. The server
// rolls back by itself when the connection ends.
const RollBackTimeout = time.Second

// Commit implements driver.Tx.
func (t boundedTx) Commit() error { return t.end("COMMIT", t.deadline) }

// Rollback implements driver.Tx.
func (t boundedTx) Rollback() error { return t.end("ROLLBACK", time.Now().Add(RollBackTimeout)) }

func (t boundedTx) end(statement string, deadline time.Time) error {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	_, err := t.conn.ExecContext(ctx, statement, nil)
	t.conn.unfinished = err != nil
	return err
}

// Close implements driver.Conn.
func (c *conn) Close() error {
	c.eras.remove(c)
	if err := c.driverConn.Close(); !c.over() {
		return err
	}
	return nil // it may have been cut
}

// watch looks which server the address leads to, until ctx ends.
func (db *DB) watch(ctx context.Context) {
	again := time.NewTicker(lookInterval)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
			// Whoever uses the database hears of errors.
			_ = db.look(ctx)
		}
	}
}

func (db *DB) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var parts []string
	err := EachRow(ctx, db.probe, serverState, nil, func(scan Scanner) error {
		var name, value string
		err := scan(&name, &value)
		parts = append(parts, name+"="+value)
		return err
	})
	if err != nil {
		return err
	}
	is := strings.Join(parts, " ")
	if was, changed := db.eras.saw(is); changed && db.Config.Changed != nil {
		db.Config.Changed(db.target.name, was, is)
	}
	return nil
}

// Era changes when the address of the database leads to another server: what was
// learned from the former one may not hold there.
func (db *DB) Era() int64 { return db.eras.now() }
