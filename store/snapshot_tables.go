package store

import (
	"strings"
	"time"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// tableTimes says when somebody last committed a change to each table. MySQL and
// MariaDB keep these times in memory, in whole seconds, so looking at all of them
// is one cheap query. SQLite has no such times.
type tableTimes struct {
	now   int64     // seconds since 1970, by the database's clock
	asked time.Time // when, by this machine's
	// kept is true if the server keeps times at all.
	kept  bool
	times map[string]int64 // 0 if the server does not know
}

// tableMarks says what the time of each table was when the table was read.
type tableMarks struct {
	of map[string]tableMark
	// now and asked are those of the times.
	now   int64
	asked time.Time
	// all is when every table was read, whatever the times said.
	all int64
}

// tableMark is what a table's time was when the table was read. It is sure if no
// later commit can have the same time.
type tableMark struct {
	time int64
	sure bool
}

const (
	// commitLag is how many seconds after a commit its time is surely in the past,
	// so that any later commit has another one. One second would do; the other
	// makes up for a server that shows a commit late.
	commitLag = 2
	// readAllEvery is after how many seconds every table is read again, whatever
	// the times say, because a server forgets them when it is restarted.
	readAllEvery = 60
)

// tablesRead are the tables that snapshots are made of.
var tablesRead = []string{
	"afe_acl_groups", "afe_acl_groups_hosts", "afe_acl_groups_users", "afe_host_queue_entries", "afe_hosts", "afe_hosts_labels",
	"afe_job_keyvals", "afe_jobs", "afe_jobs_dependency_labels", "afe_labels", "afe_replaced_labels", "afe_shards", "afe_shards_labels",
	"afe_special_tasks", "afe_static_hosts_labels", "afe_static_labels", "afe_users", "hostsched_agent_hosts", "hostsched_agents", "hostsched_host_epochs", "hostsched_hosts", "hostsched_released_labels",
}

// readTableTimes asks for the times, and for what the fence says about
// scheduling; a shard that never was led has no fence. It comes before all other
// reads, so that a commit after it shows in the next snapshot at the latest.
func readTableTimes(r *sqldb.Reader, scope Scope, query func(join string) string) (tableTimes, scheduler.Basis) {
	basis := scheduler.Basis{Shared: scope.Shared}
	t := tableTimes{asked: time.Now(), kept: r.Dialect.HasTableTimes, times: make(map[string]int64, len(tablesRead))}
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
	return t, basis
}

// What the times may be joined with: the fence of a shard, or nothing alike.
const (
	fenceOfShard = " LEFT JOIN hostsched_fence f ON f.shard = ? AND f.lane = 0"
	noFence      = " LEFT JOIN (SELECT NULL AS layout, NULL AS pause_reason) f ON 1=0"
)

// changedSince tells whether one of the tables may have changed since it was
// read.
func (t tableTimes) changedSince(marks tableMarks, tables ...string) bool {
	if !t.kept || t.readsAll(marks) {
		return true
	}
	for _, table := range tables {
		changed, known := t.times[table]
		mark, read := marks.of[table]
		if !known || !read || !mark.sure || mark.time != changed {
			return true
		}
	}
	return false
}

// readsAll tells whether every table is to be read again.
func (t tableTimes) readsAll(marks tableMarks) bool {
	return t.now-marks.all >= readAllEvery || t.wentBack(marks)
}

// wentBack tells whether the database's clock may have gone back since the marks were made:
// then a commit may have the time of one before. Seconds are whole ones, so one may be missing.
func (t tableTimes) wentBack(marks tableMarks) bool {
	return time.Duration(t.now-marks.now)*time.Second < t.asked.Sub(marks.asked)-time.Second
}

// markRead returns the marks after a snapshot that read every table that may have
// changed.
func (t tableTimes) markRead(marks tableMarks) tableMarks {
	next := tableMarks{of: make(map[string]tableMark, len(t.times)), now: t.now, asked: t.asked, all: marks.all}
	for table, changed := range t.times {
		next.of[table] = tableMark{time: changed, sure: changed <= t.now-commitLag}
	}
	if t.readsAll(marks) {
		next.all = t.now
	}
	return next
}

// timesQuery is what readTableTimes asks a server: what time it is, in seconds
// since 1970, the names of tables with the times of the last commit to them, if
// the server keeps any, and what is joined.
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
