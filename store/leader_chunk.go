package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// chunk is what a chunk of assignments writes: a handful of statements, made
// before its transaction begins, for that locks what others may wait for.
type chunk struct {
	dialect sqldb.Dialect

	hosts            []int64
	anyHost, named   []assigned
	ineligibleRows   []byte // rows of VALUES
	newTasks         []newTasks
	pending, stopped []int64                // assigned entries that end so
	hostPending      []int64                // assigned hosts that become Pending
	hostReady        []int64                // hosts that become Ready again
	changes          map[changeKind][]int64 // entries changed besides
	changeOrder      []changeKind           // in plan order

	lease, entries, ineligible, tasks, events []statement
}

// statement is text with its arguments; want is the number of rows it must hit,
// -1 if any.
type statement struct {
	want int
	text string
	args []any
}

func chunkOf(d sqldb.Dialect, us []unit, owner string, events []Event) *chunk {
	c := &chunk{dialect: d, changes: make(map[changeKind][]int64)}
	c.collect(us)
	c.leaseHosts(owner)
	c.assign(c.anyHost, false)
	c.assign(c.named, true)
	c.setStatuses()
	c.insertRows()
	c.events = noteEvents(d, events)
	return c
}

// writeChunk fails with errChanged if a row is not as the snapshot had it. Its hosts are
// leased while it would only wait for its turn, or else after the entries, for which the
// next chunk waits.
func (a *applier) writeChunk(ctx context.Context, tx sqldb.Querier, c *chunk) error {
	first, later := c.lease, slices.Concat(c.ineligible, c.events)
	if a.before.past() {
		first, later = nil, slices.Concat(c.lease, later)
	}
	if err := run(ctx, tx, first); err != nil {
		return err
	}
	return a.inOrder(ctx,
		func() error { return run(ctx, tx, c.entries) },
		func() error { return run(ctx, tx, c.tasks) },
		func() error {
			if err := run(ctx, tx, later); err != nil || a.l.db.fail.chunk == nil {
				return err
			}
			return a.l.db.fail.chunk()
		})
}

func run(ctx context.Context, tx sqldb.Querier, statements []statement) error {
	for _, s := range statements {
		if err := s.run(ctx, tx); err != nil {
			return err
		}
	}
	return nil
}

func (s statement) run(ctx context.Context, tx sqldb.Querier) error {
	res, err := tx.ExecContext(ctx, s.text, s.args...)
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err == nil && s.want >= 0 && n != int64(s.want) {
		err = fmt.Errorf("%w: %d of %d rows", errChanged, n, s.want)
	}
	return err
}

// assigned is an entry with its host, and the results directory if it starts at
// once.
type assigned struct {
	entry, host int64
	starts      bool
	subdir      string
}

type changeKind struct {
	from, to scheduler.EntryStatus
	subdir   string
}

func (c *chunk) collect(us []unit) {
	for _, u := range us {
		for i := range u.assignments {
			c.assignment(&u.assignments[i], u.places[i])
		}
		for _, change := range u.changes {
			kind := changeKind{change.From, change.Status, change.Subdir}
			if c.changes[kind] == nil {
				c.changeOrder = append(c.changeOrder, kind)
			}
			c.changes[kind] = append(c.changes[kind], int64(change.Entry))
			if change.Status == scheduler.StatusStopped && change.From == scheduler.StatusPending && change.Host != 0 {
				c.hostReady = append(c.hostReady, int64(change.Host))
			}
		}
	}
}

func (c *chunk) assignment(a *scheduler.Assignment, place int) {
	entry, host := int64(a.Entry), int64(a.Host)
	c.hosts = append(c.hosts, host)
	as := assigned{entry: entry, host: host, starts: a.Status == scheduler.StatusStarting, subdir: a.Subdir}
	if a.Named {
		c.named = append(c.named, as)
	} else {
		c.anyHost = append(c.anyHost, as)
		c.ineligibleRows = append(sqldb.Tuple(c.ineligibleRows, int64(a.Job), host), ')')
	}
	switch a.Status {
	case scheduler.StatusPending:
		c.pending = append(c.pending, entry)
		c.hostPending = append(c.hostPending, host)
	case scheduler.StatusStarting:
		c.hostPending = append(c.hostPending, host)
	case scheduler.StatusStopped:
		c.stopped = append(c.stopped, entry)
		c.hostReady = append(c.hostReady, host)
	}
	if a.Tasks != 0 {
		c.newTasks = append(c.newTasks, newTasks{place: place, assignment: a})
	}
}

// newTasks are the special tasks of an assignment, and its place in the plan.
type newTasks struct {
	place      int
	assignment *scheduler.Assignment
}

// leaseHosts takes the hosts, if all of them are still free.
func (c *chunk) leaseHosts(owner string) {
	if len(c.hosts) == 0 {
		return
	}
	set := "leased = 1"
	if len(c.hostPending) > 0 {
		set += ", status = CASE WHEN id IN " + sqldb.List(c.hostPending) + " THEN 'Pending' ELSE status END"
	}
	c.lease = add(c.lease, len(c.hosts), "UPDATE afe_hosts"+c.dialect.ByKey+" SET "+set+" WHERE leased = 0 AND locked = 0 AND id IN "+sqldb.List(c.hosts)+owner+notDraining)
}

// assign gives entries their hosts, and starts those that need no tasks, if all
// of them are still pending. An entry that names its host must still do so.
func (c *chunk) assign(entries []assigned, named bool) {
	if len(entries) == 0 {
		return
	}
	slices.SortFunc(entries, func(a, b assigned) int { return cmp.Compare(a.entry, b.entry) })
	ids := make([]int64, len(entries))
	hosts := make([]sqldb.Pair, len(entries))
	var starting []int64
	var subdirs []sqldb.Pair
	var args []any
	for i, e := range entries {
		ids[i] = e.entry
		hosts[i] = sqldb.Pair{Key: e.entry, Value: strconv.FormatInt(e.host, 10)}
		if e.starts {
			starting = append(starting, e.entry)
			subdirs = append(subdirs, sqldb.Pair{Key: e.entry, Value: "?"})
			args = append(args, e.subdir)
		}
	}
	set, where := "active = 1, host_id = "+sqldb.CaseOf(hosts, ""), "host_id IS NULL"
	if named {
		set, where = "active = 1", "host_id = "+sqldb.CaseOf(hosts, "")
	}
	if len(starting) > 0 {
		set += ", execution_subdir = " + sqldb.CaseOf(subdirs, "execution_subdir") + ", status = CASE WHEN id IN " + sqldb.List(starting) + " THEN 'Starting' ELSE status END"
	}
	c.entries = add(c.entries, len(ids), "UPDATE afe_host_queue_entries"+c.dialect.ByKey+" SET "+set+" WHERE "+where+
		" AND status = 'Queued' AND active = 0 AND complete = 0 AND aborted = 0 AND id IN "+sqldb.List(ids), args...)
}

// setStatuses says what becomes of synchronous jobs.
func (c *chunk) setStatuses() {
	entries := "UPDATE afe_host_queue_entries" + c.dialect.ByKey + " SET "
	if len(c.pending) > 0 {
		c.entries = add(c.entries, len(c.pending), entries+"status = 'Pending' WHERE id IN "+sqldb.List(c.pending))
	}
	if len(c.stopped) > 0 {
		c.entries = add(c.entries, len(c.stopped), entries+"status = 'Stopped', active = 0, complete = 1 WHERE id IN "+sqldb.List(c.stopped))
	}
	for _, kind := range c.changeOrder {
		ids := c.changes[kind]
		set := "status = 'Starting', active = 1, execution_subdir = ?"
		args := []any{kind.subdir}
		if kind.to == scheduler.StatusStopped {
			set, args = "status = 'Stopped', active = 0, complete = 1", nil
		}
		c.entries = add(c.entries, len(ids), entries+set+" WHERE complete = 0 AND status = '"+string(kind.from)+"' AND id IN "+sqldb.List(ids), args...)
	}
	if len(c.hostReady) > 0 {
		c.entries = add(c.entries, -1, "UPDATE afe_hosts"+c.dialect.ByKey+" SET status = 'Ready' WHERE id IN "+sqldb.List(c.hostReady))
	}
}

// insertRows adds the rows that come with assignments.
func (c *chunk) insertRows() {
	if len(c.ineligibleRows) > 0 {
		c.ineligible = add(c.ineligible, -1, c.dialect.InsertIgnore+" afe_ineligible_host_queues (job_id, host_id) VALUES "+string(c.ineligibleRows))
	}
	if len(c.newTasks) > 0 {
		c.tasks = add(c.tasks, -1, "INSERT INTO afe_special_tasks (host_id, task, queue_entry_id, requested_by_id, is_active, is_complete, success, is_aborted, time_requested) VALUES "+c.taskRows())
	}
}

// taskRows writes the special tasks as rows of VALUES, in queue order.
func (c *chunk) taskRows() string {
	slices.SortStableFunc(c.newTasks, func(a, b newTasks) int { return cmp.Compare(a.place, b.place) })
	var b []byte
	for _, n := range c.newTasks {
		for _, task := range n.assignment.Tasks.Names() {
			b = append(sqldb.Tuple(b, int64(n.assignment.Host)), ", '"...)
			b = append(append(b, task...), "', "...)
			b = append(strconv.AppendInt(b, int64(n.assignment.Entry), 10), ", "...)
			b = append(strconv.AppendInt(b, int64(n.assignment.RequestedBy), 10), ", 0, 0, 0, 0, "...)
			b = append(append(b, c.dialect.Now...), ')')
		}
	}
	return string(b)
}

func add(to []statement, want int, text string, args ...any) []statement {
	return append(to, statement{want, text, args})
}
