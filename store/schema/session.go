package schema

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/hostsched/hostsched/store/sqldb"
)

// ErrLocked means that another migrator is at work.
var ErrLocked = errors.New("another migrator holds the lock")

const (
	// migrateLockName and migrateLockWait: how two migrators keep apart.
	migrateLockName = "hostsched_migrate"
	migrateLockWait = 10 * time.Second
	// tableWait bounds how long a statement of a migration waits for a table that
	// others use. Whoever wants the table later waits behind the migration, so
	// that this is also how long a migration can hold up everybody else.
	tableWait = 3 * time.Second
)

// session is the one connection of a migration. The server ties the lock that
// keeps migrators apart to it: if the migrator is killed while the server still
// works on its last statement, the lock is free only when that is done.
type session struct {
	db   *sqldb.DB
	pool *sql.DB
	// table is what the last statement was about.
	table string
	// wrote is true once anything was changed.
	wrote bool
}

// withSession opens the session of a migration, with the lock that keeps two
// migrators apart, and closes it afterwards.
func withSession(ctx context.Context, db *sqldb.DB, through func(driver.Connector) driver.Connector, work func(*session) error) (err error) {
	wait := strconv.Itoa(int(tableWait.Seconds()))
	connector, err := db.Connector(map[string]string{"lock_wait_timeout": wait, "innodb_lock_wait_timeout": wait})
	if err != nil {
		return err
	}
	if through != nil {
		connector = through(connector)
	}
	s := &session{db: db, pool: sql.OpenDB(&oneConnection{Connector: connector})}
	s.pool.SetMaxOpenConns(1)
	defer func() { err = errors.Join(err, s.pool.Close()) }()
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	return work(s)
}

// oneConnection connects once: a pool would silently replace a connection that
// was lost, and continue without the lock.
type oneConnection struct {
	driver.Connector
	used bool
}

var errConnectionLost = errors.New("the connection to the database was lost")

func (c *oneConnection) Connect(ctx context.Context) (driver.Conn, error) {
	if c.used {
		return nil, errConnectionLost
	}
	c.used = true
	return c.Connector.Connect(ctx)
}

// lock keeps two migrators apart: by a named lock on the server, which ends with
// the session, or by a locked file beside an SQLite database.
func (s *session) lock(ctx context.Context) (unlock func() error, err error) {
	if s.db.Dialect.Server == sqldb.ServerSQLite {
		return lockFile(ctx, s.db.Path()+".migrate.lock")
	}
	// The lock is per server, not per database: add the database's name.
	name := lockName(s.db.Database())
	var got sql.NullInt64
	err = s.pool.QueryRowContext(ctx, "SELECT GET_LOCK(?, ?)", name, int(migrateLockWait.Seconds())).Scan(&got)
	if err != nil {
		return nil, sqldb.Explain(err, "lock for migration", s.db.Target())
	}
	if got.Int64 != 1 {
		return nil, fmt.Errorf("%w on %s; wait for it to finish and try again", ErrLocked, s.db.Target())
	}
	return func() error { return nil }, nil
}

// longestLockName is how long a lock's name may be on MySQL, in characters.
const longestLockName = 64

// lockName is the name of the lock for a database. The sum stands for a name that
// is too long, and keeps two databases apart.
func lockName(database string) string {
	name := migrateLockName + "." + database
	if utf8.RuneCountInString(name) <= longestLockName {
		return name
	}
	sum := sha256.Sum256([]byte(database))
	return migrateLockName + "." + hex.EncodeToString(sum[:16])
}

func lockFile(ctx context.Context, path string) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("%w: lock for migration: %w", sqldb.ErrPrivilege, err)
	}
	if err := waitForFileLock(ctx, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}

// fileLockPoll is how often a waiting migrator looks again.
const fileLockPoll = 50 * time.Millisecond

func waitForFileLock(ctx context.Context, f *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, migrateLockWait)
	defer cancel()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s; wait for it to finish and try again", ErrLocked, f.Name())
		case <-time.After(fileLockPoll):
		}
	}
}
