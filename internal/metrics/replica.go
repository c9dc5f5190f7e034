package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/replica"
)

// Replica is what there is to know of a replica at a moment.
type Replica struct {
	Role string
	// Etcd and Database tell whether they answer.
	Etcd, Database bool
	Shards         []replica.Status
}

// Replica adds the state of this replica, asked for when the metrics are read. A shard that is
// not there any more has no series then.
func (m *Metrics) Replica(ask func() Replica) {
	m.registry.MustRegister(replicaCollector{
		ask:      ask,
		role:     prometheus.NewDesc("hostsched_role", "1 for the role of this replica: primary, backup or none.", []string{"role"}, nil),
		etcd:     prometheus.NewDesc("hostsched_etcd_up", "1 if etcd answers this replica, else 0.", nil, nil),
		database: prometheus.NewDesc("hostsched_database_up", "1 if the main database answers this replica, else 0.", nil, nil),
		paused:   prometheus.NewDesc("hostsched_paused", "1 if this replica leads the shard and schedules nothing because somebody paused it, else 0.", []string{"shard"}, nil),
	})
}

type replicaCollector struct {
	ask                          func() Replica
	role, etcd, database, paused *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c replicaCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.role, c.etcd, c.database, c.paused} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c replicaCollector) Collect(out chan<- prometheus.Metric) {
	r := c.ask()
	gauge := func(d *prometheus.Desc, is bool, labels ...string) {
		value := 0.0
		if is {
			value = 1
		}
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	for _, role := range []string{election.RolePrimary, election.RoleBackup, election.RoleNone} {
		gauge(c.role, r.Role == role, role)
	}
	gauge(c.etcd, r.Etcd)
	gauge(c.database, r.Database)
	for _, s := range r.Shards {
		gauge(c.paused, s.Paused != "", label(s.Shard))
	}
}
