package replica

import (
	"context"
	"sync"
	"time"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store"
)

// prefetch is what a replica reads before it leads, so that its first tick only has
// to read what has changed since. Nothing is decided by it: what the predecessor
// writes until the takeover is read after that, as every change is.
type prefetch struct {
	mu        sync.Mutex // held while anybody reads
	snapshots *store.Snapshots
	readAt    time.Time
	// leading: from the first tick on only ticks read, or they would not hear of
	// what another reading found changed.
	leading bool

	endMu sync.Mutex
	end   context.CancelFunc // of the reading that began last
}

const (
	// standByEvery is how old what was read may become while the replica stands
	// by: the older it is, the longer the first tick takes.
	standByEvery = 5 * time.Second
	// prefetchTimeout is how long a leader waits for a reading that is under way.
	prefetchTimeout = time.Second
)

// StandBy reads the lab, if that was not done lately. A replica that is likely
// to lead soon calls it now and then, but not while Run runs.
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

// Forget gives back the memory of what was read ahead.
func (r *Replica) Forget() {
	if !r.prefetch.mu.TryLock() {
		return
	}
	defer r.prefetch.mu.Unlock()
	if !r.prefetch.leading {
		r.prefetch.reset()
	}
}

// reset begins anew; p.mu is held.
func (p *prefetch) reset() { p.snapshots, p.readAt, p.leading = nil, time.Time{}, false }

// begin reads in the background, while the campaign is on. The returned function
// waits for the end of that, which comes with ctx's at the latest, and resets.
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

// read works, unless that was done lately or is the ticks' affair; p.mu is held.
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

// use is for ticks: it waits for the reading that is under way, ends it if that
// takes too long, and then works.
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
		r.log.Debug("reading ahead", "error", err) // the first tick reads all
	}
}

// readSnapshot reads the next snapshot; r.ahead.mu is held.
func (r *Replica) readSnapshot(ctx context.Context) (*scheduler.Snapshot, bool, error) {
	if r.prefetch.snapshots == nil {
		r.prefetch.snapshots = r.db.Snapshots(r.cfg.Scope)
	}
	return r.prefetch.snapshots.Next(ctx)
}
