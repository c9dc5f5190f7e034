package store

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Failpoints set by tests.

// FailInTx runs f inside every writing transaction, after the fence.
func (db *DB) FailInTx(f func(context.Context) error) { db.fail.inTx = f }

// FailAfterCommit replaces the answer to every successful COMMIT.
func (db *DB) FailAfterCommit(f func() error) { db.fail.afterCommit = f }

// FailInChunk runs f after the last statement of a chunk of assignments.
func (db *DB) FailInChunk(f func() error) { db.fail.chunk = f }

// WriteNothing runs an empty fenced transaction.
func (l *Leader) WriteNothing(ctx context.Context) error {
	return l.main().write(ctx, "nothing", func(context.Context, sqldb.Querier) error { return nil })
}

// LockError is what a server says to the victim of a deadlock or of a long wait.
func LockError(db *DB) error {
	if db.Dialect.Server == sqldb.ServerSQLite {
		// The driver's errors cannot be made; a second writer provokes one.
		return busy(db)
	}
	return &mysql.MySQLError{Number: sqldb.MyDeadlock, Message: "Deadlock found when trying to get lock"}
}

// busy makes another connection ask in vain for the write lock that the caller
// holds. That connection does not wait for it as long as others do, and is not used
// again.
func busy(db *DB) error {
	ctx := context.Background()
	conn, err := db.Pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Raw(func(any) error { return driver.ErrBadConn }) }() // closes it
	if _, err := conn.ExecContext(ctx, "PRAGMA busy_timeout = 0"); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, "UPDATE hostsched_fence SET ticks = ticks")
	return err
}

// ReleasesFreed tells whether a plan releases what it frees.
func ReleasesFreed(plan scheduler.Plan) bool { return releasesFreed(plan) }

// RefreshedRows is how many of n rows a snapshot refreshes so long after the last one.
func RefreshedRows(since time.Duration, n int) int { return refreshRows(since, n) }

// RefreshRows sets how many rows are refreshed per snapshot.
func (t *Snapshots) RefreshRows(n int) {
	t.refreshRows = func(time.Duration, int) int { return n }
}

// StandStill breaks the snapshots: the times of all tables look as if nobody
// wrote any more.
func (t *Snapshots) StandStill() {
	t.timesQuery = func(join string) string {
		return strings.Replace(mysqlTableTimes(join), "UNIX_TIMESTAMP(UPDATE_TIME)", "1", 1)
	}
}

// HasTableTimes tells whether the server keeps times of tables.
func HasTableTimes(db *DB) bool { return db.Dialect.HasTableTimes }

// ChunkSizer sizes chunks.
type ChunkSizer = chunkSizer

// Chunk is the size of the next chunk.
func (s *chunkSizer) Chunk(n, writers int) int { return s.chunk(n, writers) }

// Took notes a chunk.
func (s *chunkSizer) Took(n int, d time.Duration) { s.took(n, d) }

// PerRow is how long a row takes, as measured lately.
func (l *Leader) PerRow() time.Duration { return l.chunkSizer.perRow }

// Contention remembers the rows that others keep locked.
type Contention = contention

// Found notes locked rows.
func (c *contention) Found(rows []LockedRow, now time.Time) { c.found(rows, now) }

// Held are the rows that are left alone.
func (c *contention) Held(now time.Time) []LockedRow { return c.held(now) }

// Any tells whether any row is remembered.
func (c *contention) Any(now time.Time) bool { return c.any(now) }

// SmallChunks makes the chunks of the next plan small.
func (l *Leader) SmallChunks() { l.chunkSizer.perRow = time.Hour }

// Writers is over how many connections a leader writes.
func Writers(db *DB) int { return db.Dialect.Writers }

// Bounds of a chunkSizer.
const (
	ChunkTime = chunkTime
	MostChunk = mostChunk
)

// TurnWait is how long a chunk waits inside its transaction for the one before.
const TurnWait = turnWait

// TrustTimes makes the snapshots trust the time of a table as soon as it was read,
// as they otherwise do after a while. The test makes sure that no later commit has
// the same time.
func (t *Snapshots) TrustTimes() {
	query := t.timesQuery
	t.timesQuery = func(join string) string {
		return strings.Replace(query(join), "UNIX_TIMESTAMP()", fmt.Sprintf("UNIX_TIMESTAMP() + %d", commitLag), 1)
	}
}

// ErrChanged is what a chunk ends with whose rows changed.
var ErrChanged = errChanged
