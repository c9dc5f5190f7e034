package sqldb

import (
	"context"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of waits on the server, in whole seconds because MySQL knows no less.
const (
	// LockWait is how long one statement of a leader waits for a row lock before
	// the takeover looks for the reason.
	LockWait = time.Second
	// waitOfOthers is how long statements outside a term wait for a lock.
	waitOfOthers = 10 * time.Second
	// waitOfReaders is how long a reader waits for a table that is being changed. A
	// leader who gave up sooner would lose its term by it, and others would wait, too.
	waitOfReaders = 25 * time.Second
	// idleEnd is after how long the server ends a connection that nobody uses any
	// more, because its process was killed or cut off.
	idleEnd = 10 * time.Minute
)

// sessionVariables decide how a statement acts, so they depend neither on the
// server's defaults nor on the DSN. They are sent once per connection, as far as
// the server knows them: some are MySQL's or MariaDB's alone.
var sessionVariables = map[string]string{
	// Statements outside transactions must last, and the end of a transaction must
	// be no more than that.
	"autocommit":            "1",
	"completion_type":       "0",
	"tx_isolation":          "'REPEATABLE-READ'",
	"transaction_isolation": "'REPEATABLE-READ'",
	"tx_read_only":          "0",
	"transaction_read_only": "0",
	// Transactions check again what they change, so that a row which changed since
	// their snapshot is no error.
	"innodb_snapshot_isolation": "0",
	// A column that is too narrow must refuse a text instead of cutting it.
	"sql_mode": "'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'",
	// A removal may look for rows without an index.
	"sql_safe_updates": "0",
	// Times are written in the zone of the server by Autotest's other programs.
	"time_zone": "@@global.time_zone",
	// Keys must hold.
	"foreign_key_checks":      "1",
	"unique_checks":           "1",
	"check_constraint_checks": "1",
	// Queries must return all rows, also large ones, sorted by the whole value.
	"sql_select_limit": strconv.FormatUint(math.MaxUint64, 10),
	"sql_big_selects":  "1",
	"max_join_size":    strconv.FormatUint(math.MaxUint64, 10),
	"max_sort_length":  "1024",
	"sql_auto_is_null": "0",
	// New tables are InnoDB's, and their texts compare as MariaDB's and MySQL's own
	// defaults do.
	"default_storage_engine":   "InnoDB",
	"character_set_collations": "''",
	"sql_if_exists":            "0",
	// Statements are bounded by our own contexts. A bound of the server's would come
	// as an error that looks like somebody's KILL.
	"max_statement_time": "0",
	"max_execution_time": "0",
	// Waits for locks are ours to bound.
	"innodb_lock_wait_timeout": seconds(waitOfOthers),
	"lock_wait_timeout":        seconds(waitOfOthers),
	// The server must not end connections between two statements.
	"wait_timeout":                      seconds(idleEnd),
	"idle_transaction_timeout":          "0",
	"idle_readonly_transaction_timeout": "0",
	"idle_write_transaction_timeout":    "0",
	// Times of tables are those of now.
	"information_schema_stats_expiry": "0",
}

// readingVariables are those of connections that only read, in transactions that
// they begin by themselves and in which all queries see one state.
var readingVariables = map[string]string{
	"autocommit":            "0",
	"tx_read_only":          "1",
	"transaction_read_only": "1",
	"lock_wait_timeout":     seconds(waitOfReaders),
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d.Seconds())) }

// unbounded begins a query that the server must not cut short before we know which
// server it is. Only MariaDB reads what is in it; MySQL bounds SELECT alone.
const unbounded = "/*M! SET STATEMENT max_statement_time = 0 FOR */ "

// probeVariables are what even the query for the server's variables depends on,
// and what all servers know.
var probeVariables = map[string]string{
	"autocommit":       sessionVariables["autocommit"],
	"sql_select_limit": sessionVariables["sql_select_limit"],
	"sql_big_selects":  sessionVariables["sql_big_selects"],
	"max_join_size":    sessionVariables["max_join_size"],
}

// Variables that only servers of one kind have, in all versions that have what the
// statements of hostsched need. The text of a version tells nothing of that: a
// server can be told to show another, and some show one of MySQL for old clients.
const (
	mariaDBOnly = "aria_block_size"
	mariaDB103  = "system_versioning_asof"  // MariaDB 10.3.4: invisible columns
	mysql8013   = "sql_require_primary_key" // MySQL 8.0.13: keys over expressions
)

// serverVariables are the values of those global variables that we ask for, by
// name, as far as the server has them.
type serverVariables map[string]string

func readVariables(ctx context.Context, q Querier) (serverVariables, error) {
	names := slices.Collect(maps.Keys(sessionVariables))
	names = append(names, mariaDBOnly, mariaDB103, mysql8013, "version")
	have := serverVariables{}
	err := EachRow(ctx, q, unbounded+"SHOW GLOBAL VARIABLES WHERE Variable_name IN ('"+strings.Join(names, "', '")+"')", nil, func(scan Scanner) error {
		var name, value string
		err := scan(&name, &value)
		have[strings.ToLower(name)] = value
		return err
	})
	return have, err
}

func (v serverVariables) has(name string) bool {
	_, known := v[name]
	return known
}

// known leaves out what the server does not know.
func (v serverVariables) known(variables map[string]string) map[string]string {
	out := maps.Clone(variables)
	maps.DeleteFunc(out, func(name, _ string) bool { return !v.has(name) })
	return out
}
