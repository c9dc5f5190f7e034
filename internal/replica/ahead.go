package replica

import (
	"context"
	"sync"
	"time"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store"
)

// ahead is what a replica reads before it leads, so that its first tick only has
// to read what has changed since. Nothing is decided by it: what the predecessor
// writes until the takeover is read after that, as every change is.
type ahead struct {
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
	// aheadTimeout is how long a leader waits for a reading that is under way.
	aheadTimeout = time.Second
)

// StandBy reads the lab, if that was not done lately. A replica that is likely
// to lead soon calls it now and then, but not while Run runs.
func (r *Replica) StandBy(ctx context.Context) {
	if !r.ahead.mu.TryLock() {
		return
	}
	defer r.ahead.mu.Unlock()
	r.status.set(func(s *Status) {
		if s.State == StateStarting {
			s.State = StateCandidate
		}
	})
	r.ahead.read(ctx, r.readAhead)
}

// Forget gives back the memory of what was read ahead.
func (r *Replica) Forget() {
	if !r.ahead.mu.TryLock() {
		return
	}
	defer r.ahead.mu.Unlock()
	if !r.ahead.leading {
		r.ahead.reset()
	}
}

// reset begins anew; a.mu is held.
func (a *ahead) reset() { a.snapshots, a.readAt, a.leading = nil, time.Time{}, false }

// begin reads in the background, while the campaign is on. The returned function
// waits for the end of that, which comes with ctx's at the latest, and resets.
func (a *ahead) begin(ctx context.Context, work func(context.Context)) (stop func()) {
	var running sync.WaitGroup
	running.Go(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.read(ctx, work)
	})
	return func() {
		running.Wait()
		a.mu.Lock()
		defer a.mu.Unlock()
		a.reset()
	}
}

// read works, unless that was done lately or is the ticks' affair; a.mu is held.
func (a *ahead) read(ctx context.Context, work func(context.Context)) {
	if a.leading || time.Since(a.readAt) < standByEvery {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	a.endMu.Lock()
	a.end = cancel
	a.endMu.Unlock()
	work(ctx)
	a.readAt = time.Now()
}

// use is for ticks: it waits for the reading that is under way, ends it if that
// takes too long, and then works.
func (a *ahead) use(work func() error) error {
	tooLong := time.AfterFunc(aheadTimeout, func() {
		a.endMu.Lock()
		defer a.endMu.Unlock()
		if a.end != nil {
			a.end()
		}
	})
	a.mu.Lock()
	tooLong.Stop()
	defer a.mu.Unlock()
	a.leading = true
	return work()
}

// readAhead reads a snapshot that nobody uses.
func (r *Replica) readAhead(ctx context.Context) {
	if _, _, err := r.readSnapshot(ctx); err != nil {
		r.log.Debug("reading ahead", "error", err) // the first tick reads all
	}
}

// readSnapshot reads the next snapshot; r.ahead.mu is held.
func (r *Replica) readSnapshot(ctx context.Context) (*scheduler.Snapshot, bool, error) {
	if r.ahead.snapshots == nil {
		r.ahead.snapshots = r.db.Snapshots(r.cfg.Scope)
	}
	return r.ahead.snapshots.Next(ctx)
}
