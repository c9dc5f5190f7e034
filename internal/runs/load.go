package runs

import (
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/lifecycle"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

func (c *change) load(system scheduler.UserID) error {
	slices.Sort(c.target.hosts)
	c.target.hosts = slices.Compact(c.target.hosts)
	c.state = lifecycle.State{
		System: system, Limits: lifecycle.DefaultLimits(), Ineligible: map[scheduler.HostID]bool{},
		Entries: map[scheduler.EntryID]lifecycle.Entry{}, Hosts: map[scheduler.HostID]lifecycle.Host{}, Tasks: map[lifecycle.TaskID]lifecycle.Task{},
	}
	c.hosts = map[scheduler.HostID]hostRow{}
	for _, load := range []func() error{c.lockHosts, c.loadJob, c.loadEntries, c.loadTasks, c.loadHosts} {
		if err := load(); err != nil {
			return err
		}
	}
	c.before = c.state // Next leaves it alone
	return nil
}

// lockHosts locks the rows that a host's claims go through, and enters those that are missing.
func (c *change) lockHosts() error {
	if len(c.target.hosts) == 0 {
		return nil
	}
	if err := c.readEpochs(); err != nil || len(c.hosts) == len(c.target.hosts) {
		return err
	}
	var rows []byte
	for _, id := range c.target.hosts {
		rows = append(sqldb.Tuple(rows, id), ')')
	}
	if err := c.exec(c.dialect().InsertIgnore + " hostsched_host_epochs (host_id) VALUES " + string(rows)); err != nil {
		return err
	}
	return c.readEpochs()
}

func (c *change) readEpochs() error {
	query := "SELECT e.host_id, e.epoch, e.failures, COALESCE(e.last_job, 0), e.bad_since IS NOT NULL, e.bad_reason, COALESCE(e.run_id, 0), COALESCE(r.state, '')" +
		" FROM hostsched_host_epochs e LEFT JOIN hostsched_runs r ON r.id = e.run_id WHERE e.host_id IN " + sqldb.List(c.target.hosts) + " ORDER BY e.host_id" + c.dialect().ForUpdate
	return c.rows(query, nil, func(scan sqldb.Scanner) error {
		var id scheduler.HostID
		var h hostRow
		err := scan(&id, &h.epoch, &h.health.Failures, &h.health.LastJob, &h.health.Bad, &h.health.Reason, &h.run, &h.runState)
		c.hosts[id] = h
		return err
	})
}

// loadJob also locks the job if its entries start together, or have no host: two that become
// Pending at once must count each other.
func (c *change) loadJob() error {
	if c.job == 0 {
		return nil
	}
	query := "SELECT synch_count, COALESCE(run_verify, 0), run_reset <> 0, reboot_after, shard_id, COALESCE((SELECT MIN(u.id) FROM afe_users u WHERE u.login = afe_jobs.owner), 0) FROM afe_jobs WHERE id = ?"
	if c.together || len(c.target.hosts) == 0 {
		query += c.dialect().ForUpdate
	}
	j := &c.state.Job
	err := c.tx.QueryRowContext(c.ctx, query, c.job).Scan(&j.SynchCount, &j.RunVerify, &j.RunReset, &j.RebootAfter, &c.shard, &j.Owner)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%w: there is no job %d", lab.ErrNotFound, c.job)
	}
	return err
}

func (c *change) loadEntries() error {
	if c.job == 0 || !c.together && len(c.entries) == 0 {
		return nil
	}
	where := "q.id IN " + sqldb.List(c.entries)
	if c.together {
		where = fmt.Sprintf("q.job_id = %d", c.job)
	}
	query := "SELECT q.id, COALESCE(q.host_id, 0), COALESCE(q.status, ''), COALESCE(q.active, 0), COALESCE(q.complete, 0), q.aborted, q.meta_host IS NOT NULL, q.started_on IS NOT NULL, q.finished_on IS NOT NULL, q.execution_subdir," +
		" EXISTS (SELECT 1 FROM hostsched_run_hosts x JOIN hostsched_runs r ON r.id = x.run_id WHERE x.entry_id = q.id AND r.state IN " + lab.OpenRuns + ")" +
		" FROM afe_host_queue_entries q WHERE " + where + " ORDER BY q.id" + c.dialect().ForUpdate
	return c.rows(query, nil, func(scan sqldb.Scanner) error {
		var id scheduler.EntryID
		e := lifecycle.Entry{Job: scheduler.JobID(c.job)}
		if err := scan(&id, &e.Host, &e.Status, &e.Active, &e.Complete, &e.Aborted, &e.AnyHost, &e.Started, &e.Finished, &e.Subdir, &e.Claimed); err != nil {
			return err
		}
		c.state.Entries[id] = e
		if e.Host == 0 || e.Complete {
			return nil
		}
		if _, locked := slices.BinarySearch(c.target.hosts, int64(e.Host)); !locked {
			return errMoved
		}
		if e.AnyHost {
			c.state.Ineligible[e.Host] = true
		}
		return nil
	})
}

func (c *change) loadTasks() error {
	query := ""
	const columns = "SELECT id, task, host_id, COALESCE(queue_entry_id, 0), is_active, is_complete, success, requested_by_id FROM afe_special_tasks WHERE "
	if len(c.target.hosts) > 0 {
		// With both conditions the servers have an index for it.
		query = columns + "is_active IN (0, 1) AND is_complete = 0 AND host_id IN " + sqldb.List(c.target.hosts)
	}
	if ids := slices.Sorted(maps.Keys(c.state.Entries)); c.history && len(ids) > 0 {
		if query != "" {
			query += " UNION "
		}
		query += columns + "queue_entry_id IN " + sqldb.List(sqldb.Int64s(ids))
	}
	if query == "" {
		return nil
	}
	return c.rows(query, nil, func(scan sqldb.Scanner) error {
		var id lifecycle.TaskID
		var t lifecycle.Task
		err := scan(&id, &t.Kind, &t.Host, &t.Entry, &t.Active, &t.Complete, &t.Success, &t.RequestedBy)
		c.state.Tasks[id] = t
		return err
	})
}

func (c *change) loadHosts() error {
	if len(c.target.hosts) == 0 {
		return nil
	}
	others := ""
	if ids := slices.Sorted(maps.Keys(c.state.Entries)); len(ids) > 0 {
		others = " AND q.id NOT IN " + sqldb.List(sqldb.Int64s(ids))
	}
	query := "SELECT h.id, COALESCE(h.hostname, ''), COALESCE(h.status, ''), h.dirty, h.protection, COALESCE(h.locked, 0), h.leased, COALESCE(h.invalid, 0)," +
		" COALESCE((SELECT a.agent_id FROM hostsched_agent_hosts a WHERE a.host_id = h.id), 0), EXISTS (SELECT 1 FROM afe_host_queue_entries q WHERE q.host_id = h.id AND q.active = 1" + others + ")" +
		" FROM afe_hosts h WHERE h.id IN " + sqldb.List(c.target.hosts) + " ORDER BY h.id" + c.dialect().ForUpdate
	return c.rows(query, nil, func(scan sqldb.Scanner) error {
		var id scheduler.HostID
		var h lifecycle.Host
		var row hostRow
		err := scan(&id, &h.Hostname, &h.Status, &h.Dirty, &h.Protection, &h.Locked, &row.leased, &row.invalid, &row.agent, &h.Busy)
		known := c.hosts[id]
		known.name, known.leased, known.invalid, known.agent = h.Hostname, row.leased, row.invalid, row.agent
		c.state.Hosts[id], c.hosts[id] = h, known
		return err
	})
}
