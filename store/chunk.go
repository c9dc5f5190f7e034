package store

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"

	"github.com/hostsched/hostsched/scheduler"
)

// writeUnits writes a chunk of assignments with a handful of statements, and
// fails with errChanged if a row is not as the snapshot had it.
func (db *DB) writeUnits(ctx context.Context, tx *sql.Tx, us []unit, owner string) error {
	w := &chunkWriter{ctx: ctx, tx: tx, dialect: db.dialect}
	w.collect(us)
	w.exec(len(w.hosts), "UPDATE afe_hosts"+w.dialect.byKey+" SET leased = 1 WHERE leased = 0 AND locked = 0 AND id IN "+list(w.hosts)+owner)
	const queued = " AND status = 'Queued' AND active = 0 AND complete = 0 AND aborted = 0"
	if len(w.anyHost) > 0 {
		w.exec(len(w.anyHost), "UPDATE afe_host_queue_entries"+w.dialect.byKey+" SET active = 1, host_id = "+caseOf(w.anyHost)+" WHERE host_id IS NULL"+queued+" AND id IN "+listKeys(w.anyHost))
		w.exec(-1, w.dialect.insertIgnore+" afe_ineligible_host_queues (job_id, host_id) VALUES "+w.ineligible.String())
	}
	if len(w.named) > 0 {
		w.exec(len(w.named), "UPDATE afe_host_queue_entries"+w.dialect.byKey+" SET active = 1 WHERE host_id = "+caseOf(w.named)+queued+" AND id IN "+listKeys(w.named))
	}
	w.writeStatuses()
	if db.fail.chunk != nil && w.err == nil {
		w.err = db.fail.chunk()
	}
	if w.tasks.Len() > 0 {
		w.exec(-1, "INSERT INTO afe_special_tasks (host_id, task, queue_entry_id, requested_by_id, is_active, is_complete, success, is_aborted, time_requested) VALUES "+w.tasks.String())
	}
	return w.err
}

// chunkWriter collects the rows of a chunk and runs its statements until the
// first error.
type chunkWriter struct {
	ctx     context.Context
	tx      *sql.Tx
	dialect dialect
	err     error

	hosts             []int64
	anyHost, named    []pair // entry -> host
	ineligible, tasks strings.Builder
	pending, stopped  []int64                // assigned entries that end so
	starting          map[string][]int64     // subdir -> assigned entries
	hostPending       []int64                // hosts that become Pending
	hostReady         []int64                // hosts that become Ready
	changes           map[changeKind][]int64 // entries changed besides
	changeOrder       []changeKind           // in plan order
	startOrder        []string               // in plan order
}

type pair struct{ key, value int64 }

type changeKind struct {
	from, to scheduler.EntryStatus
	subdir   string
}

func (w *chunkWriter) collect(us []unit) {
	w.starting = make(map[string][]int64)
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
	if a.Named {
		w.named = append(w.named, pair{entry, host})
	} else {
		w.anyHost = append(w.anyHost, pair{entry, host})
		tuple(&w.ineligible, int64(a.Job), host)
		w.ineligible.WriteByte(')')
	}
	switch a.Status {
	case scheduler.StatusPending:
		w.pending = append(w.pending, entry)
		w.hostPending = append(w.hostPending, host)
	case scheduler.StatusStarting:
		if w.starting[a.Subdir] == nil {
			w.startOrder = append(w.startOrder, a.Subdir)
		}
		w.starting[a.Subdir] = append(w.starting[a.Subdir], entry)
		w.hostPending = append(w.hostPending, host)
	case scheduler.StatusStopped:
		w.stopped = append(w.stopped, entry)
		w.hostReady = append(w.hostReady, host)
	}
	for _, task := range a.Tasks.Names() {
		tuple(&w.tasks, host)
		fmt.Fprintf(&w.tasks, ", '%s', %d, %d, 0, 0, 0, 0, %s)", task, entry, a.RequestedBy, w.dialect.now)
	}
}

// tuple begins another row of a VALUES list with integers; the caller closes it.
func tuple(b *strings.Builder, values ...int64) {
	if b.Len() > 0 {
		b.WriteString(", ")
	}
	b.WriteByte('(')
	for i, v := range values {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(strconv.FormatInt(v, 10))
	}
}

func (w *chunkWriter) writeStatuses() {
	entries := "UPDATE afe_host_queue_entries" + w.dialect.byKey + " SET "
	if len(w.pending) > 0 {
		w.exec(len(w.pending), entries+"status = 'Pending' WHERE id IN "+list(w.pending))
	}
	w.writeStarts()
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
	if len(w.hostPending) > 0 {
		w.exec(-1, "UPDATE afe_hosts"+w.dialect.byKey+" SET status = 'Pending' WHERE id IN "+list(w.hostPending))
	}
	if len(w.hostReady) > 0 {
		w.exec(-1, "UPDATE afe_hosts"+w.dialect.byKey+" SET status = 'Ready' WHERE id IN "+list(w.hostReady))
	}
}

// writeStarts sets the results directory of all entries that start, with one
// statement: every host's entry has its own.
func (w *chunkWriter) writeStarts() {
	if len(w.startOrder) == 0 {
		return
	}
	var ids []int64
	var args []any
	var b strings.Builder
	for _, subdir := range w.startOrder {
		for _, id := range w.starting[subdir] {
			fmt.Fprintf(&b, " WHEN %d THEN ?", id)
			args = append(args, subdir)
			ids = append(ids, id)
		}
	}
	w.exec(len(ids), "UPDATE afe_host_queue_entries"+w.dialect.byKey+" SET status = 'Starting', execution_subdir = CASE id"+b.String()+" END WHERE id IN "+list(ids), args...)
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
