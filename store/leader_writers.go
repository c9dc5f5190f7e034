package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// fewestPerWriter is how many rows another writer should have at least, because
// each has a few statements of its own.
const fewestPerWriter = fewestChunk

// assignAndRelease writes the assignments and then the releases: at the same time if the
// assignments are so few that they leave a writer idle, as most are of a lab at work.
func (a *applier) assignAndRelease(ctx context.Context, plan scheduler.Plan) error {
	s := &sharedPlan{rest: units(plan), chunkSizer: &a.l.chunkSizer, writers: a.l.writers, last: noTurn()}
	s.writers = s.writers[:max(1, min(len(s.writers), rows(s.rest)/fewestPerWriter))]
	assign := func() error { return timed(&a.res.Schedule, func() error { return a.assignments(ctx, s) }) }
	release := func(with *applier, sizer *chunkSizer) error {
		return timed(&a.res.Release, func() error { return with.releases(ctx, sizer, plan.Releases) })
	}
	idle := a.l.writers[len(s.writers):]
	if len(idle) == 0 || len(s.rest) == 0 || len(plan.Releases) == 0 || releasesFreed(plan) {
		if err := assign(); err != nil {
			return err
		}
		return release(a, &a.l.chunkSizer)
	}
	sizer := a.l.chunkSizer // a copy: the assignments measure with that of the leader
	other := &applier{l: a.l, writer: idle[0]}
	var released error
	wait := beside(func() { released = release(other, &sizer) })
	defer wait() // also if this one panics
	assigned := assign()
	wait()
	a.res.add(other.res)
	return joinWriters(assigned, released)
}

// releasesFreed tells whether a plan releases any host that its assignments concern: those of
// a synchronous job that can never start become free by the same plan.
func releasesFreed(plan scheduler.Plan) bool {
	concerned := make(map[scheduler.HostID]bool, len(plan.Assignments))
	for i := range plan.Assignments {
		concerned[plan.Assignments[i].Host] = true
	}
	for _, c := range plan.Changes {
		concerned[c.Host] = true
	}
	return slices.ContainsFunc(plan.Releases, func(r scheduler.Release) bool { return concerned[r.Host] })
}

// assignments writes what must happen together, in queue order: a chunk is begun
// when all before it are.
func (a *applier) assignments(ctx context.Context, s *sharedPlan) error {
	var waits []func()
	for _, w := range s.writers[1:] {
		wait := beside(func() { s.writeWith(ctx, w) })
		defer wait() // also if this one panics
		waits = append(waits, wait)
	}
	s.writeWith(ctx, a.writer)
	for _, wait := range waits {
		wait()
	}
	for _, part := range s.parts {
		a.res.add(part.res)
	}
	return s.err
}

// sharedPlan is the assignments of a plan while several writers write them.
type sharedPlan struct {
	writers []*writer

	mu         sync.Mutex
	rest       []unit // not begun, in queue order
	chunkSizer *chunkSizer
	// Chunks are cut for all writers at a time, so that they finish together: cut
	// more of this size are to come.
	size, cut int
	parts     []*applier // what was begun, in queue order
	last      *turn      // of the chunk that was begun last
	err       error      // set as soon as a writer fails: nothing is begun any more
}

// writeWith writes with one writer until nothing is left or any writer has failed.
func (s *sharedPlan) writeWith(ctx context.Context, w *writer) {
	for {
		chunk, part := s.next(w)
		if len(chunk) == 0 {
			return
		}
		s.write(ctx, part, chunk)
	}
}

// write writes one chunk. However it ends, the chunk after it does not wait any more.
func (s *sharedPlan) write(ctx context.Context, part *applier, chunk []unit) {
	err := errPanic
	defer func() {
		close(part.turn.ended)
		s.done(part, err)
	}()
	err = part.applyUnits(ctx, chunk)
}

// errPanic is what a chunk ends with that does not return.
var errPanic = errors.New("panic while a chunk was written")

// next takes the next chunk, none if there is none. The caller ends its turn when
// the chunk is written or given up.
func (s *sharedPlan) next(w *writer) (chunk []unit, part *applier) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.rest) == 0 || s.err != nil {
		return nil, nil
	}
	if s.cut == 0 {
		s.size, s.cut = s.chunkSizer.chunk(rows(s.rest), len(s.writers)), len(s.writers)
	}
	s.cut--
	n := chunkOfUnits(s.rest, s.size)
	chunk = s.rest[:n]
	s.rest = s.rest[n:]
	part = &applier{l: w.l, writer: w, before: s.last, turn: newTurn()}
	s.last = part.turn
	s.parts = append(s.parts, part)
	return chunk, part
}

// done notes how a chunk ended.
func (s *sharedPlan) done(part *applier, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.chunkSizer.took(part.wrote, part.took)
	}
	s.err = joinWriters(s.err, err)
}

// joinWriters is the error of two writers. That the term is over is what matters, whatever
// else went wrong in another writer.
func joinWriters(a, b error) error {
	switch {
	case b == nil || errors.Is(a, ErrFenced):
		return a
	case a == nil || errors.Is(b, ErrFenced) || a.Error() == b.Error():
		return b
	}
	return errors.Join(a, b)
}

// add counts in what another writer, or an earlier chunk, has written.
func (r *Result) add(part Result) {
	r.Applied.Assignments = append(r.Applied.Assignments, part.Applied.Assignments...)
	r.Applied.Changes = append(r.Applied.Changes, part.Applied.Changes...)
	r.Applied.Releases = append(r.Applied.Releases, part.Applied.Releases...)
	r.Conflicts = append(r.Conflicts, part.Conflicts...)
	r.Contended = append(r.Contended, part.Contended...)
	r.Locked = append(r.Locked, part.Locked...)
	r.Transactions += part.Transactions
	r.LongestTx = max(r.LongestTx, part.LongestTx)
}

// turn is how far a chunk is, for the chunk after it in queue order. The ids of
// special tasks rise in the order in which they are inserted, and the service that
// runs them starts tasks of a kind by id. So chunks insert their tasks in queue
// order, whichever writer inserts them, and commit in queue order.
//
// Each chunk changes its entries and then inserts its tasks, and begins either only after
// the chunk before has finished it. So a chunk never waits for a row that a later one has
// locked (the guard and other unique indexes also lock neighbours), while the later one
// waits for it; and the writers work on different tables most of the time. The entries take
// longest, half of the time of a chunk. So they come first, where the chunk does not have
// to wait for them, and what can be done in any order is done by others meanwhile.
type turn struct {
	assigned chan struct{} // closed when the entries were changed for the first time
	inserted chan struct{} // closed when the tasks were inserted for the first time
	ended    chan struct{} // closed when the chunk is written or given up

	// inserts is how often the tasks were inserted, because a chunk may be rolled
	// back and repeated.
	inserts atomic.Int32
	assign  func() // closes assigned, once
}

func newTurn() *turn {
	t := &turn{inserted: make(chan struct{}), assigned: make(chan struct{}), ended: make(chan struct{})}
	t.assign = sync.OnceFunc(func() { close(t.assigned) })
	return t
}

// noTurn is a turn for which nobody has to wait.
func noTurn() *turn {
	t := newTurn()
	close(t.ended)
	return t
}

// insert notes that the chunk has inserted its tasks.
func (t *turn) insert() {
	if t.inserts.Add(1) == 1 {
		close(t.inserted)
	}
}

// errOutOfTurn means that a chunk was rolled back because of the one before it in
// queue order, which took too long or inserted its tasks once more. Nothing of it
// was written.
var errOutOfTurn = errors.New("the chunk before is not written yet")

// turnWait is how long a chunk waits inside its transaction for the one before.
// It is shorter than the wait for a row lock: should the one before want a row
// that this one has locked, this one lets go first.
const turnWait = sqldb.LockWait / 2

// await waits inside a transaction until the chunk before has finished a step, or
// has ended.
func (t *turn) await(ctx context.Context, step <-chan struct{}) error {
	wait := time.NewTimer(turnWait)
	defer wait.Stop()
	select {
	case <-step:
		return nil
	case <-t.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-wait.C:
		return errOutOfTurn
	}
}

// await waits for a step of the chunk before, and notes for how long: that is not the
// own time of this chunk.
func (a *applier) await(ctx context.Context, step <-chan struct{}) error {
	began := time.Now()
	defer func() { a.waited += time.Since(began) }()
	return a.before.await(ctx, step)
}

// past tells whether nobody has to wait any more to change entries after this chunk.
func (t *turn) past() bool {
	select {
	case <-t.assigned:
		return true
	case <-t.ended:
		return true
	default:
		return false
	}
}

// inOrder does the steps of a chunk in its turn: assign changes the entries, insert
// inserts the tasks, and rest is everything else before the commit.
func (a *applier) inOrder(ctx context.Context, assign, insert, rest func() error) error {
	if err := a.await(ctx, a.before.assigned); err != nil {
		return err
	}
	if err := assign(); err != nil {
		return err
	}
	a.turn.assign()
	if err := a.await(ctx, a.before.inserted); err != nil {
		return err
	}
	inserts := a.before.inserts.Load()
	if err := insert(); err != nil {
		return err
	}
	a.turn.insert()
	if err := rest(); err != nil {
		return err
	}
	if err := a.await(ctx, a.before.ended); err != nil {
		return err
	}
	if a.before.inserts.Load() != inserts {
		return errOutOfTurn // its tasks are other ones now, inserted after ours
	}
	return nil
}
