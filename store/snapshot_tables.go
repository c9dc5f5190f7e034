package store

import (
	"strings"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// tableTimes tells which tables may have changed since they were read. MySQL and
// MariaDB keep the time of the last commit to each table in memory, in whole
// seconds; looking at all of them is one cheap query. A table counts as
// unchanged if that time is what it was when the table was read, and was past
// by settled then: a commit in the same second would not show. SQLite has no
// such times, so there every table may have changed.
type tableTimes struct {
	now     int64            // seconds since 1970, by the database's clock
	times   map[string]int64 // as looked at last; 0 if never or unknown
	read    map[string]reading
	all     bool // everything is to be read again
	readAll int64
}

// reading is what a table's time was when the table was read.
type reading struct {
	time int64
	sure bool
}

const (
	// settled seconds after a commit its time is no longer the current one. One
	// would do; another makes up for a commit that shows late.
	settled = 2
	// readAllEvery is after how many seconds everything is read again, whatever
	// the times say. The server forgets them when it is restarted.
	readAllEvery = 60
)

// tablesRead are the tables that snapshots are made of.
var tablesRead = []string{
	"afe_acl_groups", "afe_acl_groups_hosts", "afe_acl_groups_users", "afe_host_queue_entries", "afe_hosts", "afe_hosts_labels",
	"afe_job_keyvals", "afe_jobs", "afe_jobs_dependency_labels", "afe_labels", "afe_replaced_labels", "afe_shards", "afe_shards_labels",
	"afe_special_tasks", "afe_static_hosts_labels", "afe_static_labels", "afe_users", "hostsched_released_labels",
}

// look asks for the times, and for what the fence says about scheduling; a shard
// that never was led has no fence. It comes before all other reads: a commit
// after it shows in the next look. (What time it is means when the query began.)
func (t *tableTimes) look(r *sqldb.Reader, scope Scope, query func(join string) string) scheduler.Basis {
	basis := scheduler.Basis{Shared: scope.Shared}
	t.times = make(map[string]int64, len(tablesRead))
	fence, args := noFence, []any(nil)
	if !scope.Bare {
		fence, args = fenceOfShard, []any{scope.Shard.String()}
	}
	r.RowsOf(query(fence), args, func(v sqldb.Row) {
		t.now, basis.Layout, basis.Paused = v.Int(0).N, v.Int(3).N, v.Text(4)
		if name := v.Text(1); name != "" {
			t.times[strings.ToLower(name)] = v.Int(2).N
		}
	})
	if t.read == nil {
		t.read = make(map[string]reading)
	}
	t.all = t.now-t.readAll >= readAllEvery
	return basis
}

// What a table may be joined with: the fence of a shard, or nothing alike.
const (
	fenceOfShard = " LEFT JOIN hostsched_fence f ON f.shard = ? AND f.lane = 0"
	noFence      = " LEFT JOIN (SELECT NULL AS layout, NULL AS pause_reason) f ON 1=0"
)

// stale tells whether one of the tables must be read, and takes it for read.
func (t *tableTimes) stale(r *sqldb.Reader, tables ...string) bool {
	stale := t.all || !r.Dialect.HasTableTimes
	for _, table := range tables {
		time, known := t.times[table]
		last, read := t.read[table]
		if !known || !read || !last.sure || last.time != time {
			stale = true
		}
	}
	for _, table := range tables {
		time := t.times[table]
		t.read[table] = reading{time: time, sure: time <= t.now-settled}
	}
	return stale
}

// done ends a snapshot in which every stale table was read.
func (t *tableTimes) done() {
	if t.all {
		t.readAll = t.now
	}
}

// timesQuery is what look asks a server: what time it is, in seconds since 1970,
// the names of tables with the times of the last commit to them, if the server
// keeps any, and what is joined.
func timesQuery(d sqldb.Dialect) func(join string) string {
	if d.HasTableTimes {
		return mysqlTableTimes
	}
	return sqliteTableTimes
}

func mysqlTableTimes(join string) string {
	return "SELECT UNIX_TIMESTAMP(), TABLE_NAME, UNIX_TIMESTAMP(UPDATE_TIME), layout, pause_reason FROM information_schema.TABLES" + join + " WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME IN ('" + strings.Join(tablesRead, "', '") + "')"
}

func sqliteTableTimes(join string) string {
	return "SELECT CAST(strftime('%s', 'now') AS INTEGER), NULL, NULL, layout, pause_reason FROM (SELECT 1) one" + join
}
