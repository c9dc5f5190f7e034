package command

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Instant is a time by a clock that goes on while the machine sleeps, as time.Time does not,
// and that nobody sets. It is the same for all processes of a machine, until that is booted.
type Instant int64

// Now is the present time.
func Now() Instant {
	var at unix.Timespec
	// It fails for clocks that the kernel does not have; this one is older than Go.
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &at)
	return Instant(at.Nano())
}

// Add returns the time after a duration.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }

// Until returns how long it is until the time, negative if it is past.
func (i Instant) Until() time.Duration { return time.Duration(i - Now()) }

// Lease is until when a claim holds. The servers count from when they answer, so whoever
// counts from before the call was sent is never too late.
type Lease struct {
	mu     sync.Mutex
	until  Instant
	length time.Duration
}

// NewLease returns the lease of a claim whose call was sent at a time.
func NewLease(sent Instant, length time.Duration) *Lease {
	return &Lease{until: sent.Add(length), length: length}
}

// Renewed tells that a call that was sent at a time was answered with a lease.
func (l *Lease) Renewed(sent Instant, length time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if until := sent.Add(length); until > l.until {
		l.until, l.length = until, length
	}
}

// Until is when the lease ends.
func (l *Lease) Until() Instant {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until
}

// Length is how long the lease is after each renewal.
func (l *Lease) Length() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.length
}

// maxMargin is how long before the end of a lease all must be over. A short lease has a short
// one.
const maxMargin = 5 * time.Second

// Stop is when a command with so much grace must be asked to end, and when it must be killed,
// so that nothing of it runs when the lease ends.
func (l *Lease) Stop(grace time.Duration) (ask, kill Instant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kill = l.until.Add(-min(maxMargin, l.length/10))
	return kill.Add(-min(grace, l.length/4)), kill
}
