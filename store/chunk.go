package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/hostsched/hostsched/scheduler"
)

// writeUnits writes a chunk of assignments with a handful of statements, and
// fails with errChanged if a row is not as the snapshot had it. Lanes do it in
// different order, so that they seldom change the same index at the same time:
// that makes a large plan a tenth faster.
func (la *lane) writeUnits(ctx context.Context, tx dbtx, us []unit, owner string) error {
	db := la.l.db
	w := &chunkWriter{ctx: ctx, tx: tx, dialect: db.dialect}
	w.collect(us)
	w.lease(owner)
	if la.num == 0 {
		w.assignAll()
		w.insert()
	} else {
		w.insert()
		w.assignAll()
	}
	if db.fail.chunk != nil && w.err == nil {
		w.err = db.fail.chunk()
	}
	return w.err
}

// assignAll writes what becomes of entries.
func (w *chunkWriter) assignAll() {
	w.assign(w.anyHost, false)
	w.assign(w.named, true)
	w.writeStatuses()
}

// insert writes the rows that come with assignments.
func (w *chunkWriter) insert() {
	if len(w.ineligible) > 0 {
		w.exec(-1, w.dialect.insertIgnore+" afe_ineligible_host_queues (job_id, host_id) VALUES "+string(w.ineligible))
	}
	if len(w.tasks) > 0 {
		w.exec(-1, "INSERT INTO afe_special_tasks (host_id, task, queue_entry_id, requested_by_id, is_active, is_complete, success, is_aborted, time_requested) VALUES "+string(w.tasks))
	}
}

// chunkWriter collects the rows of a chunk and runs its statements until the
// first error.
type chunkWriter struct {
	ctx     context.Context
	tx      dbtx
	dialect dialect
	err     error

	hosts             []int64
	anyHost, named    []assigned
	ineligible, tasks []byte                 // rows of VALUES
	pending, stopped  []int64                // assigned entries that end so
	hostPending       []int64                // assigned hosts that become Pending
	hostReady         []int64                // hosts that become Ready again
	changes           map[changeKind][]int64 // entries changed besides
	changeOrder       []changeKind           // in plan order
}

// assigned is an entry with its host, and the results directory if it starts at
// once.
type assigned struct {
	entry, host int64
	starts      bool
	subdir      string
}

// pair is an id and a value, written in SQL.
type pair struct {
	key   int64
	value string
}

type changeKind struct {
	from, to scheduler.EntryStatus
	subdir   string
}

func (w *chunkWriter) collect(us []unit) {
	w.changes = make(map[changeKind][]int64)
	for _, u := range us {
		for i := range u.assignments {
			w.assignment(&u.assignments[i])
		}
		for _, c := range u.changes {
			kind := changeKind{c.From, c.Status, c.Subdir}
			if w.changes[kind] == nil {
				w.changeOrder = append(w.changeOrder, kind)
			}
			w.changes[kind] = append(w.changes[kind], int64(c.Entry))
			if c.Status == scheduler.StatusStopped && c.From == scheduler.StatusPending && c.Host != 0 {
				w.hostReady = append(w.hostReady, int64(c.Host))
			}
		}
	}
}

func (w *chunkWriter) assignment(a *scheduler.Assignment) {
	entry, host := int64(a.Entry), int64(a.Host)
	w.hosts = append(w.hosts, host)
	as := assigned{entry: entry, host: host, starts: a.Status == scheduler.StatusStarting, subdir: a.Subdir}
	if a.Named {
		w.named = append(w.named, as)
	} else {
		w.anyHost = append(w.anyHost, as)
		w.ineligible = append(tuple(w.ineligible, int64(a.Job), host), ')')
	}
	switch a.Status {
	case scheduler.StatusPending:
		w.pending = append(w.pending, entry)
		w.hostPending = append(w.hostPending, host)
	case scheduler.StatusStarting:
		w.hostPending = append(w.hostPending, host)
	case scheduler.StatusStopped:
		w.stopped = append(w.stopped, entry)
		w.hostReady = append(w.hostReady, host)
	}
	for _, task := range a.Tasks.Names() {
		b := append(tuple(w.tasks, host), ", '"...)
		b = append(append(b, task...), "', "...)
		b = append(strconv.AppendInt(b, entry, 10), ", "...)
		b = append(strconv.AppendInt(b, int64(a.RequestedBy), 10), ", 0, 0, 0, 0, "...)
		w.tasks = append(append(b, w.dialect.now...), ')')
	}
}

// lease takes the hosts, if all of them are still free.
func (w *chunkWriter) lease(owner string) {
	if len(w.hosts) == 0 {
		return
	}
	set := "leased = 1"
	if len(w.hostPending) > 0 {
		set += ", status = CASE WHEN id IN " + list(w.hostPending) + " THEN 'Pending' ELSE status END"
	}
	w.exec(len(w.hosts), "UPDATE afe_hosts"+w.dialect.byKey+" SET "+set+" WHERE leased = 0 AND locked = 0 AND id IN "+list(w.hosts)+owner)
}

// assign gives entries their hosts, and starts those that need no tasks, if all
// of them are still pending. An entry that names its host must still do so.
func (w *chunkWriter) assign(entries []assigned, named bool) {
	if len(entries) == 0 {
		return
	}
	slices.SortFunc(entries, func(a, b assigned) int { return cmp.Compare(a.entry, b.entry) })
	ids := make([]int64, len(entries))
	hosts := make([]pair, len(entries))
	var starting []int64
	var subdirs []pair
	var args []any
	for i, e := range entries {
		ids[i] = e.entry
		hosts[i] = pair{e.entry, strconv.FormatInt(e.host, 10)}
		if e.starts {
			starting = append(starting, e.entry)
			subdirs = append(subdirs, pair{e.entry, "?"})
			args = append(args, e.subdir)
		}
	}
	set, where := "active = 1, host_id = "+caseOf(hosts, ""), "host_id IS NULL"
	if named {
		set, where = "active = 1", "host_id = "+caseOf(hosts, "")
	}
	if len(starting) > 0 {
		set += ", execution_subdir = " + caseOf(subdirs, "execution_subdir") + ", status = CASE WHEN id IN " + list(starting) + " THEN 'Starting' ELSE status END"
	}
	w.exec(len(ids), "UPDATE afe_host_queue_entries"+w.dialect.byKey+" SET "+set+" WHERE "+where+
		" AND status = 'Queued' AND active = 0 AND complete = 0 AND aborted = 0 AND id IN "+list(ids), args...)
}

// writeStatuses writes what becomes of synchronous jobs.
func (w *chunkWriter) writeStatuses() {
	entries := "UPDATE afe_host_queue_entries" + w.dialect.byKey + " SET "
	if len(w.pending) > 0 {
		w.exec(len(w.pending), entries+"status = 'Pending' WHERE id IN "+list(w.pending))
	}
	if len(w.stopped) > 0 {
		w.exec(len(w.stopped), entries+"status = 'Stopped', active = 0, complete = 1 WHERE id IN "+list(w.stopped))
	}
	for _, kind := range w.changeOrder {
		ids := w.changes[kind]
		set := "status = 'Starting', active = 1, execution_subdir = ?"
		args := []any{kind.subdir}
		if kind.to == scheduler.StatusStopped {
			set, args = "status = 'Stopped', active = 0, complete = 1", nil
		}
		w.exec(len(ids), entries+set+" WHERE complete = 0 AND status = '"+string(kind.from)+"' AND id IN "+list(ids), args...)
	}
	if len(w.hostReady) > 0 {
		w.exec(-1, "UPDATE afe_hosts"+w.dialect.byKey+" SET status = 'Ready' WHERE id IN "+list(w.hostReady))
	}
}

// exec runs a statement; want is the number of rows it must hit, -1 if any.
func (w *chunkWriter) exec(want int, text string, args ...any) {
	if w.err != nil {
		return
	}
	res, err := w.tx.ExecContext(w.ctx, text, args...)
	if err != nil {
		w.err = err
		return
	}
	n, err := res.RowsAffected()
	if err == nil && want >= 0 && n != int64(want) {
		err = fmt.Errorf("%w: %d of %d rows", errChanged, n, want)
	}
	w.err = err
}
