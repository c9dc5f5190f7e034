package schema

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"

	"github.com/hostsched/hostsched/store/sqldb"
)

// set is a series of migrations with a goose table of its own, which records
// the versions.
type set struct {
	folder   string // in the folder of the dialect
	versions string // goose's table
}

// The lab's tables, which only a lab without Autotest gets from us, and our own,
// which every database gets.
var (
	lab = set{"lab", "hostsched_lab_schema"}
	own = set{"own", "hostsched_schema"}
)

// gooseDialect chooses the SQL files and the way goose speaks to its table.
func gooseDialect(d sqldb.Dialect) (folder string, dialect goose.Dialect) {
	if d.Server == sqldb.ServerSQLite {
		return "sqlite", goose.DialectSQLite3
	}
	return "mysql", goose.DialectMySQL
}

func (m set) fs(d sqldb.Dialect) (fs.FS, error) {
	folder, _ := gooseDialect(d)
	return fs.Sub(files, folder+"/"+m.folder)
}

var createTable = regexp.MustCompile(`(?m)^CREATE TABLE IF NOT EXISTS (\w+)`)

// tables are those that the files up to a version create.
func (m set) tables(d sqldb.Dialect, version int64) ([]string, error) {
	dir, err := m.fs(d)
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(dir, "*.sql")
	if err != nil {
		return nil, err
	}
	var tables []string
	for _, name := range names {
		v, err := goose.NumericComponent(name)
		if err != nil {
			return nil, err
		}
		if v > version {
			continue
		}
		text, err := fs.ReadFile(dir, name)
		if err != nil {
			return nil, err
		}
		for _, found := range createTable.FindAllSubmatch(text, -1) {
			tables = append(tables, string(found[1]))
		}
	}
	return tables, nil
}

// recorded reads which version is recorded, and whether a record was ever begun.
func (m set) recorded(ctx context.Context, db *sqldb.DB) (version int64, begun bool, err error) {
	begun, err = db.HasTable(ctx, m.versions)
	if err != nil || !begun {
		return 0, false, err
	}
	var highest sql.NullInt64
	err = db.Pool.QueryRowContext(ctx, "SELECT MAX(version_id) FROM "+m.versions).Scan(&highest)
	return highest.Int64, true, sqldb.Explain(err, "read the schema version", db.Target())
}

// runUp runs the files that are not recorded.
func (s *session) runUp(ctx context.Context, m set) error {
	s.table = m.versions
	if err := s.beginRecord(ctx, m); err != nil {
		return s.explain(ctx, err, "create table "+m.versions)
	}
	dropped, err := s.someDropped(ctx, m)
	if err != nil {
		return err
	}
	if dropped {
		if err := s.runFiles(ctx, m, func(p *goose.Provider) error { _, err := p.Up(ctx); return err }, goose.WithDisableVersioning(true)); err != nil {
			return err
		}
	}
	return s.runFiles(ctx, m, func(p *goose.Provider) error { _, err := p.Up(ctx); return err })
}

// runDown drops what any file creates, recorded or not, and the record last of
// all: whatever stops it leaves a record, from which Up or Down can tell whose
// tables the others are.
func (s *session) runDown(ctx context.Context, m set) error {
	_, begun, err := m.recorded(ctx, s.db)
	if err != nil || !begun {
		return err
	}
	err = s.runFiles(ctx, m, func(p *goose.Provider) error { _, err := p.DownTo(ctx, 0); return err }, goose.WithDisableVersioning(true))
	if err != nil {
		return err
	}
	s.table = m.versions
	_, err = s.pool.ExecContext(ctx, "DROP TABLE IF EXISTS "+m.versions)
	return s.explain(ctx, err, "drop table "+m.versions)
}

// someDropped tells whether tables are missing although their version is
// recorded: somebody dropped them, or a Down was stopped. All files can be run
// again then.
func (s *session) someDropped(ctx context.Context, m set) (bool, error) {
	version, _, err := m.recorded(ctx, s.db)
	if err != nil {
		return false, err
	}
	tables, err := m.tables(s.db.Dialect, version)
	if err != nil {
		return false, err
	}
	there, err := tablesThere(ctx, s.db, tables)
	return len(there) < len(tables), err
}

// beginRecord creates goose's table with the version 0, which goose wants in it.
// Goose does both, too, but it does not continue if it was stopped in between.
func (s *session) beginRecord(ctx context.Context, m set) error {
	_, dialect := gooseDialect(s.db.Dialect)
	store, err := database.NewStore(dialect, m.versions)
	if err != nil {
		return err
	}
	there, err := s.db.HasTable(ctx, m.versions)
	if err != nil {
		return err
	}
	if !there {
		if err := store.CreateVersionTable(ctx, s.pool); err != nil {
			return err
		}
		s.wrote = true
	}
	versions, err := store.ListMigrations(ctx, s.pool)
	if err != nil || len(versions) > 0 {
		return err
	}
	return store.Insert(ctx, s.pool, database.InsertRequest{Version: 0})
}

// runFiles gives a set's files to goose.
func (s *session) runFiles(ctx context.Context, m set, run func(*goose.Provider) error, options ...goose.ProviderOption) error {
	dir, err := m.fs(s.db.Dialect)
	if err != nil {
		return err
	}
	_, dialect := gooseDialect(s.db.Dialect)
	statements := &statementLog{Handler: slog.DiscardHandler}
	p, err := goose.NewProvider(dialect, s.pool, dir, append(options, goose.WithTableName(m.versions),
		goose.WithDisableGlobalRegistry(true), goose.WithSlog(slog.New(statements)), goose.WithVerbose(true))...)
	if err != nil {
		return fmt.Errorf("prepare the migration of %s: %w", s.db.Target(), err)
	}
	err = run(p)
	s.table = statements.table
	s.wrote = s.wrote || statements.logged > 1
	var failed *goose.PartialError
	if errors.As(err, &failed) {
		return s.explain(ctx, failed.Err, "run migration "+m.folder+"/"+failed.Failed.Source.Path)
	}
	return s.explain(ctx, err, "migrate")
}

// statementLog is where goose logs each statement before it runs it. It keeps
// the table that was named last, because goose's errors name none.
type statementLog struct {
	slog.Handler
	table  string
	logged int
}

var tableNamed = regexp.MustCompile(`\b(?:TABLE(?: IF(?: NOT)? EXISTS)?|INTO|UPDATE) (\w+)`)

func (l *statementLog) Enabled(context.Context, slog.Level) bool { return true }

func (l *statementLog) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "statement" {
			return true
		}
		l.logged++
		if found := tableNamed.FindStringSubmatch(a.Value.String()); found != nil {
			l.table = found[1]
		}
		return false
	})
	return nil
}
