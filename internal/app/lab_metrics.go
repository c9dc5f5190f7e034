package app

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/hostsched/hostsched/election"
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
	a.metrics.Lab(func() *metrics.Lab {
		if !a.leadsFirst() {
			return nil // its last count is nobody's word any more
		}
		return l.latest.Load()
	})
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
	for _, count := range []func() error{
		func() (err error) { now.Hosts, now.Bad, err = at.HostStates(ctx); return err },
		func() (err error) { now.Agents, now.Unfit, err = at.AgentStates(ctx); return err },
		func() (err error) { now.Pools, err = pools(ctx, at); return err },
		func() (err error) { now.Failovers, err = at.Failovers(ctx); return err },
		func() (err error) { now.Guard, err = at.Guarded(ctx); return err },
		func() error { return countWork(ctx, at, &now) },
	} {
		if err := count(); err != nil {
			return nil, err
		}
	}
	return &now, nil
}

// countWork counts what waits, and what keeps hosts from it.
func countWork(ctx context.Context, at *lab.Lab, now *metrics.Lab) error {
	waiting, err := at.WaitingEntries(ctx)
	if err != nil {
		return err
	}
	holds, err := at.Holds(ctx)
	now.Waiting, now.Holds = map[metrics.Waiting]int{}, map[metrics.Hold]int{}
	for which, n := range waiting {
		now.Waiting[metrics.Waiting(which)] = n
	}
	for which, n := range holds {
		now.Holds[metrics.Hold(which)] = n
	}
	return err
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

// replicaNow is what the metrics say of this replica.
func (a *App) replicaNow() metrics.Replica {
	now := metrics.Replica{Role: election.RoleNone}
	c := a.controller.Load()
	if c == nil {
		return now // it waits for its databases, and has not asked etcd
	}
	now.Role, _ = c.Role()
	now.Etcd, now.Database = c.Reaches()
	now.Shards = c.Status()
	return now
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
