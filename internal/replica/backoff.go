package replica

import (
	"math/rand/v2"
	"time"

	"github.com/hostsched/hostsched/election/recurring"
)

const (
	// After a failed campaign or term the replica waits for a random time between
	// these bounds, so that replicas do not all try at the same time.
	minPause = 100 * time.Millisecond
	maxPause = 500 * time.Millisecond
	// A takeover that keeps failing is tried less and less often, down to once in a
	// random time between these bounds: a campaign writes to etcd, which keeps it, and a
	// term writes to the history. It is tried soon enough after the reason is gone.
	minLongPause = 1100 * time.Millisecond
	maxLongPause = 1300 * time.Millisecond
	// steadyTerm is how long a term must last until earlier failures are forgotten.
	steadyTerm = 5 * time.Second
	// maxReasons bounds how many reasons of failures are told apart. If there are more,
	// something in their texts differs each time.
	maxReasons = 8
)

// backoff says how long a replica waits before it campaigns again, after takeovers
// or terms that failed for a reason that may last.
type backoff struct {
	failures int
	reasons  map[string]bool
}

// failed counts a failure. A reason that was not there before begins anew, because
// it may be gone as quickly as it came.
func (b *backoff) failed(err error) {
	kind := recurring.Kind(err.Error())
	if !b.reasons[kind] && len(b.reasons) < maxReasons {
		if b.reasons == nil {
			b.reasons = map[string]bool{}
		}
		b.reasons[kind] = true
		b.failures = 0
	}
	b.failures++
}

func (b *backoff) reset() { b.failures, b.reasons = 0, nil }

// doubtful tells whether the last takeover or term failed.
func (b *backoff) doubtful() bool { return b.failures > 0 }

// pause returns how long to wait before the next campaign. After a failed takeover that
// one is rehearsed first, which costs etcd and the history nothing. A term whose ticks
// failed is followed by another replica's at once, so the pause is longer after it:
// together they begin one term a second.
func (b *backoff) pause(led bool) time.Duration {
	low, high, longest := minPause, maxPause, time.Duration(1)
	if led {
		longest = 2
	}
	for range b.failures - 1 {
		low, high = min(2*low, longest*minLongPause), min(2*high, longest*maxLongPause)
	}
	return low + rand.N(high-low)
}
