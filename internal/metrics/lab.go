package metrics

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hostsched/hostsched/shard"
)

// maxPools is how many pools have series of their own: those with the most hosts. Labels can
// be any number, and every series costs memory here and in Prometheus for good.
const maxPools = 200

// Lab is what there is to know of a lab at a moment.
type Lab struct {
	// Hosts are numbers of hosts by state: idle, running, held, broken.
	Hosts map[string]int
	Pools []Pool
	// Bad is how many hosts the lab holds as bad by itself.
	Bad int
	// Agents are numbers of agents by state.
	Agents map[string]int
	// Unfit is how many agents take nothing new because of a fault of their machines.
	Unfit int
	// Waiting are numbers of queue entries that wait, by band of priority and by age.
	Waiting map[Waiting]int
	Holds   map[Hold]int
	// Failovers are the terms that were lost and not handed over, by shard.
	Failovers map[shard.Name]int
	// Guard tells whether the database refuses a second active entry for a host.
	Guard bool
}

// Waiting is a group of queue entries that wait.
type Waiting struct{ Priority, Age string }

// Hold is a kind of hold: lock, drain or bad. It is overdue if its time is over.
type Hold struct {
	Kind    string
	Overdue bool
}

// Pool is a label with what its hosts do.
type Pool struct {
	Label string
	// Hosts are numbers of hosts by state, as those of the lab.
	Hosts map[string]int
	// Waiting are queue entries that ask for the label; the oldest waits for so many seconds.
	Waiting    int
	OldestWait float64
}

// Lab adds the state of the lab, asked for when the metrics are read. It is nil where
// another replica tells it, so that nothing is counted twice.
func (m *Metrics) Lab(ask func() *Lab) {
	m.registry.MustRegister(labCollector{
		ask:        ask,
		hosts:      prometheus.NewDesc("hostsched_hosts", "Hosts by state. Only the replica that leads the first shard tells this.", []string{"state"}, nil),
		bad:        prometheus.NewDesc("hostsched_bad_hosts", "Hosts that the lab holds as bad by itself.", nil, nil),
		agents:     prometheus.NewDesc("hostsched_agents", "Agents by state.", []string{"state"}, nil),
		unfit:      prometheus.NewDesc("hostsched_agents_unfit", "Agents that are online and take nothing new because of a fault of their machines, as when a disk is full.", nil, nil),
		poolHosts:  prometheus.NewDesc("hostsched_pool_hosts", "Hosts of a pool by state, of the 200 largest pools.", []string{"pool", "state"}, nil),
		waiting:    prometheus.NewDesc("hostsched_pool_waiting_entries", "Queue entries that ask for the label of a pool and wait.", []string{"pool"}, nil),
		oldestWait: prometheus.NewDesc("hostsched_pool_oldest_wait_seconds", "How long the oldest queue entry that asks for a pool has waited.", []string{"pool"}, nil),
		entries:    prometheus.NewDesc("hostsched_waiting_entries", "Queue entries that wait for a host, by band of priority and age of their job.", []string{"priority", "age"}, nil),
		holds:      prometheus.NewDesc("hostsched_holds", "Holds of hosts by kind; overdue are those whose time is over.", []string{"kind", "overdue"}, nil),
		failovers:  prometheus.NewDesc("hostsched_failovers", "Terms of a shard that were lost and not handed over, as far as the history goes back.", []string{"shard"}, nil),
		guard:      prometheus.NewDesc("hostsched_guard_present", "1 if the database refuses a second active entry for a host by an index of its own, else 0.", nil, nil),
	})
}

type labCollector struct {
	ask                                                       func() *Lab
	hosts, bad, agents, unfit, poolHosts, waiting, oldestWait *prometheus.Desc
	entries, holds, failovers, guard                          *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c labCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.hosts, c.bad, c.agents, c.unfit, c.poolHosts, c.waiting, c.oldestWait, c.entries, c.holds, c.failovers, c.guard} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c labCollector) Collect(out chan<- prometheus.Metric) {
	l := c.ask()
	if l == nil {
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for state, n := range l.Hosts {
		gauge(c.hosts, float64(n), state)
	}
	gauge(c.bad, float64(l.Bad))
	for state, n := range l.Agents {
		gauge(c.agents, float64(n), state)
	}
	gauge(c.unfit, float64(l.Unfit))
	for which, n := range l.Waiting {
		gauge(c.entries, float64(n), which.Priority, which.Age)
	}
	for which, n := range l.Holds {
		gauge(c.holds, float64(n), which.Kind, strconv.FormatBool(which.Overdue))
	}
	for name, n := range l.Failovers {
		gauge(c.failovers, float64(n), label(name))
	}
	if l.Guard {
		gauge(c.guard, 1)
	} else {
		gauge(c.guard, 0)
	}
	told := map[string]bool{}
	for _, p := range largest(l.Pools) {
		name := shard.Printable(p.Label)
		if told[name] {
			continue // what cannot be printed may look alike, and no series may be there twice
		}
		told[name] = true
		for state, n := range p.Hosts {
			gauge(c.poolHosts, float64(n), name, state)
		}
		gauge(c.waiting, float64(p.Waiting), name)
		gauge(c.oldestWait, p.OldestWait, name)
	}
}

// largest are the pools with the most hosts, at most maxPools.
func largest(pools []Pool) []Pool {
	size := func(p Pool) (n int) {
		for _, hosts := range p.Hosts {
			n += hosts
		}
		return n
	}
	sorted := slices.SortedFunc(slices.Values(pools), func(a, b Pool) int {
		return cmp.Or(cmp.Compare(size(b), size(a)), cmp.Compare(a.Label, b.Label))
	})
	return sorted[:min(len(sorted), maxPools)]
}
