package app

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/hostsched/hostsched/internal/cluster"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/runs"
)

// Bounds of sweeping.
const (
	sweepEvery   = time.Second
	sweepTimeout = 30 * time.Second
)

// openRuns makes what runs jobs, switched off where Autotest does.
func (a *App) openRuns(at *lab.Lab, off bool) {
	r := runs.New(at)
	r.Lease, r.Closed, r.Off = a.cfg.Runs.Lease, a.runClosed, off
	a.runs.Store(r)
}

// openSweeps sweeps as long as this replica leads any shard. Several replicas may do so at
// the same time.
func (a *App) openSweeps() {
	a.inBackground(background{
		name: workSweeps, fault: "cannot look after runs: lost ones are not given up, and aborted ones not ended", work: a.sweep,
		pause: func() time.Duration { return sweepEvery*3/4 + rand.N(sweepEvery/2) }, //nolint:gosec // only spreads the servers
	})
}

func (a *App) sweep(ctx context.Context) error {
	r := a.runs.Load()
	if r == nil || r.Off || !a.leadsAny() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	done, err := r.Sweep(ctx)
	if done.Lost > 0 || done.Ended > 0 {
		a.log.Warn("looked after runs", "given up", done.Lost, "asked to stop", done.Stopped, "entries whose time is over", done.Ended)
	}
	return err
}

// leadsAny tells whether this replica leads a shard.
func (a *App) leadsAny() bool {
	for _, st := range ask(a, (*cluster.Controller).Status) {
		if st.State == replica.StateLeader {
			return true
		}
	}
	return false
}
