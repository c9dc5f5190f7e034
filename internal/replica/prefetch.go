package replica

import (
	"context"
	"sync"
	"time"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store"
)

// prefetch is what a replica reads before it leads, so that its first tick only has
// to read what has changed since. No decision depends on it: the first tick, which
// comes after the takeover, reads everything that the predecessor wrote until then.
type prefetch struct {
	mu        sync.Mutex // held during each reading
	snapshots *store.Snapshots
	readAt    time.Time
	// leading is true from the first tick on. Then only ticks read, because a tick
	// is told only what changed since the last reading, whoever did that.
	leading bool

	endMu sync.Mutex
	end   context.CancelFunc // of the reading that began last
}

const (
	// standByEvery is the interval of readings while the replica stands by. The
	// longer ago the last reading is, the longer the first tick takes.
	standByEvery = 5 * time.Second
	// prefetchTimeout is how long a leader waits for a reading that has begun before.
	prefetchTimeout = time.Second
)

// StandBy reads the lab, if that was not done recently. The caller calls it
// repeatedly for a replica that is likely to lead next, but not while Run runs.
func (r *Replica) StandBy(ctx context.Context) {
	if !r.prefetch.mu.TryLock() {
		return
	}
	defer r.prefetch.mu.Unlock()
	r.status.set(func(s *Status) {
		if s.State == StateStarting {
			s.State = StateCandidate
		}
	})
	r.prefetch.read(ctx, r.prefetchSnapshot)
}

// Forget frees the memory of what was prefetched.
func (r *Replica) Forget() {
	if !r.prefetch.mu.TryLock() {
		return
	}
	defer r.prefetch.mu.Unlock()
	if !r.prefetch.leading {
		r.prefetch.reset()
	}
}

// reset forgets everything; p.mu is held.
func (p *prefetch) reset() { p.snapshots, p.readAt, p.leading = nil, time.Time{}, false }

// begin reads in the background during the campaign. The returned function waits
// until that reading has ended, which it does at the latest when ctx ends, and then
// forgets everything.
func (p *prefetch) begin(ctx context.Context, work func(context.Context)) (stop func()) {
	var running sync.WaitGroup
	running.Go(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.read(ctx, work)
	})
	return func() {
		running.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.reset()
	}
}

// read does the work, unless that was done recently or only ticks may read; p.mu is
// held.
func (p *prefetch) read(ctx context.Context, work func(context.Context)) {
	if p.leading || time.Since(p.readAt) < standByEvery {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	p.endMu.Lock()
	p.end = cancel
	p.endMu.Unlock()
	work(ctx)
	p.readAt = time.Now()
}

// use does the work of a tick. It waits for a reading that has begun before, cancels
// it if it takes too long, and then does the work.
func (p *prefetch) use(work func() error) error {
	tooLong := time.AfterFunc(prefetchTimeout, func() {
		p.endMu.Lock()
		defer p.endMu.Unlock()
		if p.end != nil {
			p.end()
		}
	})
	p.mu.Lock()
	tooLong.Stop()
	defer p.mu.Unlock()
	p.leading = true
	return work()
}

// prefetchSnapshot reads a snapshot that nobody uses.
func (r *Replica) prefetchSnapshot(ctx context.Context) {
	if _, _, err := r.readSnapshot(ctx); err != nil {
		// This costs time only: the first tick then reads everything.
		r.log.Debug("cannot prefetch the lab", "error", err)
	}
}

// readSnapshot reads the next snapshot; r.prefetch.mu is held.
func (r *Replica) readSnapshot(ctx context.Context) (*scheduler.Snapshot, bool, error) {
	if r.prefetch.snapshots == nil {
		r.prefetch.snapshots = r.db.Snapshots(r.cfg.Scope)
	}
	return r.prefetch.snapshots.Next(ctx)
}
