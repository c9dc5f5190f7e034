package replica

import (
	"context"
	"sync"
	"time"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/scheduler"
)

// mostNewcomers is how many new entries are remembered until they are looked at; with more
// of them everything is.
const mostNewcomers = 1000

// wakes are the wakes that the loop has not answered yet. They are one, however many came.
type wakes struct {
	signal chan struct{}

	mu sync.Mutex
	wake
}

// wake is why the leader was woken.
type wake struct {
	// since is when the first of them came; zero if none did.
	since time.Time
	// entries are the new queue entries. whole is true if there is more to look at.
	entries []scheduler.EntryID
	whole   bool
}

// waited is how long the first of them has waited, 0 if there is none.
func (w wake) waited() time.Duration {
	if w.since.IsZero() {
		return 0
	}
	return time.Since(w.since)
}

// Wake makes the leader look at new entries, or at everything if none are given, without
// waiting for the time of its next tick. It does not block, and does nothing on a replica
// that does not lead.
func (r *Replica) Wake(entries ...scheduler.EntryID) {
	w := &r.wakes
	w.mu.Lock()
	if w.since.IsZero() {
		w.since = time.Now()
	}
	w.whole = w.whole || len(entries) == 0 || len(w.entries)+len(entries) > mostNewcomers
	if !w.whole {
		w.entries = append(w.entries, entries...)
	}
	w.mu.Unlock()
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

// answer returns the wakes that came until now, and forgets them: what begins now sees what
// they are about.
func (w *wakes) answer() wake {
	select {
	case <-w.signal:
	default:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.wake
	w.wake = wake{}
	return now
}

// newcomersOnly tells whether there is nothing to look at but new entries.
func (w *wakes) newcomersOnly() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.entries) > 0 && !w.whole
}

// again puts wakes back about which only a whole tick can decide.
func (w *wakes) again(earlier wake) {
	w.mu.Lock()
	w.since, w.whole = earlier.since, true
	w.mu.Unlock()
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

// pace is when the leader worked last, which says when it works again.
type pace struct {
	// ended is when the last whole tick ended, and took how long it took.
	ended time.Time
	took  time.Duration
	quiet bool
	// served is when newcomers were looked at last, and few how long that took; 0 after a
	// whole tick.
	served time.Time
	few    time.Duration
	// settled is true if newcomers may be looked at.
	settled bool
}

// after is the pace after some more work.
func (p pace) after(began time.Time, newcomers bool, t *term) pace {
	now := time.Now()
	p.settled = t.settled
	if newcomers {
		p.served, p.few = now, now.Sub(began)
		return p
	}
	p.ended, p.took, p.quiet, p.few = now, now.Sub(began), t.quiet, 0
	return p
}

// due is how long to wait for the next whole tick if nobody wakes the leader. As long as
// newcomers come, whole ticks leave them more time: nobody gets a host while a whole tick
// is at work.
func (r *Replica) due(p pace) time.Duration {
	wait := r.pause(p.took, p.quiet)
	if time.Since(p.served) < newcomersCalm {
		wait = max(wait, newcomersRest*min(p.took, longestWork))
	}
	return wait - time.Since(p.ended)
}

// rest waits until it is time for the next tick, or until somebody wakes the leader. But
// it leaves other clients their share of the database: after a whole tick until the next
// one, and after newcomers until more of them. It tells whether the term is over.
func (r *Replica) rest(ctx context.Context, won *election.Term, p pace) (over bool) {
	share, few, due := time.After(shareOf(p.took)-time.Since(p.ended)), time.After(shareOf(p.few)), time.After(r.due(p))
	var woken, mayTick, mayServe bool
	for {
		select {
		case <-ctx.Done():
			return true
		case <-won.Done():
			return true
		case <-due:
			return false
		case <-share:
			mayTick = true
		case <-few:
			mayServe = true
		case <-r.wakes.signal:
			woken = true
		}
		newcomers := p.settled && r.wakes.newcomersOnly()
		if woken && (newcomers && mayServe || !newcomers && mayTick) {
			return false
		}
	}
}
