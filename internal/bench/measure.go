package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

// Figures of one size. Times are milliseconds.
type Figures struct {
	Hosts      int     `json:"hosts"`
	Entries    int     `json:"entries"`
	Assigned   int     `json:"assigned"`
	FullTick   float64 `json:"full_tick_ms"`
	Ratio      float64 `json:"full_tick_over_bare_sql"`
	BareSQL    float64 `json:"bare_sql_ms"`
	Snapshot   float64 `json:"snapshot_ms"`
	Plan       float64 `json:"plan_ms"`
	Apply      float64 `json:"apply_ms"`
	Steady     float64 `json:"steady_tick_ms"`
	Idle       float64 `json:"idle_tick_ms"`
	Statements int64   `json:"statements_full_tick"`
	LongestTx  float64 `json:"longest_tx_ms"`
	RSS        float64 `json:"rss_mib"`
}

// churn is the share of hosts freed, and of entries added, before a steady tick.
const churn = 0.05

// bench is one size on one database.
type bench struct {
	db       *store.DB
	lab      *lab.Lab
	leader   *store.Leader
	recorder *scheduler.Recorder
	hosts    int
	entries  int
}

func open(ctx context.Context, server *testserver.MariaDB, name string, hosts, entries int) (*bench, error) {
	dsn, err := server.Create(name)
	if err != nil {
		return nil, err
	}
	b := &bench{hosts: hosts, entries: entries, recorder: scheduler.NewRecorder(nil)}
	if b.db, err = store.Open(ctx, store.Config{DSN: dsn, TxTimeout: time.Minute}); err != nil {
		return nil, err
	}
	if _, err := b.db.Migrate(ctx, store.MigrateOptions{}); err != nil {
		return nil, err
	}
	b.lab, err = lab.Create(ctx, b.db.SQL(), lab.Spec{Seed: 1, Hosts: hosts, Boards: 50, Suites: 100, Entries: entries, MinimumShare: 0.1})
	if err != nil {
		return nil, err
	}
	// What a lab that has run for a while has: fresh statistics.
	_, err = b.db.SQL().ExecContext(ctx, "ANALYZE TABLE afe_hosts, afe_host_queue_entries, afe_jobs, afe_jobs_dependency_labels, afe_hosts_labels, afe_acl_groups_hosts, afe_special_tasks")
	return b, err
}

func (b *bench) close(ctx context.Context, name string) error {
	_, err := b.db.SQL().ExecContext(ctx, "DROP DATABASE "+name)
	if b.leader != nil {
		err = errors.Join(err, b.leader.Close())
	}
	return errors.Join(err, b.db.Close())
}

func measure(ctx context.Context, server *testserver.MariaDB, hosts, entries int) (f Figures, err error) {
	f = Figures{Hosts: hosts, Entries: entries}
	bare := fmt.Sprintf("bare%d", hosts)
	b, err := open(ctx, server, bare, hosts, entries)
	if err != nil {
		return f, err
	}
	f.BareSQL, err = b.bareSQL(ctx)
	if err := errors.Join(err, b.close(ctx, bare)); err != nil {
		return f, err
	}

	ticks := fmt.Sprintf("ticks%d", hosts)
	if b, err = open(ctx, server, ticks, hosts, entries); err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, b.close(ctx, ticks)) }()
	if b.leader, err = b.db.TakeOver(ctx, store.Claim{Shard: shard.Master, Token: 1, Cluster: "bench", Holder: "bench"}); err != nil {
		return f, err
	}
	if err := b.fullTick(ctx, server, &f); err != nil {
		return f, err
	}
	if f.Idle, err = b.timed(ctx); err != nil {
		return f, err
	}
	if err := b.churn(ctx); err != nil {
		return f, err
	}
	if f.Steady, err = b.timed(ctx); err != nil {
		return f, err
	}
	f.Ratio = f.FullTick / f.BareSQL
	f.RSS, err = rss()
	return f, err
}

func (b *bench) fullTick(ctx context.Context, server *testserver.MariaDB, f *Figures) error {
	before, err := statements(ctx, server)
	if err != nil {
		return err
	}
	began := time.Now()
	s, err := b.db.Snapshot(ctx, store.Scope{Shard: shard.Master})
	if err != nil {
		return err
	}
	read := time.Now()
	s.Recorder = b.recorder
	plan := scheduler.MakePlan(s)
	planned := time.Now()
	res, err := b.leader.Apply(ctx, plan)
	if err != nil {
		return err
	}
	done := time.Now()
	after, err := statements(ctx, server)
	b.recorder.Record(res.Applied)
	f.Assigned = len(res.Applied.Assignments)
	f.Snapshot, f.Plan, f.Apply = ms(read.Sub(began)), ms(planned.Sub(read)), ms(done.Sub(planned))
	f.FullTick, f.LongestTx = ms(done.Sub(began)), ms(res.LongestTx)
	f.Statements = after - before - 1 // the second question itself
	return err
}

// timed runs one tick.
func (b *bench) timed(ctx context.Context) (float64, error) {
	began := time.Now()
	s, err := b.db.Snapshot(ctx, store.Scope{Shard: shard.Master})
	if err != nil {
		return 0, err
	}
	s.Recorder = b.recorder
	res, err := b.leader.Apply(ctx, scheduler.MakePlan(s))
	b.recorder.Record(res.Applied)
	return ms(time.Since(began)), err
}

// churn ends a share of the running jobs, whose hosts are free again, and queues
// as large a share of new entries.
func (b *bench) churn(ctx context.Context) error {
	n := int(churn * float64(b.hosts))
	for _, text := range []string{
		fmt.Sprintf("UPDATE afe_hosts h JOIN (SELECT id, host_id FROM afe_host_queue_entries WHERE active = 1 ORDER BY id LIMIT %d) q ON q.host_id = h.id SET h.leased = 0", n),
		"UPDATE afe_special_tasks t JOIN afe_host_queue_entries q ON q.id = t.queue_entry_id JOIN afe_hosts h ON h.id = q.host_id SET t.is_complete = 1 WHERE h.leased = 0",
		"UPDATE afe_host_queue_entries q JOIN afe_hosts h ON h.id = q.host_id SET q.active = 0, q.complete = 1, q.status = 'Completed' WHERE h.leased = 0",
	} {
		if _, err := b.db.SQL().ExecContext(ctx, text); err != nil {
			return err
		}
	}
	const suites = 5
	for range suites {
		if err := b.lab.AddSuite(ctx, b.db.SQL(), int(churn*float64(b.entries))/suites); err != nil {
			return err
		}
	}
	return nil
}

// tables are read once by the bare SQL, as a snapshot does.
var tables = []string{
	"SELECT id, name FROM afe_labels",
	"SELECT id, hostname, status, locked, invalid, leased, dirty, protection, shard_id FROM afe_hosts",
	"SELECT host_id, label_id FROM afe_hosts_labels",
	"SELECT host_id, aclgroup_id FROM afe_acl_groups_hosts",
	"SELECT user_id, aclgroup_id FROM afe_acl_groups_users",
	"SELECT q.id, q.job_id, q.host_id, q.meta_host, j.owner, j.priority, j.parent_job_id, j.synch_count FROM afe_host_queue_entries q JOIN afe_jobs j ON j.id = q.job_id WHERE q.status = 'Queued'",
	"SELECT job_id, label_id FROM afe_jobs_dependency_labels",
	"SELECT job_id, value FROM afe_job_keyvals",
	"SELECT host_id, is_complete FROM afe_special_tasks",
}

// bareSQL moves the rows of a full tick with one hand-written statement per
// table, and reads the tables once.
func (b *bench) bareSQL(ctx context.Context) (float64, error) {
	s, err := b.db.Snapshot(ctx, store.Scope{Shard: shard.Master})
	if err != nil {
		return 0, err
	}
	p := scheduler.MakePlan(s)
	var hosts, entries, tasks strings.Builder
	for i, a := range p.Assignments {
		if i > 0 {
			hosts.WriteString(",")
			entries.WriteString(",")
		}
		fmt.Fprintf(&hosts, "%d", a.Host)
		fmt.Fprintf(&entries, "(%d,%d)", a.Entry, a.Host)
		for _, name := range a.Tasks.Names() {
			if tasks.Len() > 0 {
				tasks.WriteString(",")
			}
			fmt.Fprintf(&tasks, "(%d,'%s',%d,%d,NOW())", a.Host, name, a.Entry, a.RequestedBy)
		}
	}
	// The pairs are there already when the clock starts, as for a join with a
	// table of decisions.
	for _, text := range []string{"CREATE TABLE decisions (entry INT PRIMARY KEY, host INT)", "INSERT INTO decisions VALUES " + entries.String()} {
		if _, err := b.db.SQL().ExecContext(ctx, text); err != nil {
			return 0, err
		}
	}
	began := time.Now()
	for _, query := range tables {
		if err := lab.Each(ctx, b.db.SQL(), query, func(*sql.Rows) error { return nil }); err != nil {
			return 0, err
		}
	}
	for _, text := range []string{
		"UPDATE afe_hosts SET leased = 1 WHERE id IN (" + hosts.String() + ")",
		"UPDATE afe_host_queue_entries q JOIN decisions d ON d.entry = q.id SET q.host_id = d.host, q.active = 1",
		"INSERT INTO afe_special_tasks (host_id, task, queue_entry_id, requested_by_id, time_requested) VALUES " + tasks.String(),
	} {
		if _, err := b.db.SQL().ExecContext(ctx, text); err != nil {
			return 0, err
		}
	}
	return ms(time.Since(began)), nil
}

// statements is how many statements the server has been sent.
func statements(ctx context.Context, server *testserver.MariaDB) (int64, error) {
	var name string
	var n int64
	err := server.Admin().QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE 'Questions'").Scan(&name, &n)
	return n, err
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// rss is this process's resident memory in MiB.
func rss() (float64, error) {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024, err
		}
	}
	return 0, errors.New("no VmRSS in /proc/self/status")
}
