package store

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// fewestPerWriter is how many rows another writer should have at least, because
// each has a few statements of its own.
const fewestPerWriter = fewestChunk

// assignments writes what must happen together, in queue order: a chunk is begun
// when all before it are.
func (a *applier) assignments(ctx context.Context, plan scheduler.Plan) error {
	s := &sharedPlan{rest: units(plan), chunkSizer: &a.l.chunkSizer, writers: a.l.writers, ended: closed()}
	s.writers = s.writers[:max(1, min(len(s.writers), rows(s.rest)/fewestPerWriter))]
	var writers sync.WaitGroup
	for _, w := range s.writers[1:] {
		writers.Go(func() { s.writeWith(ctx, w) })
	}
	s.writeWith(ctx, a.writer)
	writers.Wait()
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
	parts     []*applier    // what was begun, in queue order
	ended     chan struct{} // closed when the chunk that was begun last has ended
	err       error         // set as soon as a writer fails: nothing is begun any more
}

// writeWith writes with one writer until nothing is left or any writer has failed.
func (s *sharedPlan) writeWith(ctx context.Context, w *writer) {
	for {
		chunk, part, ended := s.next(w)
		if len(chunk) == 0 {
			return
		}
		began := time.Now()
		err := part.applyUnits(ctx, chunk)
		close(ended)
		s.done(rows(chunk), time.Since(began), err)
	}
}

// next takes the next chunk, none if there is none. The caller closes ended when
// the chunk is written or given up.
func (s *sharedPlan) next(w *writer) (chunk []unit, part *applier, ended chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.rest) == 0 || s.err != nil {
		return nil, nil, nil
	}
	if s.cut == 0 {
		s.size, s.cut = s.chunkSizer.chunk(rows(s.rest), len(s.writers)), len(s.writers)
	}
	s.cut--
	n := chunkOfUnits(s.rest, s.size)
	chunk = s.rest[:n]
	s.rest = s.rest[n:]
	part = &applier{l: w.l, writer: w, before: s.ended}
	s.ended = make(chan struct{})
	s.parts = append(s.parts, part)
	return chunk, part, s.ended
}

// done notes how a chunk ended. That the term is over is what matters, whatever
// else went wrong in another writer.
func (s *sharedPlan) done(n int, took time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.chunkSizer.took(n, took)
	case s.err == nil || errors.Is(err, ErrFenced):
		s.err = err
	case !errors.Is(s.err, ErrFenced) && err.Error() != s.err.Error():
		s.err = errors.Join(s.err, err)
	}
}

// add counts in what another writer, or an earlier chunk, has written.
func (r *Result) add(part Result) {
	r.Applied.Assignments = append(r.Applied.Assignments, part.Applied.Assignments...)
	r.Applied.Changes = append(r.Applied.Changes, part.Applied.Changes...)
	r.Conflicts = append(r.Conflicts, part.Conflicts...)
	r.Transactions += part.Transactions
	r.LongestTx = max(r.LongestTx, part.LongestTx)
}

// errOutOfTurn means that a chunk was rolled back because the one before it in
// queue order took too long. Nothing of it was written.
var errOutOfTurn = errors.New("the chunk before is not written yet")

// turnWait is how long a chunk waits inside its transaction for the one before.
// It is shorter than lockWait: should the one before want a row that this one
// has locked, this one lets go first.
const turnWait = sqldb.LockWait / 2

// waitForTurn waits until the chunk before is written or given up. The ids of
// special tasks rise in the order in which they are inserted, and the service
// that runs them starts tasks of a kind by id: so they are inserted in queue
// order, whichever writer inserts them.
func (a *applier) waitForTurn(ctx context.Context) error {
	wait := time.NewTimer(turnWait)
	defer wait.Stop()
	select {
	case <-a.before:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-wait.C:
		return errOutOfTurn
	}
}

// closed is a channel that nobody has to wait for.
func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}
