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
	guardIndex  = "hostsched_one_active_entry_per_host"
	guardColumn = "hostsched_active_host"
)

// guardStatements chooses the form of the guard by server version.
func guardStatements(d sqldb.Dialect) (install, remove string, err error) {
	const expr = "CASE WHEN active = 1 AND complete = 0 THEN host_id END"
	const table = "afe_host_queue_entries"
	switch {
	case d.Server == sqldb.ServerSQLite:
		return "CREATE UNIQUE INDEX " + guardIndex + " ON " + table + " (host_id) WHERE active = 1 AND complete = 0 AND host_id IS NOT NULL",
			"DROP INDEX " + guardIndex, nil
	case d.Server == sqldb.ServerMariaDB && d.AtLeast(10, 3, 3):
		// MariaDB has no functional index: an invisible virtual column stands in.
		return "ALTER TABLE " + table + " ADD COLUMN IF NOT EXISTS " + guardColumn + " INT(11) GENERATED ALWAYS AS (" + expr + ") VIRTUAL INVISIBLE, ADD UNIQUE KEY " + guardIndex + " (" + guardColumn + ")",
			"ALTER TABLE " + table + " DROP KEY " + guardIndex + ", DROP COLUMN " + guardColumn, nil
	case d.Server == sqldb.ServerMySQL && d.AtLeast(8, 0, 13):
		return "CREATE UNIQUE INDEX " + guardIndex + " ON " + table + " ((" + expr + "))",
			"DROP INDEX " + guardIndex + " ON " + table, nil
	}
	return "", "", fmt.Errorf("%w: the guard needs MySQL 8.0.13, MariaDB 10.3.3 or SQLite; this is %s %s", sqldb.ErrServer, d.Server, d.Version)
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

func installGuard(ctx context.Context, db *sqldb.DB) error {
	install, _, err := guardStatements(db.Dialect)
	if err != nil {
		return err
	}
	var host sql.NullInt64
	var n int
	err = db.Pool.QueryRowContext(ctx, "SELECT host_id, COUNT(*) FROM afe_host_queue_entries WHERE active = 1 AND complete = 0 AND host_id IS NOT NULL GROUP BY host_id HAVING COUNT(*) > 1 LIMIT 1").Scan(&host, &n)
	if err == nil {
		return fmt.Errorf("%w: host %d of %s has %d active entries at once; end all but one, then install the guard", sqldb.ErrServer, host.Int64, db.Target(), n)
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return sqldb.Explain(err, "look for hosts with several active entries", db.Target())
	}
	_, err = db.Pool.ExecContext(ctx, install)
	return sqldb.Explain(err, "install the guard index", db.Target())
}

// RemoveGuard drops the guard index.
func RemoveGuard(ctx context.Context, db *sqldb.DB) error {
	_, remove, err := guardStatements(db.Dialect)
	if err != nil {
		return err
	}
	_, err = db.Pool.ExecContext(ctx, remove)
	return sqldb.Explain(err, "remove the guard index", db.Target())
}
