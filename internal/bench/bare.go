package main

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/scheduler"
)

// reads are the queries with which the bare SQL reads the tables once, as a snapshot does: of
// jobs and special tasks those that are not over. The jobs that wait are first and later ones.
func reads(first scheduler.JobID) []string {
	return []string{
		"SELECT id, name FROM afe_labels",
		"SELECT id, hostname, status, locked, invalid, leased, dirty, protection, shard_id FROM afe_hosts",
		"SELECT host_id, label_id FROM afe_hosts_labels",
		"SELECT host_id, aclgroup_id FROM afe_acl_groups_hosts",
		"SELECT user_id, aclgroup_id FROM afe_acl_groups_users",
		"SELECT q.id, q.job_id, q.host_id, q.meta_host, j.owner, j.priority, j.parent_job_id, j.synch_count FROM afe_host_queue_entries q JOIN afe_jobs j ON j.id = q.job_id WHERE q.status = 'Queued'",
		"SELECT job_id, label_id FROM afe_jobs_dependency_labels WHERE job_id >= " + fmt.Sprint(first),
		"SELECT job_id, value FROM afe_job_keyvals",
		"SELECT host_id, is_complete FROM afe_special_tasks WHERE is_complete = 0",
	}
}

// bareSQL moves the rows of a full tick with one hand-written statement per
// table, and reads the tables once. It returns milliseconds.
func (l *testLab) bareSQL(ctx context.Context) (float64, error) {
	s, err := l.db.Snapshot(ctx, scope)
	if err != nil {
		return 0, err
	}
	p := scheduler.MakePlan(s)
	var hosts, entries, tasks []string
	for _, a := range p.Assignments {
		hosts = append(hosts, fmt.Sprint(a.Host))
		entries = append(entries, fmt.Sprintf("(%d,%d)", a.Entry, a.Host))
		for _, name := range a.Tasks.Names() {
			tasks = append(tasks, fmt.Sprintf("(%d,'%s',%d,%d,NOW())", a.Host, name, a.Entry, a.RequestedBy))
		}
	}
	// The pairs are there already when the clock starts, as for a join with a
	// table of decisions.
	if err := l.exec(ctx, "CREATE TABLE decisions (entry INT PRIMARY KEY, host INT)", "INSERT INTO decisions VALUES "+strings.Join(entries, ",")); err != nil {
		return 0, err
	}
	writes := []string{
		"UPDATE afe_hosts SET leased = 1 WHERE id IN (" + strings.Join(hosts, ",") + ")",
		"UPDATE afe_host_queue_entries q JOIN decisions d ON d.entry = q.id SET q.host_id = d.host, q.active = 1",
		"INSERT INTO afe_special_tasks (host_id, task, queue_entry_id, requested_by_id, time_requested) VALUES " + strings.Join(tasks, ","),
	}
	began := time.Now()
	for _, query := range reads(s.Jobs[0].ID) {
		if err := simlab.Each(ctx, l.db.SQL(), query, func(*sql.Rows) error { return nil }); err != nil {
			return 0, err
		}
	}
	err = l.exec(ctx, writes...)
	return ms(time.Since(began)), err
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
