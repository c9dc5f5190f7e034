package runs

import (
	"context"
	"fmt"
	"strings"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/lifecycle"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// picture reads what the sweeps look at, all of one moment. What takes longer to find, because
// it is among all that waits, is looked for only if whole is true.
func (r *Runs) picture(ctx context.Context, whole bool) (p lifecycle.Picture, err error) {
	err = r.lab.DB().Read(ctx, func(q *sqldb.Reader) {
		q.Rows("SELECT "+q.Dialect.NowMillis, func(v sqldb.Row) { p.Now = v.Int(0).N })
		p.Rechecked = p.Now
		q.Rows("SELECT name, value FROM hostsched_facts WHERE name IN ('"+factNoLoss+"', '"+factRechecked+"')", func(v sqldb.Row) {
			if v.Text(0) == factNoLoss {
				p.NoLossBefore = numberIn(v.Text(1))
			} else {
				p.Rechecked = numberIn(v.Text(1))
			}
		})
		readRuns(q, &p)
		readWaiting(q, &p, whole)
		readTasks(q, &p)
		readJobs(q, &p)
		readHosts(q, &p)
	})
	return p, r.lab.Explain(err, "look what the sweeps have to do")
}

func numberIn(text string) (n int64) {
	_, _ = fmt.Sscan(text, &n) // what is no number is none
	return n
}

func readRuns(q *sqldb.Reader, p *lifecycle.Picture) {
	aborted := "CASE WHEN EXISTS (SELECT 1 FROM hostsched_run_hosts x JOIN afe_host_queue_entries e ON e.id = x.entry_id WHERE x.run_id = r.id AND e.aborted = 1)" +
		" OR EXISTS (SELECT 1 FROM afe_special_tasks t JOIN afe_host_queue_entries e ON e.id = t.queue_entry_id WHERE t.id = r.task_id AND e.aborted = 1) THEN 1 ELSE 0 END"
	query := "SELECT r.id, r.state, CASE WHEN r.kind = '" + string(lifecycle.Repair) + "' THEN 1 ELSE 0 END, r.lease_until, r.claimed, COALESCE(r.started, 0), r.hard_ms, COALESCE(o.until, 0), " + aborted +
		", COALESCE((SELECT t.is_aborted FROM afe_special_tasks t WHERE t.id = r.task_id), 0), CASE WHEN a.desired = 'stop' OR a.revoked IS NOT NULL THEN 1 ELSE 0 END, COALESCE(r.stop_since, 0), r.lease_ms, CASE WHEN a.session = r.session THEN COALESCE(a.seen, 0) ELSE 0 END" +
		" FROM hostsched_runs r LEFT JOIN hostsched_own_jobs o ON o.job_id = r.job_id AND r.kind = '" + kindReserve + "' LEFT JOIN hostsched_agents a ON a.id = r.agent_id WHERE r.state IN " + lab.OpenRuns
	q.Rows(query, func(v sqldb.Row) {
		p.Runs = append(p.Runs, lifecycle.Run{
			ID: lifecycle.RunID(v.Int(0).N), State: lifecycle.RunState(v.Text(1)), Repair: v.Int(2).N == 1, LeaseUntil: v.Int(3).N, Claimed: v.Int(4).N, Started: v.Int(5).N,
			Hard: v.Int(6).N, Until: v.Int(7).N, EntryAborted: v.Int(8).N == 1, TaskAborted: v.Int(9).N == 1, AgentStops: v.Int(10).N == 1, StopSince: v.Int(11).N, Lease: v.Int(12).N, AgentSeen: v.Int(13).N,
		})
	})
}

// readWaiting reads entries that may be due. Those that wait for a host are among them only if
// somebody asked for their end, or whole is true and their time is over.
func readWaiting(q *sqldb.Reader, p *lifecycle.Picture, whole bool) {
	deadline := "CASE WHEN j.timeout_mins > 0 THEN 1000 * (" + q.Dialect.Unix("j.created_on") + " + 60 * j.timeout_mins) ELSE 0 END"
	ids := []string{
		"SELECT id FROM afe_host_queue_entries WHERE aborted = 1 AND complete = 0",
		"SELECT id FROM afe_host_queue_entries WHERE active = 1",
		"SELECT id FROM afe_host_queue_entries WHERE status = '" + string(lifecycle.StatusParsing) + "' AND complete = 0",
	}
	if whole {
		ids = append(ids,
			fmt.Sprintf("SELECT e.id FROM hostsched_own_jobs o JOIN afe_host_queue_entries e ON e.job_id = o.job_id WHERE e.complete = 0 AND o.seen < %d", p.Now-lifecycle.OwnPatience),
			fmt.Sprintf("SELECT e.id FROM afe_host_queue_entries e JOIN afe_jobs j ON j.id = e.job_id WHERE e.complete = 0 AND (e.host_id IS NULL AND e.meta_host IS NULL OR j.timeout_mins > 0 AND %s < %d)", deadline, p.Now))
	}
	open := func(condition string) string {
		return "(SELECT COUNT(*) FROM afe_special_tasks t WHERE t.queue_entry_id = e.id AND t.host_id = e.host_id AND t.is_complete = 0 AND t.task <> '" + string(lifecycle.Repair) + "'" + condition + ")"
	}
	children := func(condition string) string {
		return "CASE WHEN e.host_id IS NULL AND e.meta_host IS NULL THEN (SELECT COUNT(*) FROM afe_jobs k JOIN afe_host_queue_entries x ON x.job_id = k.id WHERE k.parent_job_id = e.job_id" + condition + ") ELSE 0 END"
	}
	query := "SELECT e.id, e.job_id, COALESCE(e.host_id, 0), e.status, COALESCE(e.active, 0), e.aborted, CASE WHEN e.meta_host IS NULL THEN 0 ELSE 1 END," +
		" CASE WHEN EXISTS (SELECT 1 FROM hostsched_run_hosts x JOIN hostsched_runs r ON r.id = x.run_id WHERE x.entry_id = e.id AND r.state IN " + lab.OpenRuns + ") THEN 1 ELSE 0 END, " +
		open("") + ", " + open(" AND t.is_active = 1") + ", " + deadline + ", COALESCE(o.seen, 0), " + children("") + ", " + children(" AND x.complete = 0") + ", " + children(" AND x.complete = 1 AND x.status <> '"+string(lifecycle.StatusCompleted)+"'") +
		" FROM (" + strings.Join(ids, " UNION ") + ") due JOIN afe_host_queue_entries e ON e.id = due.id JOIN afe_jobs j ON j.id = e.job_id LEFT JOIN hostsched_own_jobs o ON o.job_id = e.job_id WHERE e.complete = 0 ORDER BY e.id"
	q.Rows(query, func(v sqldb.Row) {
		active, aborted, any := v.Int(4), v.Int(5), v.Int(6)
		p.Entries = append(p.Entries, lifecycle.Waiting{
			ID: scheduler.EntryID(v.Int(0).N), Job: scheduler.JobID(v.Int(1).N),
			Entry: lifecycle.Entry{Job: scheduler.JobID(v.Int(1).N), Host: scheduler.HostID(v.Int(2).N), Status: scheduler.EntryStatus(v.Text(3)), Active: active.Flag(), Aborted: aborted.Flag(), AnyHost: any.Flag(), Claimed: v.Int(7).N == 1},
			Tasks: int(v.Int(8).N), Working: int(v.Int(9).N), Deadline: v.Int(10).N, OwnSeen: v.Int(11).N, Children: int(v.Int(12).N), Open: int(v.Int(13).N), Failed: int(v.Int(14).N),
		})
	})
}

func readTasks(q *sqldb.Reader, p *lifecycle.Picture) {
	query := "SELECT t.id, COALESCE(e.job_id, 0), t.host_id, CASE WHEN EXISTS (SELECT 1 FROM hostsched_runs r WHERE r.task_id = t.id AND r.state IN " + lab.OpenRuns + ") THEN 1 ELSE 0 END" +
		" FROM afe_special_tasks t LEFT JOIN afe_host_queue_entries e ON e.id = t.queue_entry_id WHERE t.is_active = 1 AND t.is_complete = 0 ORDER BY t.id"
	q.Rows(query, func(v sqldb.Row) {
		p.Tasks = append(p.Tasks, lifecycle.SweptTask{ID: lifecycle.TaskID(v.Int(0).N), Job: scheduler.JobID(v.Int(1).N), Host: scheduler.HostID(v.Int(2).N), Claimed: v.Int(3).N == 1})
	})
}

// readJobs reads jobs that have Pending entries.
func readJobs(q *sqldb.Reader, p *lifecycle.Picture) {
	query := "SELECT e.job_id, j.synch_count, e.status FROM (SELECT job_id FROM afe_host_queue_entries WHERE status = '" + string(scheduler.StatusPending) + "' AND complete = 0 GROUP BY job_id) due" +
		" JOIN afe_jobs j ON j.id = due.job_id JOIN afe_host_queue_entries e ON e.job_id = due.job_id ORDER BY e.job_id, e.id"
	q.Rows(query, func(v sqldb.Row) {
		id := scheduler.JobID(v.Int(0).N)
		if n := len(p.Jobs); n == 0 || p.Jobs[n-1].ID != id {
			p.Jobs = append(p.Jobs, lifecycle.SweptJob{ID: id, SynchCount: int(v.Int(1).N)})
		}
		last := &p.Jobs[len(p.Jobs)-1]
		last.Statuses = append(last.Statuses, scheduler.EntryStatus(v.Text(2)))
	})
}

// readHosts reads the hosts of which something might have to be made.
func readHosts(q *sqldb.Reader, p *lifecycle.Picture) {
	query := "SELECT h.id, h.status, COALESCE(h.locked, 0), CASE WHEN EXISTS (SELECT 1 FROM afe_host_queue_entries e WHERE e.host_id = h.id AND e.active = 1) OR EXISTS (SELECT 1 FROM hostsched_host_epochs x JOIN hostsched_runs r ON r.id = x.run_id WHERE x.host_id = h.id AND r.state IN " + lab.OpenRuns + ") THEN 1 ELSE 0 END," +
		" (SELECT COUNT(*) FROM afe_special_tasks t WHERE t.host_id = h.id AND t.is_active IN (0, 1) AND t.is_complete = 0) FROM afe_hosts h WHERE h.invalid = 0 AND h.status <> '" + scheduler.HostReady + "' ORDER BY h.id"
	q.Rows(query, func(v sqldb.Row) {
		locked := v.Int(2)
		p.Hosts = append(p.Hosts, lifecycle.SweptHost{ID: scheduler.HostID(v.Int(0).N), Status: v.Text(1), Locked: locked.Flag(), Used: v.Int(3).N == 1, Tasks: int(v.Int(4).N)})
	})
}
