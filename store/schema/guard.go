package schema

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/hostsched/hostsched/store/sqldb"
)

// The guard is the database's own refusal: a unique index over the host of
// active, incomplete entries. Autotest's SELECT * does not see it.
const (
	guardTable  = "afe_host_queue_entries"
	guardIndex  = "hostsched_one_active_entry_per_host"
	guardColumn = "hostsched_active_host"
)

// guardStatements chooses the form of the guard by the kind of server. They are
// ALTER TABLE where possible: CREATE INDEX needs a privilege of its own. On
// MariaDB the column and its key are changed one after the other, because
// together they would copy the table, which holds up everybody who writes to
// it. Each statement may be repeated.
func guardStatements(d sqldb.Dialect) (install, remove []string) {
	const expr = "CASE WHEN active = 1 AND complete = 0 THEN host_id END"
	const alter = "ALTER TABLE " + guardTable + " "
	switch d.Server {
	case sqldb.ServerSQLite:
		return []string{"CREATE UNIQUE INDEX " + guardIndex + " ON " + guardTable + " (host_id) WHERE active = 1 AND complete = 0 AND host_id IS NOT NULL"},
			[]string{"DROP INDEX IF EXISTS " + guardIndex}
	case sqldb.ServerMariaDB:
		// MariaDB has no functional index: an invisible virtual column stands in.
		return []string{
				alter + "ADD COLUMN IF NOT EXISTS " + guardColumn + " INT(11) GENERATED ALWAYS AS (" + expr + ") VIRTUAL INVISIBLE, ALGORITHM=INSTANT",
				alter + "ADD UNIQUE KEY IF NOT EXISTS " + guardIndex + " (" + guardColumn + "), ALGORITHM=INPLACE, LOCK=NONE",
			}, []string{
				alter + "DROP KEY IF EXISTS " + guardIndex + ", ALGORITHM=INPLACE, LOCK=NONE",
				alter + "DROP COLUMN IF EXISTS " + guardColumn + ", ALGORITHM=INSTANT",
			}
	}
	return []string{alter + "ADD UNIQUE KEY " + guardIndex + " ((" + expr + "))"}, []string{alter + "DROP KEY " + guardIndex}
}

// HasGuard tells whether the guard index is there.
func HasGuard(ctx context.Context, db *sqldb.DB) (bool, error) {
	query := "SELECT COUNT(*) FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE() AND INDEX_NAME = ?"
	if db.Dialect.Server == sqldb.ServerSQLite {
		query = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'index' AND name = ?"
	}
	var n int
	err := db.Pool.QueryRowContext(ctx, query, guardIndex).Scan(&n)
	return n > 0, sqldb.Explain(err, "look for the guard index", db.Target())
}

func (s *session) installGuard(ctx context.Context) error {
	install, _ := guardStatements(s.db.Dialect)
	s.table = guardTable
	var host sql.NullInt64
	var n int
	err := s.pool.QueryRowContext(ctx, "SELECT host_id, COUNT(*) FROM "+guardTable+" WHERE active = 1 AND complete = 0 AND host_id IS NOT NULL GROUP BY host_id HAVING COUNT(*) > 1 LIMIT 1").Scan(&host, &n)
	if err == nil {
		return fmt.Errorf("%w: host %d of %s has %d active entries at once; end all but one, then install the guard", sqldb.ErrServer, host.Int64, s.db.Target(), n)
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return s.explain(ctx, err, "look for hosts with several active entries")
	}
	for _, text := range install {
		if _, err := s.pool.ExecContext(ctx, text); err != nil {
			return s.explain(ctx, err, "install the guard index")
		}
		s.wrote = true
	}
	return nil
}

// RemoveGuard drops the guard index, if it is there.
func RemoveGuard(ctx context.Context, db *sqldb.DB) error {
	return withSession(ctx, db, nil, func(s *session) error { return s.removeGuard(ctx) })
}

func (s *session) removeGuard(ctx context.Context) error {
	there, err := s.anyGuard(ctx)
	if err != nil || !there {
		return err
	}
	_, remove := guardStatements(s.db.Dialect)
	s.table = guardTable
	for _, text := range remove {
		if _, err := s.pool.ExecContext(ctx, text); err != nil {
			return s.explain(ctx, err, "remove the guard index")
		}
		s.wrote = true
	}
	return nil
}

// anyGuard tells whether the guard is there, or what is left of it after its
// removal was stopped: its column.
func (s *session) anyGuard(ctx context.Context) (bool, error) {
	there, err := HasGuard(ctx, s.db)
	if err != nil || there || s.db.Dialect.Server != sqldb.ServerMariaDB {
		return there, err
	}
	var n int
	err = s.pool.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? AND COLUMN_NAME = ?", guardTable, guardColumn).Scan(&n)
	return n > 0, s.explain(ctx, err, "look for the column of the guard")
}
