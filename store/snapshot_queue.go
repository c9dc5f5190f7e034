package store

import (
	"slices"
	"strings"
	"time"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// queueFlags is what the indexes of afe_host_queue_entries say of an entry. It is
// never 0 for an entry that is read.
type queueFlags uint8

const (
	isQueued  queueFlags = 1 << iota // status Queued
	isActive                         // active
	isAborted                        // aborted, and not complete yet
)

// liveEntry is an entry that is queued or active.
type liveEntry struct {
	entry scheduler.Entry
	flags queueFlags
	// readAs are the flags with which the row was read, 0 if it never was. The row
	// is due as soon as the flags are others.
	readAs  queueFlags
	pending bool // by its row, whichever shard's it is
	bad     bool // a value is no integer
}

// queueRows is what is read of queue entries and special tasks.
type queueRows struct {
	live     []liveEntry // by id
	spare    []liveEntry // room for the next list
	ids      [3][]int64  // room for the ids with each flag
	rotation rotation
	// pending are the shard's pending entries, by id, and badEntries those of them
	// that have a value that is no integer.
	pending, pendingSpare []scheduler.Entry
	badEntries            []scheduler.Problem
	// tasks are the hosts of open special tasks, frontend those of frontend tasks
	// that have not begun.
	tasks, frontend []int64
}

// rotation says which rows are refreshed next.
type rotation struct {
	next int       // position in the list of live entries
	left int       // how many are to be refreshed until all were since the last change
	at   time.Time // of the last refresh
}

// readQueue reads which entries are queued or active, and which hosts special tasks
// use; the rows of entries whose flags are others than when the row was read; and
// those that are refreshed in rotation. It tells whether any entry or any task is
// different, and at which positions rows were read.
func (lab *labRows) readQueue(r *sqldb.Reader, stale func(tables ...string) bool, refreshRows func(time.Duration, int) int) (entries, tasks bool, read []int) {
	q := &lab.queue
	queue := stale("afe_host_queue_entries")
	entries, tasks = q.readIDs(r, queue, stale("afe_special_tasks"))
	if queue || stale("afe_jobs", "afe_jobs_dependency_labels") {
		q.rotation.left = len(q.live)
	}
	if queue {
		for i := range q.live {
			if q.live[i].flags != q.live[i].readAs {
				read = append(read, i)
			}
		}
	}
	read = q.rotation.add(read, len(q.live), refreshRows)
	return readEntryRows(r, q.live, read) || entries, tasks, read
}

const (
	// queueQuery lists the ids of entries with each flag, which are read from
	// indexes alone. It has one column, of ids and flags in one number, because the
	// lists are long.
	queueQuery = "SELECT 8 * id FROM afe_host_queue_entries WHERE status = 'Queued'" +
		" UNION ALL SELECT 8 * id + 1 FROM afe_host_queue_entries WHERE active = 1" +
		" UNION ALL SELECT 8 * id + 2 FROM afe_host_queue_entries WHERE aborted = 1 AND complete = 0"
	// tasksQuery lists the hosts of open special tasks, and of frontend tasks that
	// have not begun with another number.
	tasksQuery = "SELECT 8 * host_id + CASE WHEN queue_entry_id IS NULL AND is_active = 0 THEN 4 ELSE 3 END FROM afe_special_tasks WHERE " + OpenTask
)

// OpenTask is the condition of open special tasks. With both columns the server has an index
// for it.
const OpenTask = "is_active IN (0, 1) AND is_complete = 0"

// BusyHosts is a subquery for the hosts that open special tasks use, which is evaluated once for
// a statement. A condition on the tasks of each host would read all that it ever had: the
// servers prefer the index over hosts for it.
const (
	BusyHosts = busyHosts + ") o)"
	busyHosts = "(SELECT o.host_id FROM (SELECT DISTINCT t.host_id FROM afe_special_tasks t WHERE " + OpenTask
)

// busyAmong is BusyHosts for some hosts: the server chooses whether it reads their tasks or the
// open ones.
func busyAmong(ids []int64) string {
	return busyHosts + " AND t.host_id IN " + sqldb.List(ids) + ") o)"
}

// readIDs reads the flags of all entries, and the hosts of special tasks, as far
// as they may have changed, and tells which are different.
func (q *queueRows) readIDs(r *sqldb.Reader, queue, openTasks bool) (entries, tasks bool) {
	var queries []string
	if queue {
		queries = append(queries, queueQuery)
	}
	if openTasks {
		queries = append(queries, tasksQuery)
	}
	if len(queries) == 0 {
		return false, false
	}
	for i := range q.ids {
		q.ids[i] = q.ids[i][:0]
	}
	var busy, frontend []int64
	r.IDs(strings.Join(queries, " UNION ALL "), func(n int64) {
		switch id, what := n>>3, n&7; what {
		case 4:
			busy, frontend = append(busy, id), append(frontend, id)
		case 3:
			busy = append(busy, id)
		default:
			q.ids[what] = append(q.ids[what], id)
		}
	})
	if openTasks {
		tasks = !slices.Equal(busy, q.tasks) || !slices.Equal(frontend, q.frontend)
		q.tasks, q.frontend = busy, frontend
	}
	if !queue {
		return false, tasks
	}
	for i := range q.ids {
		if !slices.IsSorted(q.ids[i]) {
			slices.Sort(q.ids[i])
		}
	}
	merged, entries := mergeLive(q.live, q.spare[:0], q.ids)
	q.live, q.spare = merged, q.live
	return entries, tasks
}

// mergeLive makes the list of live entries, in to, from the ids with each flag,
// which are sorted, and from what is known of the entries. It tells whether any
// entry came, went, or has other flags.
func mergeLive(known, to []liveEntry, ids [3][]int64) (merged []liveEntry, changed bool) {
	queued, active, aborted := ids[0], ids[1], ids[2]
	to = slices.Grow(to, len(queued)+len(active))
	for len(queued) > 0 || len(active) > 0 {
		id := first(queued, active)
		for len(aborted) > 0 && aborted[0] < id {
			aborted = aborted[1:]
		}
		flags := take(&queued, id, isQueued) | take(&active, id, isActive) | take(&aborted, id, isAborted)
		for len(known) > 0 && int64(known[0].entry.ID) < id {
			known, changed = known[1:], true
		}
		e := liveEntry{entry: scheduler.Entry{ID: scheduler.EntryID(id)}}
		if len(known) > 0 && int64(known[0].entry.ID) == id {
			e, known = known[0], known[1:]
		}
		changed = changed || e.flags != flags
		e.flags = flags
		to = append(to, e)
	}
	return to, changed || len(known) > 0
}

// first is the lower of the first ids of two lists.
func first(a, b []int64) int64 {
	if len(b) == 0 || len(a) > 0 && a[0] < b[0] {
		return a[0]
	}
	return b[0]
}

// take removes the first id of a list if it is the given one, and returns the flag
// that being in the list means.
func take(list *[]int64, id int64, flag queueFlags) queueFlags {
	if len(*list) == 0 || (*list)[0] != id {
		return 0
	}
	*list = (*list)[1:]
	return flag
}

// add adds the positions of the rows that are refreshed now, of n in all, to
// sorted positions.
func (ro *rotation) add(positions []int, n int, refreshRows func(time.Duration, int) int) []int {
	now := time.Now()
	rows := min(refreshRows(now.Sub(ro.at), n), ro.left, n)
	ro.at = now
	ro.left -= rows
	if rows == 0 {
		return positions
	}
	for range rows {
		if ro.next >= n {
			ro.next = 0
		}
		positions = append(positions, ro.next)
		ro.next++
	}
	slices.Sort(positions)
	return slices.Compact(positions)
}

// readEntryRows reads the rows of the entries at some positions, which are sorted,
// and tells whether any is different.
func readEntryRows(r *sqldb.Reader, live []liveEntry, positions []int) (changed bool) {
	ids := sqldb.IDsOf(positions, func(at int) int64 { return int64(live[at].entry.ID) })
	for where := range sqldb.Ranges("q.id", ids) {
		r.Rows("SELECT q.id, q.job_id, q.host_id, q.meta_host, CASE WHEN "+pendingCondition+" THEN 1 ELSE 0 END FROM afe_host_queue_entries q WHERE "+where+" ORDER BY q.id", func(v sqldb.Row) {
			id := v.Int(0).N
			for len(positions) > 0 && int64(live[positions[0]].entry.ID) < id {
				positions = positions[1:]
			}
			if len(positions) == 0 || int64(live[positions[0]].entry.ID) != id {
				return
			}
			e := &live[positions[0]]
			row := decodeEntry(*e, v)
			e.readAs = row.readAs
			changed = changed || row != *e
			*e = row
		})
	}
	return changed
}

// pendingCondition selects pending entries q (Autotest
// JobQueryManager.get_pending_queue_entries).
const pendingCondition = "q.status = 'Queued' AND q.active = 0 AND q.complete = 0 AND q.aborted = 0 AND (q.host_id IS NOT NULL OR q.meta_host IS NOT NULL)"

// decodeEntry decodes the row of a live entry.
func decodeEntry(e liveEntry, v sqldb.Row) liveEntry {
	job, host, meta := v.Int(1), v.Int(2), v.Int(3)
	return liveEntry{
		entry: scheduler.Entry{
			ID: e.entry.ID, Job: scheduler.JobID(job.N), Host: scheduler.HostID(host.N), MetaHost: scheduler.LabelID(meta.N),
		},
		flags: e.flags, readAs: e.flags, pending: v.Int(4).N == 1, bad: sqldb.AnyBad(&job, &host, &meta),
	}
}

// listPending derives the shard's pending entries, and tells whether they are
// others than before. Those with a value that is no integer are reported and
// passed over.
func (lab *labRows) listPending() (changed bool) {
	q := &lab.queue
	pending, bad := q.pendingSpare[:0], []scheduler.Problem(nil)
	for i := range q.live {
		e := &q.live[i]
		switch {
		case !e.pending || !lab.own.ours(&e.entry, &lab.hosts):
		case e.bad:
			bad = append(bad, malformedEntry(&e.entry))
		default:
			pending = append(pending, e.entry)
		}
	}
	changed = !slices.Equal(pending, q.pending) || !slices.Equal(bad, q.badEntries)
	q.pending, q.pendingSpare, q.badEntries = pending, q.pending, bad
	return changed
}

// isPending tells whether an entry is pending, and the shard's.
func (q *queueRows) isPending(id scheduler.EntryID) bool {
	_, found := slices.BinarySearchFunc(q.pending, id, func(e scheduler.Entry, id scheduler.EntryID) int { return int(e.ID - id) })
	return found
}

// deriveUses derives which hosts active entries and special tasks use, given which
// of these rows are different, and tells whether any use is.
func (lab *labRows) deriveUses(hosts, entries, tasks bool) (changed bool) {
	all := lab.snapshot.Hosts
	if hosts || entries {
		active := make([]scheduler.EntryID, len(all))
		for i := range lab.queue.live {
			e := &lab.queue.live[i]
			if num, ok := lab.hosts.num[int64(e.entry.Host)]; ok && e.flags&isActive != 0 {
				active[num] = e.entry.ID
			}
		}
		for i := range all {
			changed = changed || all[i].ActiveEntry != active[i]
			all[i].ActiveEntry = active[i]
		}
	}
	if !hosts && !tasks {
		return changed
	}
	open := make([]bool, len(all))
	for _, host := range lab.queue.tasks {
		if num, ok := lab.hosts.num[host]; ok {
			open[num] = true
		}
	}
	for i := range all {
		changed = changed || all[i].OpenTask != open[i]
		all[i].OpenTask = open[i]
	}
	var frontend []scheduler.HostID
	for _, host := range lab.queue.frontend {
		if _, ok := lab.hosts.num[host]; ok {
			frontend = append(frontend, scheduler.HostID(host))
		}
	}
	return renew(&lab.snapshot.TaskHosts, frontend, same) || changed
}

// listEntries puts the pending entries into the snapshot, but for those whose job
// has a value that is no integer, and tells whether rows are malformed that were
// not before.
func (lab *labRows) listEntries() (changed bool) {
	s := &lab.snapshot
	malformed := slices.Concat(lab.hosts.malformed, lab.queue.badEntries)
	s.Entries = lab.queue.pending
	if len(lab.jobs.bad) > 0 {
		s.Entries = slices.DeleteFunc(slices.Clone(s.Entries), func(e scheduler.Entry) bool {
			bad := lab.jobs.bad[e.Job]
			if bad {
				malformed = append(malformed, malformedEntry(&e))
			}
			return bad
		})
	}
	return renew(&s.Malformed, malformed, same)
}
