package app

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/hostsched/hostsched/election/recurring"
	"github.com/hostsched/hostsched/internal/cluster"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/metrics"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/shard"
)

// Bounds of counting what is in the lab.
const (
	labMetricsInterval = 15 * time.Second
	labMetricsTimeout  = 10 * time.Second
)

// labMetrics counts what is in the lab again and again, as long as this replica leads its
// first shard. Of all replicas one does, so that nothing is told twice.
type labMetrics struct {
	latest atomic.Pointer[metrics.Lab]
}

func (a *App) openLabMetrics() {
	l := &labMetrics{}
	a.metrics.Lab(l.latest.Load)
	a.reporters = append(a.reporters, func(ctx context.Context) { l.keep(ctx, a) })
}

func (l *labMetrics) keep(ctx context.Context, a *App) {
	tick := time.NewTicker(labMetricsInterval)
	defer tick.Stop()
	faults := recurring.New(a.log)
	for ctx.Err() == nil {
		if now, err := countLab(ctx, a); err == nil {
			l.latest.Store(now)
			faults.Over()
		} else if ctx.Err() == nil {
			faults.Warn("cannot count what is in the lab for the metrics", "error", err)
			l.latest.Store(nil) // no number is better than an old one
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// countLab returns nil where another replica counts.
func countLab(ctx context.Context, a *App) (*metrics.Lab, error) {
	at := a.lab.Load()
	if at == nil || !a.leadsFirst() {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, labMetricsTimeout)
	defer cancel()
	var now metrics.Lab
	var err error
	if now.Hosts, now.Bad, err = at.HostStates(ctx); err != nil {
		return nil, err
	}
	now.Pools, err = pools(ctx, at)
	return &now, err
}

func pools(ctx context.Context, at *lab.Lab) (out []metrics.Pool, err error) {
	all, err := at.Pools(ctx, "")
	for _, p := range all {
		out = append(out, metrics.Pool{
			Label: p.Label, Waiting: p.Waiting, OldestWait: p.OldestWait,
			Hosts: map[string]int{"idle": p.Idle, "running": p.Running, "held": p.Held, "broken": p.Broken},
		})
	}
	return out, err
}

// leadsFirst tells whether this replica leads the shard that every replica may lead.
func (a *App) leadsFirst() bool {
	first := shard.Master
	if a.cfg.Shard != "" {
		first = shard.Name(a.cfg.Shard)
	}
	for _, st := range ask(a, (*cluster.Controller).Status) {
		if st.Shard == first {
			return st.State == replica.StateLeader
		}
	}
	return false
}
