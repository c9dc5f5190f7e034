package schema

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/hostsched/hostsched/store/sqldb"
	"github.com/pressly/goose/v3"
)

//go:embed lab.sql
var labSchema string

//go:embed own.sql
var ownSchema string

//go:embed own_v2.sql
var ownSchema2 string

//go:embed own_v3.sql
var ownSchema3 string

// ErrLocked means that another migrator is at work.
var ErrLocked = errors.New("another migrator holds the lock")

// labSchemas and ownSchemas are the migrations of each set, in order of their
// versions.
var (
	labSchemas = []string{labSchema}
	ownSchemas = append([]string{ownSchema, ownSchema2, ownSchema3}, newerSchemas...)
)

// Two sets of migrations, each with a goose table of its own: the lab's tables,
// which only a lab without Autotest gets from us, and our own, which every
// database gets.
const (
	labVersions = "hostsched_lab_schema"
	ownVersions = "hostsched_schema"
	// migrateLockName and migrateLockWait: how two migrators keep apart.
	migrateLockName = "hostsched_migrate"
	migrateLockWait = 10 * time.Second
)

// Options choose what a migration does beyond the default.
type Options struct {
	// Guard installs the unique index that allows one active, incomplete entry
	// per host. On a database we create it is always installed.
	Guard bool
	// Lab makes Down also drop the lab's tables, if we created them.
	Lab bool
}

// Status tells what is there.
type Status struct {
	Server string `json:"server"`
	// Schema is the version of our own tables, 0 if there are none.
	Schema int64 `json:"schema"`
	// Wanted is the version this binary needs.
	Wanted int64 `json:"wanted"`
	// Lab says who created the lab's tables: "ours", "autotest" or "none".
	Lab   string `json:"lab"`
	Guard bool   `json:"guard"`
}

// Up brings the schema up to SchemaVersion. In a database that already has
// Autotest's tables it only adds our own.
func Up(ctx context.Context, db *sqldb.DB, opts Options) (Status, error) {
	err := withMigrationLock(ctx, db, func() error { return migrateUp(ctx, db, opts) })
	if err != nil {
		return Status{}, err
	}
	return ReadStatus(ctx, db)
}

func migrateUp(ctx context.Context, db *sqldb.DB, opts Options) error {
	st, err := ReadStatus(ctx, db)
	if err != nil {
		return err
	}
	if st.Schema > SchemaVersion {
		return fmt.Errorf("%w: %s has schema version %d, this binary knows up to %d; use a newer hostsched", sqldb.ErrSchema, db.Target(), st.Schema, SchemaVersion)
	}
	if st.Lab != "autotest" {
		if err := runUp(ctx, db, labVersions, labSchemas); err != nil {
			return err
		}
	}
	if err := runUp(ctx, db, ownVersions, ownSchemas); err != nil {
		return err
	}
	if st.Guard || (st.Lab == "autotest" && !opts.Guard) {
		return nil
	}
	return installGuard(ctx, db)
}

// Down removes the guard and our own tables and, if asked to, the lab's
// tables that we created. It never touches Autotest's own.
func Down(ctx context.Context, db *sqldb.DB, opts Options) (Status, error) {
	err := withMigrationLock(ctx, db, func() error { return migrateDown(ctx, db, opts) })
	if err != nil {
		return Status{}, err
	}
	return ReadStatus(ctx, db)
}

func migrateDown(ctx context.Context, db *sqldb.DB, opts Options) error {
	st, err := ReadStatus(ctx, db)
	if err != nil {
		return err
	}
	if opts.Lab && st.Lab != "ours" {
		return fmt.Errorf("%w: the lab tables of %s are not ours (%s); nothing was dropped", sqldb.ErrServer, db.Target(), st.Lab)
	}
	if st.Guard {
		if err := RemoveGuard(ctx, db); err != nil {
			return err
		}
	}
	if st.Schema > 0 {
		if err := runDown(ctx, db, ownVersions, ownSchemas); err != nil {
			return err
		}
	}
	if !opts.Lab {
		return nil
	}
	return runDown(ctx, db, labVersions, labSchemas)
}

// ReadStatus reads what is there. It writes nothing.
func ReadStatus(ctx context.Context, db *sqldb.DB) (Status, error) {
	st := Status{Server: db.Server(), Wanted: SchemaVersion, Lab: "none"}
	var err error
	if st.Schema, err = schemaVersion(ctx, db, ownVersions); err != nil {
		return st, err
	}
	lab, err := db.HasTable(ctx, "afe_hosts")
	if err != nil {
		return st, err
	}
	if lab {
		st.Lab = "autotest"
		ours, err := schemaVersion(ctx, db, labVersions)
		if err != nil {
			return st, err
		}
		if ours > 0 {
			st.Lab = "ours"
		}
		if st.Guard, err = HasGuard(ctx, db); err != nil {
			return st, err
		}
	}
	return st, nil
}

// checkVersion refuses to work with a version of our tables that does not fit.
// The next one fits if it says so: a rolling upgrade migrates while replicas of
// the old version go on.
func checkVersion(ctx context.Context, db *sqldb.DB) error {
	have, err := schemaVersion(ctx, db, ownVersions)
	switch {
	case err != nil:
		return err
	case have == 0:
		return fmt.Errorf("%w: %s has no hostsched tables; run 'hostsched migrate up'", sqldb.ErrSchema, db.Target())
	case have < SchemaVersion:
		return fmt.Errorf("%w: %s has schema version %d, this binary needs %d; run 'hostsched migrate up'", sqldb.ErrSchema, db.Target(), have, SchemaVersion)
	case have == SchemaVersion:
		return nil
	case have > SchemaVersion+1:
		return fmt.Errorf("%w: %s has schema version %d, this binary needs %d; use a newer hostsched", sqldb.ErrSchema, db.Target(), have, SchemaVersion)
	}
	var oldest int64
	if err := db.Pool.QueryRowContext(ctx, "SELECT value FROM hostsched_facts WHERE name = 'oldest'").Scan(&oldest); err != nil {
		return sqldb.Explain(err, "read how old a binary may be", db.Target())
	}
	if oldest > SchemaVersion {
		return fmt.Errorf("%w: %s has schema version %d, for binaries of version %d and later; this one has %d; use a newer hostsched", sqldb.ErrSchema, db.Target(), have, oldest, SchemaVersion)
	}
	return nil
}

// schemaVersion reads a goose table, 0 if there is none.
func schemaVersion(ctx context.Context, db *sqldb.DB, table string) (int64, error) {
	exists, err := db.HasTable(ctx, table)
	if err != nil || !exists {
		return 0, err
	}
	var version sql.NullInt64
	err = db.Pool.QueryRowContext(ctx, "SELECT MAX(version_id) FROM "+table).Scan(&version)
	return version.Int64, sqldb.Explain(err, "read the schema version", db.Target())
}

func runUp(ctx context.Context, db *sqldb.DB, table string, schemas []string) error {
	p, err := provider(db, table, schemas)
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return sqldb.Explain(err, "create tables", db.Target())
}

func runDown(ctx context.Context, db *sqldb.DB, table string, schemas []string) error {
	p, err := provider(db, table, schemas)
	if err != nil {
		return err
	}
	if _, err := p.DownTo(ctx, 0); err != nil {
		return sqldb.Explain(err, "drop tables", db.Target())
	}
	_, err = db.Pool.ExecContext(ctx, "DROP TABLE "+table)
	return sqldb.Explain(err, "drop table "+table, db.Target())
}

// provider wraps schema texts as goose migrations, the first as version 1.
func provider(db *sqldb.DB, table string, schemas []string) (*goose.Provider, error) {
	var migrations []*goose.Migration
	for i, schema := range schemas {
		up := statements(expand(db.Dialect, schema))
		migrations = append(migrations, goose.NewGoMigration(int64(i+1), &goose.GoFunc{RunDB: runAll(up)}, &goose.GoFunc{RunDB: runAll(drops(up))}))
	}
	dialect := goose.DialectMySQL
	if db.Dialect.Server == sqldb.ServerSQLite {
		dialect = goose.DialectSQLite3
	}
	p, err := goose.NewProvider(dialect, db.Pool, nil, goose.WithTableName(table),
		goose.WithGoMigrations(migrations...), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, fmt.Errorf("prepare migration of %s: %w", db.Target(), err)
	}
	return p, nil
}

func runAll(texts []string) func(context.Context, *sql.DB) error {
	return func(ctx context.Context, pool *sql.DB) error {
		for _, text := range texts {
			if _, err := pool.ExecContext(ctx, text); err != nil {
				return fmt.Errorf("%w, in: %s", err, firstLine(text))
			}
		}
		return nil
	}
}

// statements splits a schema text, which has no semicolons but those that end
// statements, and drops its comments.
func statements(text string) []string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		if !strings.HasPrefix(line, "--") {
			lines = append(lines, line)
		}
	}
	var out []string
	for s := range strings.SplitSeq(strings.Join(lines, "\n"), ";") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// drops undoes CREATE TABLE statements in reverse order. Columns added later go
// with their table: migrations are only undone all together.
func drops(up []string) []string {
	var out []string
	for i := len(up) - 1; i >= 0; i-- {
		if rest, ok := strings.CutPrefix(up[i], "CREATE TABLE "); ok {
			name, _, _ := strings.Cut(rest, " ")
			out = append(out, "DROP TABLE "+name)
		}
	}
	return out
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// withMigrationLock keeps two migrators apart: by a named lock on the server,
// or by a locked file beside an SQLite database.
func withMigrationLock(ctx context.Context, db *sqldb.DB, migrate func() error) error {
	if db.Dialect.Server == sqldb.ServerSQLite {
		return withFileLock(ctx, db, migrate)
	}
	conn, err := db.Pool.Conn(ctx)
	if err != nil {
		return sqldb.Explain(err, "connect", db.Target())
	}
	// The lock is per server, not per database: add the database's name.
	name := migrateLockName + "." + db.Database()
	var got sql.NullInt64
	err = conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, ?)", name, int(migrateLockWait.Seconds())).Scan(&got)
	if err != nil {
		return errors.Join(sqldb.Explain(err, "lock for migration", db.Target()), conn.Close())
	}
	if got.Int64 != 1 {
		return errors.Join(fmt.Errorf("%w on %s; wait for it to finish and try again", ErrLocked, db.Target()), conn.Close())
	}
	err = migrate()
	_, unlockErr := conn.ExecContext(context.WithoutCancel(ctx), "DO RELEASE_LOCK(?)", name)
	return errors.Join(err, unlockErr, conn.Close())
}

func withFileLock(ctx context.Context, db *sqldb.DB, migrate func() error) (err error) {
	path := db.Path() + ".migrate.lock"
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return fmt.Errorf("%w: lock for migration: %w", sqldb.ErrPrivilege, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := waitForFileLock(ctx, f); err != nil {
		return err
	}
	return migrate()
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

// expand replaces the tokens of a schema text.
func expand(d sqldb.Dialect, text string) string {
	pk, ci, engine := "INT(11) NOT NULL AUTO_INCREMENT PRIMARY KEY", "", "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"
	fence := "ALTER TABLE hostsched_fence ADD COLUMN lane INTEGER NOT NULL DEFAULT 0, DROP PRIMARY KEY, ADD PRIMARY KEY (shard, lane)"
	if d.Server == sqldb.ServerSQLite {
		pk, ci, engine = "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT", " COLLATE NOCASE", ""
		fence = "ALTER TABLE hostsched_fence ADD COLUMN lane INTEGER NOT NULL DEFAULT 0"
	}
	return strings.NewReplacer("@PK@", pk, " @CI@", ci, "@ENGINE@", engine, "@FENCE_BY_LANE@", fence).Replace(text)
}

// UpTo creates the lab's tables and our own as of a former version.
func UpTo(ctx context.Context, db *sqldb.DB, version int) error {
	if err := runUp(ctx, db, labVersions, labSchemas); err != nil {
		return err
	}
	return runUp(ctx, db, ownVersions, ownSchemas[:version])
}
