package app

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/hostsched/hostsched/election/recurring"
)

// Names of what a replica does again and again besides scheduling, in its status and metrics.
const (
	workSweeps  = "sweeps"
	workLogs    = "logs"
	workMetrics = "metrics"
	workTracing = "tracing"
)

// background is such work. What fails is in the log, in the status and in a metric.
type background struct {
	name string
	// fault is what it means, for people, that the work fails.
	fault string
	pause func() time.Duration
	work  func(context.Context) error
}

// faults says what of the work in the background fails now, with the reason.
type faults struct {
	mu  sync.Mutex
	now map[string]string
}

func (f *faults) set(name, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if reason == "" {
		delete(f.now, name)
		return
	}
	if f.now == nil {
		f.now = map[string]string{}
	}
	f.now[name] = reason
}

func (f *faults) all() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.now)
}

// inBackground does work until the replica ends.
func (a *App) inBackground(b background) {
	say := a.sayOf(b.name, b.fault)
	a.reporters = append(a.reporters, func(ctx context.Context) {
		for ctx.Err() == nil {
			if err := b.work(ctx); err == nil || ctx.Err() == nil {
				say(err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(b.pause()):
			}
		}
	})
}

// sayOf returns what says that some work fails, or does not: in the log, in the status and in
// a metric.
func (a *App) sayOf(name, fault string) func(error) {
	a.metrics.Background(name)
	log := recurring.New(a.log)
	return func(err error) {
		if err == nil {
			log.Over()
			a.failing.set(name, "")
			return
		}
		log.Warn(fault, "error", err)
		a.failing.set(name, fault+": "+err.Error())
		a.metrics.BackgroundFailed(name)
	}
}

// always is the same pause each time.
func always(d time.Duration) func() time.Duration { return func() time.Duration { return d } }
