package store

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store/sqldb"
)

// standing is what the indexes of afe_host_queue_entries say of an entry.
type standing uint8

const (
	isQueued  standing = 1 << iota // status Queued
	isActive                       // active
	isAborted                      // aborted, and not complete yet
)

// liveEntry is an entry that is queued or active.
type liveEntry struct {
	entry    scheduler.Entry
	standing standing
	pending  bool // by its row, whosever it is
	bad      bool // a value is no integer
	ours     bool // pending, and of this shard
	fresh    bool // new, or of a new standing, in the last snapshot
}

// queueRows is what a Snapshots remembers of the queue entries.
type queueRows struct {
	live      []liveEntry // by id
	spare     []liveEntry // room for the next list
	ids       [3][]int64  // of each standing
	tasks     []int64     // hosts of open special tasks
	frontend  []int64     // those of frontend tasks that have not begun
	next      int         // whose turn it is to be read again
	left      int         // how many have to be, until all were since the last change
	again     []int       // positions of entries whose rows were read in this snapshot
	malformed []scheduler.Problem
	// usesChanged: which entries are active, or on which hosts, is not as before.
	usesChanged bool
	// The tables of entries and of special tasks may have changed.
	stale, tasksStale bool
}

// readQueue finds out which entries are pending.
func (t *Snapshots) readQueue(r *sqldb.Reader) {
	q := &t.queue
	q.usesChanged, q.again = false, q.again[:0]
	q.stale = t.tables.stale(r, "afe_host_queue_entries")
	q.tasksStale = t.tables.stale(r, "afe_special_tasks")
	t.readStandings(r)
	if t.tables.stale(r, "afe_jobs", "afe_jobs_dependency_labels") || q.stale {
		q.left = len(q.live)
	}
	t.takeTurns()
	t.readEntryRows(r)
	if q.stale || t.own.changed || len(q.again) > 0 || t.changed {
		t.listPending()
	}
}

// What readStandings asks, of the queue and of special tasks. One column instead
// of two: the lists are long.
const (
	standings = "SELECT 8 * id FROM afe_host_queue_entries WHERE status = 'Queued'" +
		" UNION ALL SELECT 8 * id + 1 FROM afe_host_queue_entries WHERE active = 1" +
		" UNION ALL SELECT 8 * id + 2 FROM afe_host_queue_entries WHERE aborted = 1 AND complete = 0"
	// With both conditions the server has an index for it.
	openTasks = "SELECT 8 * host_id + CASE WHEN queue_entry_id IS NULL AND is_active = 0 THEN 4 ELSE 3 END FROM afe_special_tasks WHERE is_active IN (0, 1) AND is_complete = 0"
)

// readStandings asks the indexes which entries are queued, active or aborted,
// and which hosts special tasks use, if those tables may have changed. It notes
// the entries that are new or changed their standing.
func (t *Snapshots) readStandings(r *sqldb.Reader) {
	q := &t.queue
	var queries []string
	if q.stale {
		queries = append(queries, standings)
		for i := range q.ids {
			q.ids[i] = q.ids[i][:0]
		}
	}
	if q.tasksStale {
		queries = append(queries, openTasks)
		q.tasks, q.frontend = q.tasks[:0], q.frontend[:0]
	}
	if len(queries) == 0 {
		return
	}
	r.Ids(strings.Join(queries, " UNION ALL "), func(n int64) {
		id, what := n>>3, n&7
		switch what {
		case 4:
			q.frontend = append(q.frontend, id)
			fallthrough
		case 3:
			q.tasks = append(q.tasks, id)
		default:
			q.ids[what] = append(q.ids[what], id)
		}
	})
	if !q.stale {
		return
	}
	for i := range q.ids {
		if !slices.IsSorted(q.ids[i]) {
			slices.Sort(q.ids[i])
		}
	}
	t.merge()
}

// merge makes the list of live entries from the ids, which are sorted, and from
// what is known of them.
func (t *Snapshots) merge() {
	q := &t.queue
	queued, active, aborted := q.ids[0], q.ids[1], q.ids[2]
	old, now := q.live, slices.Grow(q.spare[:0], len(queued)+len(active))
	for len(queued) > 0 || len(active) > 0 {
		id := first(queued, active)
		for len(aborted) > 0 && aborted[0] < id {
			aborted = aborted[1:]
		}
		stands := take(&queued, id, isQueued) | take(&active, id, isActive) | take(&aborted, id, isAborted)
		for len(old) > 0 && int64(old[0].entry.ID) < id {
			t.gone(&old[0])
			old = old[1:]
		}
		e := liveEntry{entry: scheduler.Entry{ID: scheduler.EntryID(id)}}
		if len(old) > 0 && int64(old[0].entry.ID) == id {
			e, old = old[0], old[1:]
		}
		if e.fresh = e.standing != stands; e.fresh {
			e.standing = stands
			q.again = append(q.again, len(now))
		}
		now = append(now, e)
	}
	for i := range old {
		t.gone(&old[i])
	}
	q.live, q.spare = now, q.live
}

// gone notes that an entry is neither queued nor active any more.
func (t *Snapshots) gone(e *liveEntry) {
	if e.standing&isActive != 0 {
		t.queue.usesChanged = true
	}
	if e.ours {
		t.changed = true
	}
}

// first is the lower of the first ids of two lists.
func first(a, b []int64) int64 {
	if len(b) == 0 || len(a) > 0 && a[0] < b[0] {
		return a[0]
	}
	return b[0]
}

// take removes the first id of a list if it is the given one, and says what it
// means to be in that list.
func take(list *[]int64, id int64, means standing) standing {
	if len(*list) == 0 || (*list)[0] != id {
		return 0
	}
	*list = (*list)[1:]
	return means
}

// takeTurns adds the entries whose turn it is to be read again.
func (t *Snapshots) takeTurns() {
	q := &t.queue
	now := time.Now()
	n := min(t.refreshRows(now.Sub(t.lastAt)), q.left, len(q.live))
	t.lastAt = now
	q.left -= n
	for range n {
		if q.next >= len(q.live) {
			q.next = 0
		}
		q.again = append(q.again, q.next)
		q.next++
	}
	slices.Sort(q.again)
	q.again = slices.Compact(q.again)
}

// readEntryRows reads the rows of the entries that are due.
func (t *Snapshots) readEntryRows(r *sqldb.Reader) {
	q := &t.queue
	ids := make([]int64, len(q.again))
	for i, at := range q.again {
		ids[i] = int64(q.live[at].entry.ID)
	}
	at := q.again
	for where := range sqldb.Ranges("q.id", ids) {
		r.Rows("SELECT q.id, q.job_id, q.host_id, q.meta_host, CASE WHEN "+pendingCondition+" THEN 1 ELSE 0 END FROM afe_host_queue_entries q WHERE "+where+" ORDER BY q.id", func(v sqldb.Row) {
			id := v.Int(0).N
			for len(at) > 0 && int64(q.live[at[0]].entry.ID) < id {
				at = at[1:]
			}
			if len(at) > 0 && int64(q.live[at[0]].entry.ID) == id {
				t.entryRow(&q.live[at[0]], v)
			}
		})
	}
}

// entryRow decodes a row of a live entry. One with nonsense in it is reported
// and passed over.
func (t *Snapshots) entryRow(e *liveEntry, v sqldb.Row) {
	job, host, meta := v.Int(1), v.Int(2), v.Int(3)
	fresh := liveEntry{
		entry: scheduler.Entry{
			ID: e.entry.ID, Job: scheduler.JobID(job.N), Host: scheduler.HostID(host.N), MetaHost: scheduler.LabelID(meta.N),
		},
		standing: e.standing, pending: v.Int(4).N == 1, bad: sqldb.AnyBad(&job, &host, &meta), ours: e.ours, fresh: e.fresh,
	}
	if fresh.standing&isActive != 0 && (fresh.entry.Host != e.entry.Host || !e.pending) || fresh.pending != e.pending {
		t.queue.usesChanged = true
	}
	if fresh != *e {
		t.changed = t.changed || fresh.pending || e.pending
		*e = fresh
	}
}

// listPending lists the shard's pending entries, in order of their ids.
func (t *Snapshots) listPending() {
	s, q := t.last, &t.queue
	s.Entries, q.malformed = s.Entries[:0], nil
	for i := range q.live {
		e := &q.live[i]
		before, mine := e.ours, e.pending && t.ours(&e.entry)
		e.ours = mine && !e.bad
		t.changed = t.changed || e.ours != before
		if e.ours && !before && !e.fresh {
			// It was another shard's: nobody has read its job.
			e.fresh = true
			q.again = append(q.again, i)
		}
		if mine && e.bad {
			q.malformed = append(q.malformed, malformedEntry(&e.entry))
		}
		if !e.ours {
			continue
		}
		s.Entries = append(s.Entries, e.entry)
	}
}

// ours tells whether a pending entry is the shard's.
func (t *Snapshots) ours(e *scheduler.Entry) bool {
	layout := &t.own.layout
	if !t.own.basis.Shared {
		// Autotest's master leaves entries whose meta_host label belongs to a
		// shard to that shard, which has them in a database of its own.
		if len(layout.Labels) == 0 || !t.scope.Shard.IsMaster() {
			return true
		}
		_, ofShard := layout.Labels[int64(e.MetaHost)]
		return !ofShard
	}
	if len(layout.Names) == 0 {
		return true
	}
	if e.Host == 0 {
		return layout.OfEntry(false, 0, int64(e.MetaHost)) == shard.ID(t.own.basis.Shard)
	}
	if _, known := t.hosts.num[int64(e.Host)]; known {
		return true
	}
	return t.own.basis.Shard == 0 && !t.hosts.others[int64(e.Host)]
}

// isOurs tells whether an entry is pending, and of this shard.
func (q *queueRows) isOurs(id scheduler.EntryID) bool {
	i, found := slices.BinarySearchFunc(q.live, id, func(e liveEntry, id scheduler.EntryID) int { return cmp.Compare(e.entry.ID, id) })
	return found && q.live[i].ours
}
