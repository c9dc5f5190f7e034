package runs

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/lifecycle"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// order is that in which monitor_db starts the tasks of a host.
var order = []lifecycle.Kind{lifecycle.Repair, lifecycle.Cleanup, lifecycle.Verify, lifecycle.Reset, lifecycle.Provision}

// offeredTask is a special task that could start.
type offeredTask struct {
	id, host, entry, job, agent int64
	kind                        lifecycle.Kind
	hostname                    string
}

// Offers finds what each of some agents could take up now. They are hints: claiming decides.
func (r *Runs) Offers(ctx context.Context, agents []int64) (map[int64][]labapi.Offer, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	offers := map[int64][]labapi.Offer{}
	if len(agents) == 0 {
		return offers, nil
	}
	db := r.lab.DB()
	tasks, err := r.waitingTasks(ctx, db.Pool, "m.agent_id IN "+sqldb.List(agents))
	if err != nil {
		return nil, r.lab.Explain(err, "look for special tasks that can start")
	}
	for _, t := range tasks {
		offers[t.agent] = append(offers[t.agent], labapi.Offer{Kind: string(t.kind), Task: t.id, Job: t.job, Hosts: []string{t.hostname}})
	}
	wanted := make(map[int64]bool, len(agents))
	for _, id := range agents {
		wanted[id] = true
	}
	err = r.startingJobs(ctx, db.Pool, func(agent int64, o labapi.Offer) {
		if wanted[agent] {
			offers[agent] = append(offers[agent], o)
		}
	})
	return offers, r.lab.Explain(err, "look for jobs that can start")
}

// waitingTasks finds the next special task of each free host, of hosts h for which a condition
// holds; m.agent_id is the agent, if there is one.
func (r *Runs) waitingTasks(ctx context.Context, q sqldb.Querier, condition string) (out []offeredTask, err error) {
	query := "SELECT t.id, t.task, h.id, COALESCE(h.hostname, ''), COALESCE(m.agent_id, 0), COALESCE(t.queue_entry_id, 0), COALESCE(q.job_id, 0)" +
		" FROM afe_special_tasks t JOIN afe_hosts h ON h.id = t.host_id LEFT JOIN hostsched_agent_hosts m ON m.host_id = h.id LEFT JOIN afe_host_queue_entries q ON q.id = t.queue_entry_id" +
		" WHERE t.is_active = 0 AND t.is_complete = 0 AND h.locked = 0 AND h.leased = 1 AND h.invalid = 0 AND " + condition + " AND " + lab.FreeHost +
		" AND (t.queue_entry_id IS NULL OR t.task = '" + string(lifecycle.Repair) + "' OR q.active = 1 AND q.aborted = 0 AND q.host_id = h.id)" +
		" AND NOT EXISTS (SELECT 1 FROM afe_host_queue_entries x WHERE x.host_id = h.id AND x.active = 1 AND x.id <> COALESCE(t.queue_entry_id, 0))" +
		" AND NOT EXISTS (SELECT 1 FROM afe_special_tasks o WHERE o.host_id = h.id AND o.is_active = 1 AND o.is_complete = 0)"
	err = sqldb.EachRow(ctx, q, query, nil, func(scan sqldb.Scanner) error {
		var t offeredTask
		err := scan(&t.id, &t.kind, &t.host, &t.hostname, &t.agent, &t.entry, &t.job)
		out = append(out, t)
		return err
	})
	slices.SortFunc(out, func(a, b offeredTask) int {
		return cmp.Or(cmp.Compare(a.host, b.host), cmp.Compare(slices.Index(order, a.kind), slices.Index(order, b.kind)), cmp.Compare(a.id, b.id))
	})
	return slices.CompactFunc(out, func(a, b offeredTask) bool { return a.host == b.host }), err
}

// startingJobs finds the groups of entries that can start together on the hosts of one agent.
func (r *Runs) startingJobs(ctx context.Context, q sqldb.Querier, each func(agent int64, o labapi.Offer)) error {
	query := "SELECT q.id, q.job_id, q.execution_subdir, COALESCE(h.hostname, ''), COALESCE(m.agent_id, 0)" +
		" FROM afe_host_queue_entries q JOIN afe_hosts h ON h.id = q.host_id LEFT JOIN hostsched_agent_hosts m ON m.host_id = h.id" +
		" WHERE q.status = '" + string(scheduler.StatusStarting) + "' AND q.complete = 0 AND q.aborted = 0 AND " + lab.FreeHost +
		" AND NOT EXISTS (SELECT 1 FROM hostsched_own_jobs o WHERE o.job_id = q.job_id) ORDER BY q.job_id, q.execution_subdir, q.id"
	var last string
	var agent int64
	var group labapi.Offer
	end := func() {
		if agent > 0 {
			each(agent, group)
		}
	}
	err := sqldb.EachRow(ctx, q, query, nil, func(scan sqldb.Scanner) error {
		var entry, job, home int64
		var subdir, hostname string
		if err := scan(&entry, &job, &subdir, &hostname, &home); err != nil {
			return err
		}
		if key := fmt.Sprint(job, " ", subdir); key != last {
			end()
			last, agent, group = key, home, labapi.Offer{Kind: kindJob, Job: job}
		}
		if home != agent {
			agent = 0 // hosts of different agents
		}
		group.Entries, group.Hosts = append(group.Entries, entry), append(group.Hosts, hostname)
		return nil
	})
	end()
	return err
}
