package runs

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/lifecycle"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// write writes the rows that differ, those with the same values by one statement.
func (c *change) write(w lifecycle.Writes) error {
	if err := c.writeEntries(w.Entries); err != nil {
		return err
	}
	if len(w.Eligible) > 0 {
		in := sqldb.List(sqldb.Int64s(w.Eligible))
		if err := c.exec("DELETE FROM afe_ineligible_host_queues WHERE job_id = ? AND host_id IN "+in, c.job); err != nil {
			return err
		}
	}
	if err := c.writeTasks(w.Tasks); err != nil {
		return err
	}
	return c.writeHosts(w.Hosts)
}

// update is an UPDATE of rows that get the same values.
type update struct {
	set  string
	args []any
	ids  []int64
}

// updates collects what is to be set by what is set.
type updates map[string]*update

func (u updates) add(id int64, set []string, args ...any) {
	key := strings.Join(set, ", ")
	at := fmt.Sprintf("%s %q", key, args)
	if u[at] == nil {
		u[at] = &update{set: key, args: args}
	}
	u[at].ids = append(u[at].ids, id)
}

func (c *change) update(table string, u updates) error {
	for _, key := range slices.Sorted(maps.Keys(u)) {
		if err := c.exec("UPDATE "+table+c.dialect().ByKey+" SET "+u[key].set+" WHERE id IN "+sqldb.List(u[key].ids), u[key].args...); err != nil {
			return err
		}
	}
	return nil
}

func (c *change) writeEntries(changes []lifecycle.Change[scheduler.EntryID, lifecycle.Entry]) error {
	u := updates{}
	for _, ch := range changes {
		before, after := *ch.Before, *ch.After
		set := []string{"status = ?", "active = ?", "complete = ?"}
		args := []any{string(after.Status), sqldb.Flag(after.Active), sqldb.Flag(after.Complete)}
		if before.Subdir != after.Subdir {
			set, args = append(set, "execution_subdir = ?"), append(args, after.Subdir)
		}
		if before.Host != after.Host {
			set = append(set, "host_id = NULL")
		}
		set = append(set, c.stamp("started_on", before.Started, after.Started)...)
		set = append(set, c.stamp("finished_on", before.Finished, after.Finished)...)
		u.add(int64(ch.ID), set, args...)
		c.noteEntry(ch.ID, before, after)
	}
	if err := c.update("afe_host_queue_entries", u); err != nil {
		return err
	}
	ended := slices.ContainsFunc(changes, func(ch lifecycle.Change[scheduler.EntryID, lifecycle.Entry]) bool { return ch.After.Complete })
	if ended && c.shard.Valid {
		return c.exec("UPDATE afe_jobs SET shard_id = NULL WHERE id = ?", c.job)
	}
	return nil
}

// stamp sets or clears a time.
func (c *change) stamp(column string, before, after bool) []string {
	switch {
	case before == after:
		return nil
	case after:
		return []string{column + " = " + c.dialect().Now}
	}
	return []string{column + " = NULL"}
}

// entryEvents are the statuses of which the journal tells.
var entryEvents = map[scheduler.EntryStatus]string{
	scheduler.StatusQueued:    "entry.requeued",
	scheduler.StatusStarting:  "entry.starting",
	scheduler.StatusStopped:   "entry.stopped",
	lifecycle.StatusCompleted: "entry.completed",
	lifecycle.StatusFailed:    "entry.failed",
	lifecycle.StatusAborted:   "entry.ended", // entry.aborted tells who asked for it
}

func (c *change) noteEntry(id scheduler.EntryID, before, after lifecycle.Entry) {
	if before.Status == after.Status {
		return
	}
	kind, told := entryEvents[after.Status]
	if !told {
		return
	}
	c.note(lab.Event{Kind: kind, Host: int64(cmp.Or(after.Host, before.Host)), Job: c.job, Entry: int64(id), Subject: c.hosts[before.Host].name})
}

func (c *change) writeTasks(changes []lifecycle.Change[lifecycle.TaskID, lifecycle.Task]) error {
	var fresh []string
	var args []any
	var gone []int64
	u := updates{}
	// New tasks have falling ids, and are queued in that order.
	slices.Reverse(changes)
	for _, ch := range changes {
		switch {
		case ch.After == nil:
			gone = append(gone, int64(ch.ID))
		case ch.Before == nil:
			fresh = append(fresh, "(?, ?, "+c.dialect().Now+", ?, ?, ?, ?, ?, 0, "+c.timeIf(ch.After.Active || ch.After.Complete)+", "+c.timeIf(ch.After.Complete)+")")
			args = append(args, int64(ch.After.Host), string(ch.After.Kind), sqldb.Flag(ch.After.Active), sqldb.Flag(ch.After.Complete), sqldb.IDOrNull(int64(ch.After.Entry)), sqldb.Flag(ch.After.Success), int64(ch.After.RequestedBy))
			c.noteTask("task.queued", *ch.After)
		default:
			c.updateTask(u, int64(ch.ID), *ch.Before, *ch.After)
		}
	}
	if len(gone) > 0 {
		if err := c.exec("DELETE FROM afe_special_tasks WHERE id IN " + sqldb.List(gone)); err != nil {
			return err
		}
	}
	if err := c.update("afe_special_tasks", u); err != nil || len(fresh) == 0 {
		return err
	}
	return c.exec("INSERT INTO afe_special_tasks (host_id, task, time_requested, is_active, is_complete, queue_entry_id, success, requested_by_id, is_aborted, time_started, time_finished) VALUES "+strings.Join(fresh, ", "), args...)
}

// timeIf is now, or no time.
func (c *change) timeIf(set bool) string {
	if set {
		return c.dialect().Now
	}
	return "NULL"
}

func (c *change) updateTask(u updates, id int64, before, after lifecycle.Task) {
	set := []string{"is_active = ?", "is_complete = ?", "success = ?"}
	if after.Active && !before.Active {
		set = append(set, "time_started = "+c.dialect().Now)
		c.noteTask("task.started", after)
	}
	if after.Complete && !before.Complete {
		set = append(set, "time_finished = "+c.dialect().Now)
		kind := "task.failed"
		switch {
		case after.Success:
			kind = "task.passed"
		case !before.Active:
			kind = "task.dropped"
		}
		c.noteTask(kind, after)
	}
	u.add(id, set, sqldb.Flag(after.Active), sqldb.Flag(after.Complete), sqldb.Flag(after.Success))
}

func (c *change) noteTask(kind string, t lifecycle.Task) {
	job := int64(0)
	if t.Entry != 0 {
		job = c.job
	}
	c.note(lab.Event{Kind: kind, Host: int64(t.Host), Job: job, Entry: int64(t.Entry), Subject: string(t.Kind)})
}

func (c *change) writeHosts(changes []lifecycle.Change[scheduler.HostID, lifecycle.Host]) error {
	u := updates{}
	for _, ch := range changes {
		u.add(int64(ch.ID), []string{"status = ?", "dirty = ?"}, ch.After.Status, sqldb.Flag(ch.After.Dirty))
	}
	return c.update("afe_hosts", u)
}

// note keeps an event until the change is complete.
func (c *change) note(e lab.Event) {
	e.Who = c.who
	c.events = append(c.events, e)
}
