package sqldb

import (
	"context"
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	_ "modernc.org/sqlite" // registers the driver "sqlite"
)

// Config says which database to open and how long to wait for it.
type Config struct {
	// DSN is "sqlite:PATH" or "user@tcp(host:port)/database".
	DSN string
	// Password, if set, returns the password that counts now, which replaces the one
	// in the DSN if it is not empty. It is asked for every new connection.
	Password func() (string, error)
	// TLS, if set, returns what a new connection to a server needs for TLS: a client
	// certificate, authorities, or both. Whether the server's name is checked, the DSN says;
	// it is unless the DSN says otherwise. Connections over a socket file have no TLS.
	TLS func() (*tls.Config, error)
	// PasswordAdvice is added to the error of a refused login.
	PasswordAdvice string
	// Changed, if set, is called when the address of the database leads to another
	// server, or the server's state has changed, with the variables that tell. It must
	// not block.
	Changed func(database, was, is string)
	// Create makes an SQLite file that does not exist yet. Without it a missing
	// file is an error, and nothing is written.
	Create bool
	// ReadOnly is for whoever only reads. Nothing is written to an SQLite file then, which need
	// not be writable while a server has it open. It is no promise of a server.
	ReadOnly bool
	// Production allows a database on another machine.
	Production bool
	// TxTimeout bounds a writing transaction and, on the server, how long a
	// paused leader's connection survives. About the TTL of the etcd lease;
	// 5 s if zero.
	TxTimeout time.Duration
	// TakeOverTimeout bounds a takeover, including the removal of a paused
	// predecessor; 10 s if zero.
	TakeOverTimeout time.Duration
	// MaxConns bounds the connections to the server; 8 if zero. There are half as
	// many besides that only read, and those of leaders, see ServeShards.
	MaxConns int
}

// The bounds used where Config leaves them open.
const (
	defaultTxTimeout       = 5 * time.Second
	defaultTakeOverTimeout = 10 * time.Second
	defaultMaxConns        = 8
	// A leader reads by one connection.
	readsPerShard = 1
	// connectTimeout bounds the first contact with a server.
	connectTimeout = 5 * time.Second
)

// DB is an open database. Its connections have everything set that decides how a
// statement acts.
type DB struct {
	Config Config
	target target
	Pool   *sql.DB
	// reads are connections that only read; SQLite needs no others for it.
	reads   *sql.DB
	Dialect Dialect

	// What follows is for MySQL and MariaDB. probe makes a new connection for every
	// query.
	probe    *sql.DB
	eras     eras
	watching sync.WaitGroup
	unwatch  context.CancelFunc
}

// Check refuses what can be refused without asking any server.
func (c Config) Check() error {
	_, err := c.parse()
	return err
}

func (c Config) parse() (target, error) {
	t, err := parseDSN(c.DSN)
	if err != nil {
		return target{}, err
	}
	return t, t.requireLocal(c.Production)
}

// Open parses the DSN, refuses what is not local unless production is set, and
// checks that the server answers and has what our statements need. It does not look
// at the schema: see Check.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	t, err := cfg.parse()
	if err != nil {
		return nil, err
	}
	cfg.TxTimeout = orDefault(cfg.TxTimeout, defaultTxTimeout)
	cfg.TakeOverTimeout = orDefault(cfg.TakeOverTimeout, defaultTakeOverTimeout)
	cfg.MaxConns = orDefault(cfg.MaxConns, defaultMaxConns)
	db := &DB{Config: cfg, target: t}
	open := db.openMySQL
	if t.mysql == nil {
		open = db.openSQLite
	}
	bounded, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := open(bounded); err != nil {
		return nil, errors.Join(Explain(err, "connect", t.name), db.Close())
	}
	db.ServeShards(0)
	return db, nil
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// openMySQL finds out which server this is, and opens the pools for it.
func (db *DB) openMySQL(ctx context.Context) (err error) {
	if db.probe, err = db.mysqlPool(probeVariables); err != nil {
		return err
	}
	limit(db.probe, 1)
	db.probe.SetMaxIdleConns(-1)
	have, err := readVariables(ctx, db.probe)
	if err != nil {
		return err
	}
	if db.Dialect, err = mysqlDialect(have); err != nil {
		return err
	}
	if err := db.look(ctx); err != nil {
		return err
	}
	if db.Pool, err = db.mysqlPool(db.Dialect.session); err != nil {
		return err
	}
	if db.reads, err = db.mysqlPool(db.Dialect.session, db.Dialect.reading); err != nil {
		return err
	}
	// The options of the DSN are tried, too.
	if err := db.Pool.PingContext(ctx); err != nil {
		return err
	}
	watched, unwatch := context.WithCancel(context.WithoutCancel(ctx))
	db.unwatch = unwatch
	db.watching.Go(func() { db.watch(watched) })
	return nil
}

// Connector makes connections for a pool apart from the others. The session
// variables are those of MySQL and MariaDB; SQLite has none.
func (db *DB) Connector(variables map[string]string) (driver.Connector, error) {
	if db.target.mysql == nil {
		return sqliteConnector{db.Pool.Driver(), db.sqliteDSN()}, nil
	}
	return db.mysqlConnector(db.Dialect.session, variables)
}

// sqliteConnector connects to a file. The driver has no connector of its own.
type sqliteConnector struct {
	driver driver.Driver
	dsn    string
}

func (c sqliteConnector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }
func (c sqliteConnector) Driver() driver.Driver                        { return c.driver }

func (db *DB) sqliteDSN() string {
	// As a URI, so that a path may contain a question mark or a hash.
	file := url.URL{Scheme: "file", Path: db.target.path}
	if db.Config.ReadOnly {
		// Not mode=ro: who opens it so leaves files beside it, which may keep others out.
		return fmt.Sprintf("%s?mode=rw&_pragma=busy_timeout(%d)&_pragma=query_only(1)", file.String(), LockWait.Milliseconds())
	}
	// Writers queue up (immediate) instead of failing half-way; readers see one
	// state throughout (WAL).
	mode := "rw"
	if db.Config.Create {
		mode = "rwc"
	}
	return fmt.Sprintf("%s?mode=%s&_txlock=immediate&_pragma=busy_timeout(%d)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)",
		file.String(), mode, LockWait.Milliseconds())
}

func (db *DB) openSQLite(ctx context.Context) (err error) {
	if db.Pool, err = sql.Open("sqlite", db.sqliteDSN()); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDSN, db.target.name, err)
	}
	db.reads = db.Pool
	var version string
	err = db.Pool.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version)
	db.Dialect = sqliteDialect(version)
	return err
}

// ServeShards makes room for the connections of so many leaders: each keeps one
// for every writer and needs another to read.
func (db *DB) ServeShards(n int) {
	if db.reads == db.Pool {
		limit(db.Pool, db.Config.MaxConns+(db.Dialect.Writers+readsPerShard)*n)
		return
	}
	limit(db.Pool, db.Config.MaxConns+db.Dialect.Writers*n)
	limit(db.reads, max(1, db.Config.MaxConns/2)+readsPerShard*n)
}

func limit(pool *sql.DB, conns int) {
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(conns)
}

// Close closes all connections.
func (db *DB) Close() error {
	if db.unwatch != nil {
		db.unwatch()
		db.watching.Wait()
	}
	var errs []error
	for _, pool := range []*sql.DB{db.probe, db.reads, db.Pool} {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	return errors.Join(errs...)
}

// Ping asks the database whether it is there, over any connection of the pool.
func (db *DB) Ping(ctx context.Context) error { return db.Pool.PingContext(ctx) }

// SQL gives access to the connection pool, for simulators and tests that are
// other clients of the same database.
func (db *DB) SQL() *sql.DB { return db.Pool }

// Target names the database without its password.
func (db *DB) Target() string { return db.target.name }

// Server names the server and its version, like "MariaDB 10.11.4".
func (db *DB) Server() string { return db.Dialect.Server + " " + db.Dialect.Version }

// Database is the name of the database on its server, path the file of SQLite.
func (db *DB) Database() string { return db.target.mysql.DBName }
func (db *DB) Path() string     { return db.target.path }

// HasTable tells whether the database has a table of this name.
func (db *DB) HasTable(ctx context.Context, table string) (bool, error) {
	query := "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?"
	if db.Dialect.Server == ServerSQLite {
		query = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = ?"
	}
	var n int
	err := db.Pool.QueryRowContext(ctx, query, table).Scan(&n)
	return n > 0, Explain(err, "look for table "+table, db.target.name)
}
