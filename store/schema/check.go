package schema

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hostsched/hostsched/store/sqldb"
)

// tableUse lists the columns the scheduler reads and writes. Check tries each
// statement kind on them without touching a row, so that a missing table,
// column or privilege shows at start and not in the middle of a tick.
type tableUse struct {
	table   string
	columns string
	update  string // columns updated, if any
	insert  string // columns inserted, if any
	delete  bool
}

var tablesUsed = []tableUse{
	{table: "afe_users", columns: "id, login"},
	{table: "afe_acl_groups", columns: "id, name"},
	{table: "afe_acl_groups_users", columns: "aclgroup_id, user_id"},
	{table: "afe_acl_groups_hosts", columns: "aclgroup_id, host_id"},
	{table: "afe_labels", columns: "id, name"},
	{table: "afe_hosts_labels", columns: "host_id, label_id"},
	{table: "afe_shards", columns: "id, hostname"},
	{table: "afe_shards_labels", columns: "shard_id, label_id"},
	{table: "afe_hosts", columns: "id, hostname, status, locked, invalid, leased, dirty, protection, shard_id, lock_reason, lock_time, locked_by_id", update: "leased, status, locked, dirty, lock_reason, lock_time, locked_by_id"},
	{table: "afe_jobs", columns: "id, owner, priority, parent_job_id, synch_count, run_verify, run_reset, reboot_before, created_on"},
	{table: "afe_jobs_dependency_labels", columns: "job_id, label_id"},
	{table: "afe_job_keyvals", columns: "id, job_id, `key`, value"},
	{table: "afe_host_queue_entries", columns: "id, job_id, host_id, meta_host, status, active, complete, aborted, execution_subdir", update: "host_id, status, active, complete, aborted, execution_subdir"},
	{table: "afe_ineligible_host_queues", columns: "job_id, host_id", insert: "job_id, host_id"},
	{table: "afe_special_tasks", columns: "id, host_id, task, queue_entry_id, requested_by_id, is_active, is_complete, time_requested", insert: "host_id, task, queue_entry_id, requested_by_id, time_requested"},
	{table: "hostsched_fence", columns: fenceColumns + ", shard_id, layout, lane, cluster_name, pause_reason, paused_by, paused_at", update: "epoch, token, etcd_cluster, holder, taken_at, ticks, last_write, session_id, session_peer, layout, shard_id, cluster_name, pause_reason, paused_by, paused_at", insert: fenceColumns},
	{table: "hostsched_terms", columns: "shard, epoch, token, holder, began, ended, planned, cause, ticks, assignments", update: "ended, planned, cause, ticks, assignments", insert: "shard, epoch, token, holder, began, ended, planned, cause, ticks, assignments", delete: true},
	{table: "hostsched_audit", columns: "id, at, who, action, subject, detail", insert: "at, who, action, subject, detail", delete: true},
	{table: "afe_aborted_host_queue_entries", columns: "queue_entry_id", insert: "queue_entry_id, aborted_by_id, aborted_on"},
	{table: "hostsched_hosts", columns: "host_id, lock_until, lock_time, locked_by_id, drain_since, drain_by, drain_reason, drain_deadline, drain_abort", update: "lock_until, lock_time, locked_by_id, drain_since, drain_by, drain_reason, drain_deadline, drain_abort"},
	{table: "hostsched_host_epochs", columns: "host_id, bad_since, bad_reason"},
	{table: "hostsched_events", columns: "id, at", insert: "at, kind, shard, who, subject, reason, host_id, job_id, entry_id", delete: true},
}

// fenceColumns are those without default.
const fenceColumns = "shard, epoch, token, etcd_cluster, holder, taken_at, ticks, last_write, session_id, session_peer"

// sharedTables are used where several shards share a database.
var sharedTables = []tableUse{
	{table: "afe_hosts", columns: "id, shard_id", update: "shard_id"},
	{table: "hostsched_released_labels", columns: "label_id, shard_id"},
	{table: "hostsched_shard_databases", columns: "shard_id, dsn"},
}

var staticLabelTables = []tableUse{
	{table: "afe_static_labels", columns: "id, name"},
	{table: "afe_static_hosts_labels", columns: "host_id, staticlabel_id"},
	{table: "afe_replaced_labels", columns: "label_id"},
}

// Use says what a replica will use beyond what every one does.
type Use struct {
	StaticLabels bool
	// Shared is true where several shards share the database.
	Shared bool
}

// Check verifies the schema version, that the server and the engines of its tables
// allow what will be done, and that every table and column that will be used exists
// and may be used by this user. It writes nothing.
func Check(ctx context.Context, db *sqldb.DB, use Use) error {
	if err := checkVersion(ctx, db); err != nil {
		return err
	}
	if err := requireWhole(ctx, db); err != nil {
		return err
	}
	if err := checkServer(ctx, db, db.Pool); err != nil {
		return err
	}
	tables := slices.Clone(tablesUsed)
	if use.StaticLabels {
		tables = append(tables, staticLabelTables...)
	}
	if use.Shared {
		tables = append(tables, sharedTables...)
	}
	for _, t := range tables {
		if err := checkTable(ctx, db, t); err != nil {
			return err
		}
	}
	return nil
}

// changedByCommands are tables that only commands change, beside those of tablesUsed
// and hostsched's own.
var changedByCommands = []string{"afe_shards", "afe_shards_labels"}

// changedTables are all tables that anything of hostsched changes.
func changedTables(d sqldb.Dialect) ([]string, error) {
	changed, err := own.tables(d, SchemaVersion)
	for _, t := range slices.Concat(tablesUsed, sharedTables) {
		if t.update != "" || t.insert != "" || t.delete {
			changed = append(changed, t.table)
		}
	}
	return append(changed, changedByCommands...), err
}

// checkServer refuses a server that cannot take our changes as a whole or not at
// all.
func checkServer(ctx context.Context, db *sqldb.DB, q sqldb.Querier) error {
	if db.Dialect.Server == sqldb.ServerSQLite {
		return nil
	}
	if err := db.CheckWrites(ctx, q); err != nil {
		return err
	}
	changed, err := changedTables(db.Dialect)
	if err != nil {
		return err
	}
	var wrong []string
	err = sqldb.EachRow(ctx, q, "SELECT TABLE_NAME, ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND ENGINE <> 'InnoDB' ORDER BY TABLE_NAME", nil, func(scan sqldb.Scanner) error {
		var table, engine string
		err := scan(&table, &engine)
		if slices.ContainsFunc(changed, func(name string) bool { return strings.EqualFold(name, table) }) {
			wrong = append(wrong, table+" is "+engine)
		}
		return err
	})
	if err != nil {
		return sqldb.Explain(err, "ask for the engines of tables", db.Target())
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%w: in %s %s; InnoDB is needed, because other engines do not take a change back: ALTER TABLE ... ENGINE=InnoDB", sqldb.ErrServer, db.Target(), strings.Join(wrong, ", "))
	}
	return nil
}

// requireWhole refuses a database into which a lab was copied by half.
func requireWhole(ctx context.Context, db *sqldb.DB) error {
	from, err := halfCopied(ctx, db)
	if err == nil && from != "" {
		err = fmt.Errorf("%w: %s has half of the lab of %s; run 'hostsched migrate copy' again, it begins anew", sqldb.ErrSchema, db.Target(), from)
	}
	return err
}

// checkVersion refuses to work with a version of our tables that does not fit.
// The next one fits if it says so: a rolling upgrade migrates while replicas of
// the old version continue.
func checkVersion(ctx context.Context, db *sqldb.DB) error {
	have, _, err := own.recorded(ctx, db)
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

func checkTable(ctx context.Context, db *sqldb.DB, t tableUse) error {
	statements := []struct{ verb, text string }{
		{"read", "SELECT " + t.columns + " FROM " + t.table + " WHERE 1=0"},
	}
	if t.update != "" {
		var sets []string
		for c := range strings.SplitSeq(t.update, ", ") {
			sets = append(sets, c+"="+c)
		}
		statements = append(statements, struct{ verb, text string }{"update", "UPDATE " + t.table + " SET " + strings.Join(sets, ", ") + " WHERE 1=0"})
	}
	if t.insert != "" {
		statements = append(statements, struct{ verb, text string }{"insert into", "INSERT INTO " + t.table + " (" + t.insert + ") SELECT " + t.insert + " FROM " + t.table + " WHERE 1=0"})
	}
	if t.delete {
		statements = append(statements, struct{ verb, text string }{"delete from", "DELETE FROM " + t.table + " WHERE 1=0"})
	}
	for _, s := range statements {
		if _, err := db.Pool.ExecContext(ctx, s.text); err != nil {
			return sqldb.Explain(err, fmt.Sprintf("%s table %s", s.verb, t.table), db.Target())
		}
	}
	return nil
}
