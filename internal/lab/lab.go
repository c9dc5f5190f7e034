package lab

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"gocloud.dev/blob"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Errors that callers tell apart. Each message says what was asked for and what to do.
var (
	// ErrInput is a request that makes no sense.
	ErrInput = errors.New("cannot be done")
	// ErrNotFound means that there is no such thing.
	ErrNotFound = errors.New("not found")
	// ErrExists means that there is such a thing already.
	ErrExists = errors.New("exists already")
	// ErrConflict means that the present state does not allow it.
	ErrConflict = errors.New("in conflict with the present state")
	// ErrStale means that somebody changed the thing since the caller read it.
	ErrStale = errors.New("changed meanwhile")
	// ErrUnplaceable means that no host can ever run the job.
	ErrUnplaceable = errors.New("no host can ever run this")
	// ErrFileMissing means that a file is not where it was put when its run was over, and
	// ErrFile that it cannot be read from there now.
	ErrFileMissing = errors.New("what the run left is missing")
	ErrFile        = errors.New("what the run left cannot be read now")
)

// changeBound is how long a change may take with all its repetitions. Whoever called
// waits for it.
const changeBound = 15 * time.Second

// Lab is a lab in a database.
type Lab struct {
	db *store.DB
	// scope is what a leader with the same configuration reads, of one shard or of all.
	scope  store.Scope
	views  views
	system system
	// stepsOfServer is which ids the journal may have, and known those that it was seen to have.
	stepsOfServer stepsOfServer
	known         known
	// logWriters has a value for each append to a log that is under way.
	logWriters chan struct{}
	// files is where complete logs lie, which people know as filesAt; nil leaves them in the
	// database.
	files   *blob.Bucket
	filesAt string
}

// New returns the lab in a database, which must have the tables of a lab, as a leader with
// this scope sees it.
func New(db *store.DB, scope store.Scope) *Lab {
	return &Lab{db: db, scope: scope, logWriters: make(chan struct{}, logWriters)}
}

// change runs a transaction, and again if it was the victim of a deadlock or waited too
// long for a row. work may run more than once and must not keep anything of a run that failed.
func (l *Lab) change(ctx context.Context, what string, work func(*sql.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, changeBound)
	defer cancel()
	for {
		err := l.once(ctx, work)
		if !sqldb.IsLockTimeout(err) || ctx.Err() != nil {
			return certain(l.explain(err, what))
		}
	}
}

// certain says of a database without room that nothing was written, where that is so.
func certain(err error) error {
	if errors.Is(err, sqldb.ErrFull) && !errors.Is(err, sqldb.ErrPartly) {
		return fmt.Errorf("%w; nothing was written", err)
	}
	return err
}

func (l *Lab) once(ctx context.Context, work func(*sql.Tx) error) (err error) {
	tx, err := l.db.Pool.BeginTx(ctx, l.isolation())
	if err != nil {
		return err
	}
	defer func() { err = sqldb.EndedBy(ctx, sqldb.RollbackUnless(tx, err)) }()
	if err := work(tx); err != nil {
		return err
	}
	return sqldb.Committed(tx.Commit())
}

// isolation lets a change see what others have committed by the time that it has locked a
// row, and lock no more rows than it changes.
func (l *Lab) isolation() *sql.TxOptions {
	if l.db.Dialect.Server == sqldb.ServerSQLite {
		return nil // its writing transactions follow one after the other
	}
	return &sql.TxOptions{Isolation: sql.LevelReadCommitted}
}

// explain leaves what we said ourselves alone, and says what to do about a driver's error.
func (l *Lab) explain(err error, what string) error {
	for _, ours := range []error{ErrInput, ErrNotFound, ErrExists, ErrConflict, ErrStale, ErrUnplaceable, ErrHeld, ErrExpired, ErrKeyReused, ErrKeyRunning, ErrToken, ErrLogFull, ErrLogsMissing, ErrRevoked, ErrReplaced, access.ErrDenied} {
		if errors.Is(err, ours) {
			return err
		}
	}
	if sqldb.IsUnfit(err) {
		return fmt.Errorf("%w: a column cannot hold a text of the request: %w; use other characters, or fewer", ErrInput, err)
	}
	if sqldb.IsReferred(err) {
		return fmt.Errorf("%w: other rows refer to it: %w", ErrConflict, err)
	}
	return sqldb.Explain(err, what, l.db.Target())
}

// each runs a query outside transactions.
func (l *Lab) each(ctx context.Context, what, query string, args []any, row func(sqldb.Scanner) error) error {
	return l.explain(sqldb.EachRow(ctx, l.db.Pool, query, args, row), what)
}

// millis is the time of a column of ours, nil if there is none.
func millis(at sql.NullInt64) *time.Time {
	if !at.Valid {
		return nil
	}
	t := time.UnixMilli(at.Int64).UTC()
	return &t
}

func toMillis(at *time.Time) sql.NullInt64 {
	if at == nil {
		return sql.NullInt64{}
	}
	return sql.NullInt64{Int64: at.UnixMilli(), Valid: true}
}

// one makes ErrNotFound of a statement that changed no row.
func one(res sql.Result, err error, what string, args ...any) error {
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err == nil && n == 0 {
		err = fmt.Errorf("%w: "+what, append([]any{ErrNotFound}, args...)...)
	}
	return err
}
