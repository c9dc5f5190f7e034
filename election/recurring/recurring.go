package recurring

import (
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// interval is how often a fault that lasts is said again.
	interval = time.Minute
	// maxFaults bounds how many faults are told apart at a time, because their texts
	// come from outside.
	maxFaults = 100
)

// Log says faults that happen again and again. Several goroutines may use it.
type Log struct {
	log hclog.Logger

	mu     sync.Mutex
	faults map[string]*fault
}

type fault struct {
	said time.Time
	// since is how often the fault happened after it was said.
	since int
}

// New returns a Log that says faults to a logger.
func New(log hclog.Logger) *Log { return &Log{log: log, faults: map[string]*fault{}} }

// Warn says a fault as a warning, unless the same was said within the last minute.
func (l *Log) Warn(msg string, args ...any) { l.say(hclog.Warn, msg, args) }

// Error says a fault as an error, unless the same was said within the last minute.
func (l *Log) Error(msg string, args ...any) { l.say(hclog.Error, msg, args) }

// Info says what is no fault, unless the same was said within the last minute.
func (l *Log) Info(msg string, args ...any) { l.say(hclog.Info, msg, args) }

func (l *Log) say(level hclog.Level, msg string, args []any) {
	times, due := l.due(Kind(fmt.Sprint(append([]any{msg}, args...)...)), time.Now())
	if !due {
		return
	}
	if times > 1 {
		args = append(args[:len(args):len(args)], "times", times)
	}
	l.log.Log(level, msg, args...)
}

// due tells whether a fault is to be said now, and for how many times that stands.
func (l *Log) due(kind string, now time.Time) (times int, due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.faults[kind]
	if f == nil {
		if len(l.faults) >= maxFaults {
			clear(l.faults)
		}
		f = &fault{}
		l.faults[kind] = f
	}
	f.since++
	if !f.said.IsZero() && now.Sub(f.said) < interval {
		return 0, false
	}
	times, f.since, f.said = f.since, 0, now
	return times, true
}

// Over forgets all faults: whatever happens next is new and is said at once.
func (l *Log) Over() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.faults)
}

// number matches what differs between two occurrences of one fault: tokens, times,
// ports, leases in hexadecimal.
var number = regexp.MustCompile(`\b[0-9a-fA-F]{7,}\b|[0-9a-fA-F]*[0-9][0-9a-fA-F]*`)

// Kind is the part of an error's text that stays the same when the error happens
// again.
func Kind(text string) string { return number.ReplaceAllString(text, "#") }
