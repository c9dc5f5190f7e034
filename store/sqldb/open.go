package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	_ "modernc.org/sqlite" // registers the driver "sqlite"
)

// Config says which database to open and how long to wait for it.
type Config struct {
	// DSN is "sqlite:PATH" or "user@tcp(host:port)/database".
	DSN string
	// Password replaces the one in the DSN, if not empty.
	Password string
	// Create makes an SQLite file that does not exist yet. Without it a missing
	// file is an error, and nothing is written.
	Create bool
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
	// LockWait is how long one statement waits for a row lock before the
	// takeover looks for the reason, in whole seconds (MySQL knows no less).
	LockWait = time.Second
)

// sessionVariables decide how a statement acts, so they depend neither on the
// server's defaults nor on the DSN. They are sent once per connection.
var sessionVariables = map[string]string{
	// Statements outside transactions must last.
	"autocommit": "1",
	// A column that is too narrow must refuse a text instead of cutting it.
	"sql_mode": "'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'",
	// A removal may look for rows without an index.
	"sql_safe_updates": "0",
	// Times are written in the zone of the server by Autotest's other programs.
	"time_zone": "@@global.time_zone",
}

// DB is an open database. Its connections have everything set that decides how a
// statement acts.
type DB struct {
	Config Config
	target target
	Pool   *sql.DB
	// reads are connections that only read; SQLite needs no others for it.
	reads   *sql.DB
	Dialect Dialect
}

// Open parses the DSN, refuses what is not local unless production is set, and
// checks that the server answers. It does not look at the schema: see Check.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	t, err := parseDSN(cfg.DSN, cfg.Password)
	if err != nil {
		return nil, err
	}
	if err := t.requireLocal(cfg.Production); err != nil {
		return nil, err
	}
	cfg.TxTimeout = orDefault(cfg.TxTimeout, defaultTxTimeout)
	cfg.TakeOverTimeout = orDefault(cfg.TakeOverTimeout, defaultTakeOverTimeout)
	cfg.MaxConns = orDefault(cfg.MaxConns, defaultMaxConns)
	db := &DB{Config: cfg, target: t}
	if t.mysql == nil {
		err = db.openSQLite()
	} else {
		err = db.openMySQL()
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if db.Dialect, err = db.detect(ctx); err != nil {
		return nil, closeAfter(db.Pool, Explain(err, "connect", t.name))
	}
	if db.reads, err = db.openReads(); err != nil {
		return nil, closeAfter(db.Pool, err)
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

func closeAfter(db *sql.DB, err error) error {
	if cerr := db.Close(); cerr != nil {
		return fmt.Errorf("%w (closing: %w)", err, cerr)
	}
	return err
}

func (db *DB) openMySQL() (err error) {
	db.Pool, err = db.mysqlPool(nil)
	return err
}

// openReads opens a pool of connections that only read.
func (db *DB) openReads() (*sql.DB, error) {
	if db.target.mysql == nil {
		return db.Pool, nil
	}
	return db.mysqlPool(db.Dialect.reading)
}

// mysqlPool opens a pool of connections with session variables.
func (db *DB) mysqlPool(variables map[string]string) (*sql.DB, error) {
	connector, err := db.mysqlConnector(variables)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

func (db *DB) mysqlConnector(variables map[string]string) (driver.Connector, error) {
	cfg := db.target.mysql.Clone()
	if cfg.Params == nil {
		cfg.Params = make(map[string]string)
	}
	ours := maps.Clone(sessionVariables)
	maps.Copy(ours, variables)
	// Names of variables do not depend on case, so another spelling of one of
	// ours would act beside it.
	maps.DeleteFunc(cfg.Params, func(name, _ string) bool {
		_, set := ours[strings.ToLower(name)]
		return set
	})
	maps.Copy(cfg.Params, ours)
	if err := cfg.Apply(mysql.Charset("utf8mb4", "")); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDSN, db.target.name, err)
	}
	// Affected rows must count rows found, or a re-check that changes nothing
	// would look like a conflict.
	cfg.ClientFoundRows = true
	// One round trip per statement.
	cfg.InterpolateParams = true
	cfg.ParseTime = false
	cfg.MultiStatements = false
	// Lost connections come back as errors; the driver need not log them, too.
	cfg.Logger = &mysql.NopLogger{}
	cfg.Timeout = orDefault(cfg.Timeout, connectTimeout)
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: the options do not fit together", ErrDSN, db.target.name)
	}
	return connector, nil
}

// Connector makes connections for a pool apart from the others. The session
// variables are those of MySQL and MariaDB; SQLite has none.
func (db *DB) Connector(variables map[string]string) (driver.Connector, error) {
	if db.target.mysql == nil {
		return sqliteConnector{db.Pool.Driver(), db.sqliteDSN()}, nil
	}
	return db.mysqlConnector(variables)
}

// sqliteConnector connects to a file. The driver has no connector of its own.
type sqliteConnector struct {
	driver driver.Driver
	dsn    string
}

func (c sqliteConnector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }
func (c sqliteConnector) Driver() driver.Driver                        { return c.driver }

func (db *DB) sqliteDSN() string {
	// Writers queue up (immediate) instead of failing half-way; readers see one
	// state throughout (WAL).
	mode := "rw"
	if db.Config.Create {
		mode = "rwc"
	}
	// As a URI, so that a path may contain a question mark or a hash.
	file := url.URL{Scheme: "file", Path: db.target.path}
	return fmt.Sprintf("%s?mode=%s&_txlock=immediate&_pragma=busy_timeout(%d)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)",
		file.String(), mode, LockWait.Milliseconds())
}

func (db *DB) openSQLite() (err error) {
	if db.Pool, err = sql.Open("sqlite", db.sqliteDSN()); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDSN, db.target.name, err)
	}
	return nil
}

// detect finds out which server this is.
func (db *DB) detect(ctx context.Context) (Dialect, error) {
	if db.target.mysql == nil {
		var version string
		err := db.Pool.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version)
		return sqliteDialect(version), err
	}
	var version string
	if err := db.Pool.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
		return Dialect{}, err
	}
	d := mysqlDialect(version)
	// Servers call the same variables by different names.
	var name, level string
	if err := db.Pool.QueryRowContext(ctx, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('tx_isolation', 'transaction_isolation')").Scan(&name, &level); err != nil {
		return Dialect{}, err
	}
	d.reading[name] = "'REPEATABLE-READ'"
	d.reading[strings.TrimSuffix(name, "isolation")+"read_only"] = "1"
	return d, nil
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
func (db *DB) Close() error { return errors.Join(db.reads.Close(), db.Pool.Close()) }

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
