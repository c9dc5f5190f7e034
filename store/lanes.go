package store

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hostsched/hostsched/scheduler"
)

// worthALane is how many rows another lane should have at least: each has a few
// statements of its own.
const worthALane = fewestChunk

// assignments writes what must happen together, in queue order: a chunk is begun
// when all before it are.
func (a *applier) assignments(ctx context.Context, plan scheduler.Plan) error {
	w := &work{rest: units(plan), pace: &a.l.pace, lanes: a.l.lanes}
	w.lanes = w.lanes[:max(1, min(len(w.lanes), rows(w.rest)/worthALane))]
	var lanes sync.WaitGroup
	for _, la := range w.lanes[1:] {
		lanes.Go(func() { w.run(ctx, la) })
	}
	w.run(ctx, a.lane)
	lanes.Wait()
	for _, part := range w.parts {
		a.res.add(part.res)
	}
	return w.err
}

// work is a plan's assignments while lanes write them.
type work struct {
	lanes []*lane

	mu   sync.Mutex
	rest []unit // not begun, in queue order
	pace *pace
	// Chunks are cut for all lanes at a time, so that they finish together: cut
	// more of this size are to come.
	size, cut int
	parts     []*applier // what was begun, in queue order
	err       error      // nothing is begun any more
}

// run writes by one lane until nothing is left or any lane has failed.
func (w *work) run(ctx context.Context, la *lane) {
	for {
		chunk, part := w.next(la)
		if len(chunk) == 0 {
			return
		}
		began := time.Now()
		err := part.applyUnits(ctx, chunk)
		w.done(rows(chunk), time.Since(began), err)
	}
}

// next takes the next chunk, none if there is none.
func (w *work) next(la *lane) ([]unit, *applier) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rest) == 0 || w.err != nil {
		return nil, nil
	}
	if w.cut == 0 {
		w.size, w.cut = w.pace.chunk(rows(w.rest), len(w.lanes)), len(w.lanes)
	}
	w.cut--
	n := chunkOfUnits(w.rest, w.size)
	chunk := w.rest[:n]
	w.rest = w.rest[n:]
	part := &applier{l: la.l, lane: la}
	w.parts = append(w.parts, part)
	return chunk, part
}

// done notes how a chunk ended. That the term is over is what matters, whatever
// else went wrong in another lane.
func (w *work) done(n int, took time.Duration, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		w.pace.took(n, took)
	case w.err == nil || errors.Is(err, ErrFenced):
		w.err = err
	case !errors.Is(w.err, ErrFenced) && err.Error() != w.err.Error():
		w.err = errors.Join(w.err, err)
	}
}

// add counts in what another lane, or an earlier chunk, has written.
func (r *Result) add(part Result) {
	r.Applied.Assignments = append(r.Applied.Assignments, part.Applied.Assignments...)
	r.Applied.Changes = append(r.Applied.Changes, part.Applied.Changes...)
	r.Overtaken = append(r.Overtaken, part.Overtaken...)
	r.Transactions += part.Transactions
	r.LongestTx = max(r.LongestTx, part.LongestTx)
}
