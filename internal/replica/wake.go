package replica

import (
	"context"
	"sync"
	"time"

	"github.com/hostsched/hostsched/election"
)

// wakes are the wakes that the loop has not answered yet. They are one, however many came.
type wakes struct {
	signal chan struct{}

	mu sync.Mutex
	// since is when the first of them came; zero if none did.
	since time.Time
}

// Wake makes the leader tick without waiting for the time of its next tick. It does not
// block, and does nothing on a replica that does not lead.
func (r *Replica) Wake() {
	r.wakes.mu.Lock()
	if r.wakes.since.IsZero() {
		r.wakes.since = time.Now()
	}
	r.wakes.mu.Unlock()
	select {
	case r.wakes.signal <- struct{}{}:
	default:
	}
}

// answer returns for how long the first of the wakes has waited, 0 if there is none. The
// tick that begins now sees what they are about.
func (w *wakes) answer() time.Duration {
	select {
	case <-w.signal:
	default:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since.IsZero() {
		return 0
	}
	waited := time.Since(w.since)
	w.since = time.Time{}
	return waited
}

// rest waits until it is time for the next tick, or until somebody wakes the leader. But
// it always leaves other clients their share of the database. It tells whether the term
// is over.
func (r *Replica) rest(ctx context.Context, won *election.Term, took time.Duration, quiet bool) (over bool) {
	share := time.After(shareOf(took))
	due := time.After(r.pause(took, quiet))
	var woken <-chan struct{} // nil as long as nobody may wake the leader
	for {
		select {
		case <-ctx.Done():
			return true
		case <-won.Done():
			return true
		case <-share:
			woken = r.wakes.signal
		case <-woken:
			return false
		case <-due:
			return false
		}
	}
}
