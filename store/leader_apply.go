package store

import (
	"context"
	"errors"
	"time"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Result tells what became of a plan.
type Result struct {
	// Applied is the part of the plan that is in the database now, also when
	// Apply returned an error.
	Applied scheduler.Plan
	// Conflicts are entries whose row, or another that they need, such as their
	// host's, another client changed or removed after the snapshot. They are planned
	// anew in the next tick.
	Conflicts []scheduler.EntryID
	// Contended are entries that need a row which another client keeps locked. So are the
	// others of their synchronous jobs.
	Contended []scheduler.EntryID
	// Locked are the rows that other clients kept locked, in order. Whatever needs one
	// of them was left out.
	Locked []LockedRow
	// Transactions and LongestTx describe the writing, by all writers.
	Transactions int
	LongestTx    time.Duration
	// Lease, Schedule, Release, Hold and Move are how long each step took.
	Lease, Schedule, Release, Hold, Move time.Duration
}

// errChanged means that fewer rows than planned were as the snapshot had them.
var errChanged = errors.New("rows changed since the snapshot")

// Apply writes a plan, in chunks, each a fenced transaction: leases for frontend
// tasks, then assignments in queue order, then releases. Many assignments are written by
// several writers at once, and few of them leave one that releases meanwhile. ErrFenced
// means that the term is over. After any other error the plan may be applied in part; Result
// says how far.
func (l *Leader) Apply(ctx context.Context, plan scheduler.Plan) (Result, error) {
	a := &applier{l: l, writer: l.main()}
	err := a.apply(ctx, plan)
	l.foundLocked(&a.res)
	return a.res, err
}

func (a *applier) apply(ctx context.Context, plan scheduler.Plan) error {
	l := a.l
	l.basis = &plan.Basis
	defer l.applied()
	a.res.Applied.Basis = plan.Basis
	a.res.Applied.Waiting = plan.Waiting
	a.res.Applied.Problems = plan.Problems
	if !plan.Empty() {
		if err := l.checkWrites(ctx); err != nil {
			return err
		}
	}
	defer func() { l.remember(a.res.Applied) }()
	for _, step := range []func() error{
		func() error { return timed(&a.res.Lease, func() error { return a.leases(ctx, plan.Leases) }) },
		func() error { return a.assignAndRelease(ctx, plan) },
		func() error { return timed(&a.res.Hold, func() error { return a.holds(ctx, plan) }) },
		func() error { return timed(&a.res.Move, func() error { return a.moves(ctx, plan.Moves) }) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func timed(took *time.Duration, step func() error) error {
	began := time.Now()
	defer func() { *took = time.Since(began) }()
	return step()
}

func (l *Leader) applied() {
	l.basis = nil
	for _, w := range l.writers {
		w.tried = false
	}
}

// applier writes with one writer and notes what it wrote.
type applier struct {
	l      *Leader
	writer *writer
	// turn is that of the chunk of assignments being written, before that of the one
	// before it in queue order.
	turn, before *turn
	// took is the own time of the last transaction: without what it waited for the chunk
	// before, and without earlier attempts. wrote is how many rows the last chunk of
	// assignments had. Together they tell how fast the server is.
	took, waited time.Duration
	wrote        int
	res          Result
}

// lockAttempts bounds how often a transaction is repeated that collided with
// another client of the same tables: it was the victim of a deadlock, or waited
// too long for a row. Nothing of it was written.
const lockAttempts = 5

// write repeats a transaction that collided with another client.
func (a *applier) write(ctx context.Context, what string, work func(context.Context, sqldb.Querier) error) error {
	return a.writeWhile(ctx, sqldb.IsLockTimeout, what, work)
}

// writeOnce does the same, but gives up as soon as it waited too long for a row,
// because the caller can do without that row.
func (a *applier) writeOnce(ctx context.Context, what string, work func(context.Context, sqldb.Querier) error) error {
	again := func(err error) bool { return sqldb.IsLockTimeout(err) && !sqldb.IsLockWait(err) }
	return a.writeWhile(ctx, again, what, work)
}

func (a *applier) writeWhile(ctx context.Context, again func(error) bool, what string, work func(context.Context, sqldb.Querier) error) error {
	for attempt := 1; ; attempt++ {
		began := time.Now()
		a.waited = 0
		err := a.writer.write(ctx, what, work)
		a.took = time.Since(began) - a.waited
		a.res.Transactions++
		a.res.LongestTx = max(a.res.LongestTx, time.Since(began))
		if errors.Is(err, errOutOfTurn) {
			select {
			case <-a.before.ended:
			case <-ctx.Done():
			}
			attempt--
			continue
		}
		if !again(err) || attempt == lockAttempts {
			return err
		}
	}
}

func (a *applier) leases(ctx context.Context, leases []scheduler.Lease) error {
	host := func(l scheduler.Lease) int64 { return int64(l.Host) }
	for chunk := range chunks(&a.l.chunkSizer, leases) {
		err := writeHosts(ctx, a, chunk, host, func(chunk []scheduler.Lease) error {
			return a.leaseChunk(ctx, chunk, sqldb.IDsOf(chunk, host))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) leaseChunk(ctx context.Context, chunk []scheduler.Lease, ids []int64) error {
	err := a.writeOnce(ctx, "lease hosts of frontend tasks", func(ctx context.Context, tx sqldb.Querier) error {
		// A host locked or leased meanwhile is left alone: the next tick
		// looks at its task again.
		free, err := freeHosts(ctx, tx, "leased = 0 AND locked = 0 AND id IN "+sqldb.List(ids)+a.owner()+notDraining+a.l.db.Dialect.ForUpdate)
		if err != nil || len(free) == 0 {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE afe_hosts SET leased = 1 WHERE id IN "+sqldb.List(free)); err != nil {
			return err
		}
		return a.l.noteHosts(ctx, tx, eventAssigned, "frontend task", free)
	})
	if err == nil {
		a.res.Applied.Leases = append(a.res.Applied.Leases, chunk...)
	}
	return err
}

// freeHosts lists the hosts that a condition finds.
func freeHosts(ctx context.Context, tx sqldb.Querier, where string) (ids []int64, err error) {
	err = sqldb.EachID(ctx, tx, "SELECT id FROM afe_hosts WHERE "+where, func(id int64) { ids = append(ids, id) })
	return ids, err
}

// unit is what must happen together: one assignment, or all assignments and
// changes of a synchronous job.
type unit struct {
	assignments []scheduler.Assignment
	// places are those of the assignments in the plan.
	places  []int
	changes []scheduler.Change
}

// units groups a plan, in queue order of the first assignment of each unit.
// Synchronous jobs whose entries all wait for tasks need no grouping.
func units(plan scheduler.Plan) []unit {
	changed := make(map[scheduler.JobID][]scheduler.Change)
	for _, c := range plan.Changes {
		changed[c.Job] = append(changed[c.Job], c)
	}
	together := make(map[scheduler.JobID]int)
	out := make([]unit, 0, len(plan.Assignments))
	places := make([]int, len(plan.Assignments))
	for n, as := range plan.Assignments {
		places[n] = n
		if !as.Synch {
			out = append(out, unit{assignments: plan.Assignments[n : n+1 : n+1], places: places[n : n+1 : n+1]})
			continue
		}
		i, ok := together[as.Job]
		if !ok {
			i = len(out)
			together[as.Job] = i
			out = append(out, unit{changes: changed[as.Job]})
		}
		out[i].assignments, out[i].places = append(out[i].assignments, as), append(out[i].places, n)
	}
	return out
}

func (u unit) rows() int { return len(u.assignments) + len(u.changes) }

func rows(us []unit) int {
	n := 0
	for _, u := range us {
		n += u.rows()
	}
	return n
}

// chunkOfUnits is how many units make a chunk of about so many rows, at least
// one. A chunk does not end between the entries of a synchronous job, even where
// entries of other jobs stand among them, because tasks are inserted in queue
// order.
func chunkOfUnits(all []unit, size int) int {
	n, last := all[0].rows(), all[0].last()
	for i, u := range all[1:] {
		if n += u.rows(); n > size && last < u.places[0] {
			return i + 1
		}
		last = max(last, u.last())
	}
	return len(all)
}

// last is the place of the unit's last assignment in the plan.
func (u unit) last() int { return u.places[len(u.places)-1] }

// applyUnits writes a chunk. If rows have changed, or another client keeps them
// locked, the units concerned are left out and the rest is written; if it cannot be
// seen which these are, the chunk is halved until the culprit stands alone.
func (a *applier) applyUnits(ctx context.Context, all []unit) error {
	looked := a.l.contended.Load()
	us, err := withoutLocked(ctx, a, all, unit.rowsNeeded)
	if err != nil {
		return err
	}
	if len(us) < len(all) {
		leaveOut(&a.res.Contended, all, us)
	}
	if len(us) == 0 {
		return nil
	}
	c := chunkOf(a.l.db.Dialect, us, a.owner(), a.l.eventsOf(us))
	err = a.writeOnce(ctx, "write assignments", func(ctx context.Context, tx sqldb.Querier) error { return a.writeChunk(ctx, tx, c) })
	if err == nil {
		a.wrote = rows(us)
		for _, u := range us {
			a.res.Applied.Assignments = append(a.res.Applied.Assignments, u.assignments...)
			a.res.Applied.Changes = append(a.res.Applied.Changes, u.changes...)
		}
		return nil
	}
	if sqldb.IsLockWait(err) {
		a.l.contended.Store(true)
		if !looked {
			return a.applyUnits(ctx, us)
		}
		return a.applyHalves(ctx, us, a.suspect)
	}
	if !errors.Is(err, errChanged) && !sqldb.IsDuplicate(err) && !sqldb.IsOrphan(err) {
		return err
	}
	kept, err := a.l.db.unchanged(ctx, us, a.owner())
	if err != nil {
		return err
	}
	if len(kept) < len(us) {
		leaveOut(&a.res.Conflicts, us, kept)
		return a.applyUnits(ctx, kept)
	}
	return a.applyHalves(ctx, us, func(us []unit) { leaveOut(&a.res.Conflicts, us, nil) })
}

// suspect leaves out units whose rows nobody keeps locked, as far as can be seen, although
// writing them waits for another client: for an index entry, such as that of a row which
// that client has inserted and not committed.
func (a *applier) suspect(us []unit) {
	leaveOut(&a.res.Contended, us, nil)
	for _, u := range us {
		a.res.Locked = append(a.res.Locked, u.rowsChanged()...)
	}
}

// applyHalves writes a chunk in two halves because something that cannot be seen
// keeps it from being written whole. What cannot be halved is given up.
func (a *applier) applyHalves(ctx context.Context, us []unit, giveUp func([]unit)) error {
	if len(us) == 1 {
		giveUp(us)
		return nil
	}
	half := chunkOfUnits(us, rows(us)/2)
	if half == len(us) {
		// They cannot be cut without tasks getting out of order: the next tick plans them anew.
		giveUp(us)
		return nil
	}
	if err := a.applyUnits(ctx, us[:half]); err != nil {
		return err
	}
	return a.applyUnits(ctx, us[half:])
}

// leaveOut notes the entries of those units that are not kept.
func leaveOut(out *[]scheduler.EntryID, all, kept []unit) {
	stays := make(map[scheduler.EntryID]bool)
	for _, u := range kept {
		stays[u.assignments[0].Entry] = true
	}
	for _, u := range all {
		if stays[u.assignments[0].Entry] {
			continue
		}
		for _, as := range u.assignments {
			*out = append(*out, as.Entry)
		}
	}
}

// unchanged returns the units whose hosts are still free and whose entries are
// still as the plan expects.
func (db *DB) unchanged(ctx context.Context, us []unit, owner string) ([]unit, error) {
	var hosts, entries []int64
	expect := make(map[int64]entryRow)
	for _, u := range us {
		for _, a := range u.assignments {
			row := entryRow{status: scheduler.StatusQueued}
			if a.Named {
				row.host = int64(a.Host)
			}
			expect[int64(a.Entry)] = row
			hosts, entries = append(hosts, int64(a.Host)), append(entries, int64(a.Entry))
		}
		for _, c := range u.changes {
			expect[int64(c.Entry)] = entryRow{status: c.From, host: int64(c.Host)}
			entries = append(entries, int64(c.Entry))
		}
	}
	free, asPlanned := make(map[int64]bool), make(map[int64]bool)
	err := db.Read(ctx, func(r *sqldb.Reader) {
		r.IDs("SELECT id FROM afe_hosts WHERE leased = 0 AND locked = 0 AND id IN "+sqldb.List(hosts)+owner+noActiveEntry+notDraining, func(id int64) { free[id] = true })
		r.Rows("SELECT id, host_id, "+sqldb.Spelled("status", scheduler.EntryStatuses...)+" FROM afe_host_queue_entries WHERE complete = 0 AND aborted = 0 AND (active = 0 OR status = 'Pending') AND id IN "+sqldb.List(entries), func(v sqldb.Row) {
			id := v.Int(0).N
			asPlanned[id] = expect[id] == entryRow{host: v.Int(1).N, status: scheduler.EntryStatus(v.Text(2))}
		})
	})
	if err != nil {
		return nil, sqldb.Explain(err, "re-read rows that changed", db.Target())
	}
	var kept []unit
	for _, u := range us {
		if u.holds(free, asPlanned) {
			kept = append(kept, u)
		}
	}
	return kept, nil
}

type entryRow struct {
	host   int64
	status scheduler.EntryStatus
}

func (u unit) holds(free, asPlanned map[int64]bool) bool {
	for _, a := range u.assignments {
		if !free[int64(a.Host)] || !asPlanned[int64(a.Entry)] {
			return false
		}
	}
	for _, c := range u.changes {
		if !asPlanned[int64(c.Entry)] {
			return false
		}
	}
	return true
}

// owner restricts afe_hosts to what belongs to the shard at this moment: a host
// that was given to another shard is not this one's to change.
func (a *applier) owner() string { return ownerCondition("", *a.l.basis) }

// noActiveEntry restricts afe_hosts to hosts that no active entry has.
const noActiveEntry = " AND NOT EXISTS (SELECT 1 FROM afe_host_queue_entries q WHERE q.host_id = afe_hosts.id AND q.active = 1)"

// unused restricts afe_hosts to those of some hosts that no active entry has and no open special
// task uses.
func unused(ids []int64) string {
	return " AND id IN " + sqldb.List(ids) + noActiveEntry + " AND id NOT IN " + busyAmong(ids)
}

// releases writes releases in chunks that are cut by a sizer.
func (a *applier) releases(ctx context.Context, sizer *chunkSizer, releases []scheduler.Release) error {
	host := func(r scheduler.Release) int64 { return int64(r.Host) }
	for chunk := range chunks(sizer, releases) {
		err := writeHosts(ctx, a, chunk, host, func(chunk []scheduler.Release) error {
			return a.releaseChunk(ctx, chunk, sqldb.IDsOf(chunk, host))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) releaseChunk(ctx context.Context, chunk []scheduler.Release, ids []int64) error {
	var kept []scheduler.Release
	err := a.writeOnce(ctx, "release hosts", func(ctx context.Context, tx sqldb.Querier) error {
		kept = chunk
		res, err := tx.ExecContext(ctx, "UPDATE afe_hosts SET leased = 0 WHERE leased = 1 AND locked = 0 AND (status IS NULL OR status = 'Ready')"+a.owner()+unused(ids))
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err == nil && n != int64(len(ids)) {
			kept, err = stillLeased(ctx, tx, chunk, ids)
		}
		if err != nil {
			return err
		}
		return a.l.noteHosts(ctx, tx, eventReleased, "nobody uses it", sqldb.IDsOf(kept, func(r scheduler.Release) int64 { return int64(r.Host) }))
	})
	if err == nil {
		a.res.Applied.Releases = append(a.res.Applied.Releases, kept...)
	}
	return err
}

// stillLeased returns the releases less those that did not happen because the
// host came into use after the snapshot.
func stillLeased(ctx context.Context, tx sqldb.Querier, chunk []scheduler.Release, ids []int64) ([]scheduler.Release, error) {
	leased := make(map[scheduler.HostID]bool)
	err := sqldb.EachID(ctx, tx, "SELECT id FROM afe_hosts WHERE leased = 1 AND id IN "+sqldb.List(ids), func(id int64) { leased[scheduler.HostID(id)] = true })
	var kept []scheduler.Release
	for _, rel := range chunk {
		if !leased[rel.Host] {
			kept = append(kept, rel)
		}
	}
	return kept, err
}
