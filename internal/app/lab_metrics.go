package app

import (
	"context"
	"sync/atomic"
	"time"

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
	a.inBackground(background{
		name: workMetrics, fault: "cannot count what is in the lab for the metrics", pause: always(labMetricsInterval),
		work: func(ctx context.Context) error {
			now, err := countLab(ctx, a)
			l.latest.Store(now) // nil after a fault: no number is better than an old one
			return err
		},
	})
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
	if now.Agents, err = at.AgentStates(ctx); err != nil {
		return nil, err
	}
	if now.Pools, err = pools(ctx, at); err != nil {
		return nil, err
	}
	return &now, nil
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
