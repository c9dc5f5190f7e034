package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/hostsched/hostsched/internal/simlab"
)

// databaseFaults concern the database server, the sessions on it, and rows and
// tables that somebody else keeps locked.
var databaseFaults = []fault{
	{kind: "database kill -9", weight: 2, cluster: oneServer, outage: true, strike: killDatabase},
	{kind: "database SIGSTOP", weight: 2, cluster: oneServer, outage: true, strike: stopDatabase},
	{kind: "KILL session", weight: 4, light: true, strike: func(ctx context.Context, c *chaos) (*broken, error) { return c.killSessions(ctx, "", 1) }},
	{kind: "KILL all sessions", weight: 3, light: true, strike: func(ctx context.Context, c *chaos) (*broken, error) { return c.killSessions(ctx, "", 1000) }},
	{kind: "KILL QUERY", weight: 4, light: true, strike: func(ctx context.Context, c *chaos) (*broken, error) { return c.killSessions(ctx, "QUERY ", 1000) }},
	{kind: "read_only", weight: 2, outage: true, strike: func(ctx context.Context, c *chaos) (*broken, error) {
		return c.setGlobal(ctx, "read_only", "1", "0", c.between(500*time.Millisecond, 4*time.Second))
	}},
	{kind: "out of connections", weight: 2, outage: true, strike: func(ctx context.Context, c *chaos) (*broken, error) {
		return c.setGlobal(ctx, "max_connections", "10", "300", c.between(time.Second, 4*time.Second))
	}},
	{kind: "FLUSH TABLES WITH READ LOCK", weight: 2, outage: true, strike: func(ctx context.Context, c *chaos) (*broken, error) {
		return c.onSession(ctx, c.between(500*time.Millisecond, 3*time.Second), "UNLOCK TABLES", "FLUSH TABLES WITH READ LOCK")
	}},
	{kind: "LOCK TABLES", weight: 2, outage: true, strike: func(ctx context.Context, c *chaos) (*broken, error) {
		table, _ := pick(c, []string{"afe_hosts", "afe_jobs", "afe_host_queue_entries", "afe_special_tasks", "hostsched_terms"})
		return c.onSession(ctx, c.between(500*time.Millisecond, 3*time.Second), "UNLOCK TABLES", "LOCK TABLES "+table+" WRITE")
	}},
	{kind: "ALTER TABLE", weight: 2, outage: true, strike: func(ctx context.Context, c *chaos) (*broken, error) {
		if c.database.busy {
			return nil, nil
		}
		table, _ := pick(c, []string{"afe_hosts", "afe_jobs", "afe_labels"})
		return &broken{what: table}, c.exec(ctx, "ALTER TABLE "+table+" FORCE")
	}},
	{kind: "hosts locked", weight: 3, light: true, strike: func(ctx context.Context, c *chaos) (*broken, error) {
		return c.lockRows(ctx, "SELECT id FROM afe_hosts WHERE id BETWEEN ? AND ? + 3 FOR UPDATE", c.rng.IntN(labSpec.Hosts))
	}},
	{kind: "entries locked", weight: 3, light: true, strike: func(ctx context.Context, c *chaos) (*broken, error) {
		return c.lockRows(ctx, "SELECT id FROM afe_host_queue_entries WHERE complete = 0 AND id > ? AND id > ? ORDER BY id LIMIT 3 FOR UPDATE", 0)
	}},
	{kind: "fence locked", weight: 2, outage: true, strike: func(ctx context.Context, c *chaos) (*broken, error) {
		name, _ := pick(c, shards())
		return c.onSession(ctx, c.between(500*time.Millisecond, 4*time.Second), "ROLLBACK", "BEGIN", "SELECT * FROM hostsched_fence WHERE shard = '"+name.String()+"' FOR UPDATE")
	}},
}

// takeServer reserves the server for one fault that concerns it as a whole.
func (c *chaos) takeServer() (free func(), ok bool) {
	if c.database.busy {
		return nil, false
	}
	c.database.busy = true
	return func() { c.database.busy = false }, true
}

func killDatabase(_ context.Context, c *chaos) (*broken, error) {
	free, ok := c.takeServer()
	if !ok {
		return nil, nil
	}
	return &broken{what: "server", use: stopsServer, hold: c.between(200*time.Millisecond, 3*time.Second), mend: func(context.Context) error {
		free()
		return c.database.nodes[0].Restart()
	}}, c.database.nodes[0].Kill()
}

func stopDatabase(_ context.Context, c *chaos) (*broken, error) {
	free, ok := c.takeServer()
	if !ok {
		return nil, nil
	}
	return &broken{what: "server", use: stopsServer, hold: c.between(500*time.Millisecond, 5*time.Second), mend: func(context.Context) error {
		free()
		return c.database.nodes[0].Signal(syscall.SIGCONT)
	}}, c.database.nodes[0].Signal(syscall.SIGSTOP)
}

// killSessions ends sessions of the replicas, or what they are doing.
func (c *chaos) killSessions(ctx context.Context, what string, limit int) (*broken, error) {
	if c.database.busy {
		return nil, nil
	}
	var ids []int64
	query := fmt.Sprintf("SELECT id FROM information_schema.processlist WHERE user = '%s' ORDER BY id LIMIT %d", replicaUser, limit)
	err := simlab.Each(ctx, c.db.SQL(), query, func(rows *sql.Rows) error {
		var id int64
		err := rows.Scan(&id)
		ids = append(ids, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		_ = c.exec(ctx, fmt.Sprintf("KILL %s%d", what, id)) // it may have ended meanwhile
	}
	return &broken{what: fmt.Sprintf("%d sessions", len(ids))}, nil
}

func (c *chaos) setGlobal(ctx context.Context, name, value, before string, hold time.Duration) (*broken, error) {
	free, ok := c.takeServer()
	if !ok {
		return nil, nil
	}
	// It is undone by the same session, because the server may take no other one meanwhile.
	conn, err := c.session(ctx, "SET GLOBAL "+name+" = "+value)
	if err != nil {
		free()
		return nil, err
	}
	undo := "SET GLOBAL " + name + " = " + before
	return &broken{what: name + " = " + value, hold: hold, use: stopsServer, mend: func(ctx context.Context) error {
		defer free()
		_, err := conn.ExecContext(ctx, undo)
		discard(conn)
		if err == nil {
			return nil
		}
		return c.exec(ctx, undo) // the session was lost
	}}, nil
}

// onSession does something in a session of its own and undoes it later there. If
// the session is lost meanwhile, so is what it did.
func (c *chaos) onSession(ctx context.Context, hold time.Duration, undo string, texts ...string) (*broken, error) {
	if c.database.busy {
		return nil, nil
	}
	conn, err := c.session(ctx, texts...)
	if err != nil {
		return nil, err
	}
	return &broken{what: texts[len(texts)-1], hold: hold, use: locksThings, mend: func(ctx context.Context) error {
		_, _ = conn.ExecContext(ctx, undo) // or its end does the same
		discard(conn)
		return nil
	}}, nil
}

// session does something in a session of its own, which the caller discards.
func (c *chaos) session(ctx context.Context, texts ...string) (*sql.Conn, error) {
	conn, err := c.db.SQL().Conn(ctx)
	if err != nil {
		return nil, err
	}
	for _, text := range texts {
		if _, err := conn.ExecContext(ctx, text); err != nil {
			discard(conn)
			return nil, fmt.Errorf("%s: %w", text, err)
		}
	}
	return conn, nil
}

// discard ends a session instead of giving it back to the pool: whatever state it
// is in, nobody else gets it.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // it may be gone already
}

// lockRows keeps rows locked that belong to others. Only who needs them may wait.
func (c *chaos) lockRows(ctx context.Context, query string, from int) (*broken, error) {
	if c.database.busy {
		return nil, nil
	}
	tx, err := c.db.SQL().BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		return nil, err
	}
	if _, err := tx.ExecContext(ctx, query, from, from); err != nil {
		return nil, errors.Join(err, tx.Rollback())
	}
	return &broken{what: fmt.Sprintf("from %d", from), hold: c.between(500*time.Millisecond, 6*time.Second), use: locksThings, mend: func(context.Context) error {
		_ = tx.Rollback() // its session may be gone; it changed nothing
		return nil
	}}, nil
}
