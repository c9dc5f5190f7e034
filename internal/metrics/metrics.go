package metrics

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hostsched/hostsched/internal/certs"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

// Metrics implements replica.Observer.
type Metrics struct {
	registry *prometheus.Registry
	// vectors are all metrics with the label shard.
	vectors []interface {
		DeletePartialMatch(prometheus.Labels) int
	}

	mu         sync.Mutex
	priorities map[int64]bool

	tick, snapshot, plan, lease, schedule, release *prometheus.HistogramVec
	takeOver, transaction, woken                   *prometheus.HistogramVec
	queued                                         *prometheus.HistogramVec

	ticks, assignments, releases, moves, conflicts, locked *prometheus.CounterVec
	uncaught, fenced, terms, replanned, wentBack           *prometheus.CounterVec
	waiting, contended, malformed, leader, token           *prometheus.GaugeVec
	findings, lastTick                                     *prometheus.GaugeVec

	condemned *prometheus.CounterVec
	needless  prometheus.Counter

	runs, backgroundFailures *prometheus.CounterVec

	requests     *prometheus.CounterVec
	requestTime  *prometheus.HistogramVec
	failedLogins prometheus.Counter
}

// Buckets, in seconds. Queued times go from a second to a day.
var (
	fastBuckets   = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	queuedBuckets = []float64{1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400}
)

// NewRegistry returns a registry that has what there is to know of the process.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// maxPriorities is how many priorities have a series of their own. Jobs can have any number
// as priority, and every series costs memory here and in Prometheus for good.
const maxPriorities = 32

// otherPriorities is the label of the priorities that came after those.
const otherPriorities = "other"

// New registers all metrics. Each replica needs a registry of its own.
func New(registry *prometheus.Registry) *Metrics {
	m := &Metrics{registry: registry, priorities: map[int64]bool{}}
	m.tick = m.histogram("tick_duration_seconds", "Duration of a whole tick.", fastBuckets)
	m.snapshot = m.histogram("snapshot_duration_seconds", "Duration of reading the snapshot of a tick.", fastBuckets)
	m.plan = m.histogram("plan_duration_seconds", "Duration of planning a tick.", fastBuckets)
	m.lease = m.histogram("lease_duration_seconds", "Duration of leasing hosts of frontend tasks.", fastBuckets)
	m.schedule = m.histogram("schedule_duration_seconds", "Duration of writing assignments.", fastBuckets)
	m.release = m.histogram("release_duration_seconds", "Duration of releasing hosts.", fastBuckets)
	m.takeOver = m.histogram("takeover_duration_seconds", "Time from a won campaign to the end of the takeover, before the first tick.", fastBuckets)
	m.transaction = m.histogram("longest_transaction_seconds", "Longest writing transaction of a tick.", fastBuckets)
	m.woken = m.histogram("wake_seconds", "Time from a wake of the leader to the tick that answers it.", fastBuckets)
	m.queued = m.histogram("queued_seconds", "Age of a job when its entry got a host, by priority.", queuedBuckets, "priority")
	m.ticks = m.counter("ticks_total", "Finished ticks.")
	m.assignments = m.counter("assignments_total", "Entries that got a host.")
	m.releases = m.counter("releases_total", "Hosts released.")
	m.moves = m.counter("moves_total", "Hosts handed over to another shard.")
	m.conflicts = m.counter("conflicts_total", "Assignments left out because another client changed the rows first.")
	m.locked = m.counter("locked_rows_total", "Rows passed over because another client kept them locked, counted whenever a plan finds them so.")
	m.contended = m.gauge("locked_rows", "Rows that plans leave alone now, because another client kept them locked.")
	m.uncaught = m.counter("uncaught_errors_total", "Ticks that ended with an error other than a fenced write.")
	m.wentBack = m.counter("lost_commits_total", "How often the database was found to have lost what a leader committed.")
	m.fenced = m.counter("fenced_writes_total", "Writes that the database refused because another replica had taken over.")
	m.replanned = m.counter("replanned_ticks_total", "Ticks planned anew because what belongs to the shard changed after their snapshot.")
	m.terms = m.counter("terms_total", "Terms led.")
	m.waiting = m.gauge("entries_without_host", "Entries that got no host in the latest tick.")
	m.malformed = m.gauge("malformed_rows", "Malformed rows passed over in the latest tick.")
	m.findings = m.gauge("inspection_findings", "Inconsistencies, found by the leader's latest check, by kind.", "kind")
	m.leader = m.gauge("leader", "1 while this replica leads the shard, else 0.")
	m.lastTick = m.gauge("last_tick_timestamp_seconds", "When the latest tick of this replica as leader of the shard ended well, 0 while it does not lead.")
	m.token = m.gauge("token", "Fencing token of the current term, 0 if none.")
	m.condemned = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hostsched_condemned_replicas_total", Help: "Other replicas whose leases were revoked because they seemed dead, by reason."}, []string{"reason"})
	m.needless = prometheus.NewCounter(prometheus.CounterOpts{Name: "hostsched_needless_takeovers_total", Help: "How often the others took this replica for dead although it lived and had not stood still."})
	m.requests = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hostsched_api_requests_total", Help: "Requests to the API, by route and class of status."}, []string{"route", "status"})
	m.requestTime = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "hostsched_api_request_seconds", Help: "How long requests to the API took, but for streams.", Buckets: fastBuckets}, []string{"route"})
	m.failedLogins = prometheus.NewCounter(prometheus.CounterOpts{Name: "hostsched_api_failed_logins_total", Help: "Tokens and logins that the API refused."})
	m.runs = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hostsched_runs_total", Help: "Runs that this replica closed, by kind and result."}, []string{"kind", "result"})
	m.backgroundFailures = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hostsched_background_failures_total", Help: "How often work besides scheduling failed: the sweeps of runs, the keeping of logs, counting for metrics."}, []string{"work"})
	registry.MustRegister(m.runs, m.backgroundFailures, m.condemned, m.needless, m.requests, m.requestTime, m.failedLogins)
	for _, kind := range kindsOfRuns {
		for _, result := range resultsOfRuns {
			m.runs.WithLabelValues(kind, result)
		}
	}
	return m
}

func (m *Metrics) histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "hostsched_" + name, Help: help, Buckets: buckets}, append([]string{"shard"}, labels...))
	m.registry.MustRegister(v)
	m.vectors = append(m.vectors, v)
	return v
}

func (m *Metrics) counter(name, help string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hostsched_" + name, Help: help}, []string{"shard"})
	m.registry.MustRegister(v)
	m.vectors = append(m.vectors, v)
	return v
}

func (m *Metrics) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "hostsched_" + name, Help: help}, append([]string{"shard"}, labels...))
	m.registry.MustRegister(v)
	m.vectors = append(m.vectors, v)
	return v
}

// label is the name of a shard as a label, which must be UTF-8: Prometheus panics otherwise.
func label(name shard.Name) string { return shard.Printable(name.String()) }

// Served counts a request to the API. A stream has no time.
func (m *Metrics) Served(route string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status/100)+"xx").Inc()
	if took > 0 {
		m.requestTime.WithLabelValues(route).Observe(took.Seconds())
	}
}

// kindsOfRuns and resultsOfRuns are there before anything was counted, so that a first
// increase can be seen.
var (
	kindsOfRuns   = []string{"job", "reserve", "Verify", "Cleanup", "Reset", "Provision", "Repair"}
	resultsOfRuns = []string{"passed", "failed", "unusable", "infra", "lost"}
)

// RunClosed counts a run that ended, or was given up: then its result is lost.
func (m *Metrics) RunClosed(kind, result string) { m.runs.WithLabelValues(kind, result).Inc() }

// Background makes the failures of some work in the background appear before there are any.
func (m *Metrics) Background(work string) { m.backgroundFailures.WithLabelValues(work) }

// BackgroundFailed counts a failure of work in the background.
func (m *Metrics) BackgroundFailed(work string) { m.backgroundFailures.WithLabelValues(work).Inc() }

// LoginFailed counts a token or a login that the API refused.
func (m *Metrics) LoginFailed() { m.failedLogins.Inc() }

// priority is the label of a priority.
func (m *Metrics) priority(n int64) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.priorities[n] && len(m.priorities) == maxPriorities {
		return otherPriorities
	}
	m.priorities[n] = true
	return strconv.FormatInt(n, 10)
}

// Forget removes the metrics of a shard that is not served any more.
func (m *Metrics) Forget(name shard.Name) {
	for _, v := range m.vectors {
		v.DeletePartialMatch(prometheus.Labels{"shard": label(name)})
	}
}

// NotServed adds the number of rows of afe_shards that no replica can lead.
func (m *Metrics) NotServed(count func() int) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hostsched_shards_not_served", Help: "Rows of afe_shards that no replica can lead, because of their names."},
		func() float64 { return float64(count()) }))
}

// Build adds which binary this is.
func (m *Metrics) Build(version string) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hostsched_build_info", Help: "Always 1; the label says which version this is.", ConstLabels: prometheus.Labels{"version": shard.Printable(version)}},
		func() float64 { return 1 }))
}

// Rules adds the settings on which this replica's decisions depend, and the only shard that it
// serves, empty if it serves all: those that serve the same need the same. The names of labels
// have no dots.
func (m *Metrics) Rules(only string, rules map[string]string) {
	labels := prometheus.Labels{"only_shard": shard.Printable(only)}
	for name, value := range rules {
		labels[strings.ReplaceAll(name, ".", "_")] = shard.Printable(value)
	}
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hostsched_rules_info", Help: "Always 1; the labels are the settings on which decisions depend.", ConstLabels: labels},
		func() float64 { return 1 }))
}

// Unheard adds the number of replicas whose heartbeats are not heard.
func (m *Metrics) Unheard(count func() int) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hostsched_replicas_not_heard", Help: "Other replicas whose heartbeats are not heard, so that only their leases tell their end."},
		func() float64 { return float64(count()) }))
}

// Certificate adds until when the replica's certificate is valid, and whether something is
// wrong with it.
func (m *Metrics) Certificate(state func() *certs.State) {
	m.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hostsched_certificate_expires_timestamp_seconds", Help: "Until when the certificate of this replica is valid."},
			func() float64 { return float64(state().Until.Unix()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hostsched_certificate_fault", Help: "1 if the certificate of this replica, or a file that belongs to it, is not as it should be, or expires soon."},
			func() float64 {
				if state().Fault != "" {
					return 1
				}
				return 0
			}),
	)
}

// Serves makes the metrics of a shard appear before anything has happened, so
// that a counter's first increase can be seen.
func (m *Metrics) Serves(name shard.Name) {
	s := label(name)
	for _, c := range []*prometheus.CounterVec{m.ticks, m.assignments, m.releases, m.moves, m.conflicts, m.locked, m.uncaught, m.fenced, m.terms, m.replanned, m.wentBack} {
		c.WithLabelValues(s)
	}
	for _, g := range []*prometheus.GaugeVec{m.waiting, m.contended, m.malformed, m.leader, m.token, m.lastTick} {
		g.WithLabelValues(s)
	}
	for _, h := range []*prometheus.HistogramVec{m.tick, m.snapshot, m.plan, m.lease, m.schedule, m.release, m.takeOver, m.transaction, m.woken} {
		h.WithLabelValues(s)
	}
}

// Metadata adds the counts of queued-time records that were sent and dropped.
func (m *Metrics) Metadata(sent, dropped func() int64) {
	for _, c := range []struct {
		name, help string
		value      func() int64
	}{
		{"metadata_sent_total", "Queued-time records that the metadata endpoint took.", sent},
		{"metadata_dropped_total", "Queued-time records that were lost.", dropped},
	} {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "hostsched_" + c.name, Help: c.help},
			func() float64 { return float64(c.value()) }))
	}
}

// NotLeading adds why this replica does not lead, asked for when the metrics are read.
// A shard that is not there any more has no series then.
func (m *Metrics) NotLeading(ask func() map[shard.Name]replica.NotLeading) {
	m.registry.MustRegister(notLeading{
		desc: prometheus.NewDesc("hostsched_not_leading", "1 for the reason why this replica does not lead the shard.", []string{"shard", "reason"}, nil),
		ask:  ask,
	})
}

type notLeading struct {
	desc *prometheus.Desc
	ask  func() map[shard.Name]replica.NotLeading
}

// Describe implements prometheus.Collector.
func (n notLeading) Describe(out chan<- *prometheus.Desc) { out <- n.desc }

// Collect implements prometheus.Collector.
func (n notLeading) Collect(out chan<- prometheus.Metric) {
	for name, why := range n.ask() {
		out <- prometheus.MustNewConstMetric(n.desc, prometheus.GaugeValue, 1, label(name), string(why.Reason))
	}
}

// WriteFile writes all metrics to a file, in one step.
func (m *Metrics) WriteFile(path string) error { return prometheus.WriteToTextfile(path, m.registry) }

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Leading implements replica.Observer.
func (m *Metrics) Leading(name shard.Name, token int64, takeOver time.Duration) {
	s := label(name)
	m.leader.WithLabelValues(s).Set(1)
	m.token.WithLabelValues(s).Set(float64(token))
	m.terms.WithLabelValues(s).Inc()
	m.takeOver.WithLabelValues(s).Observe(takeOver.Seconds())
}

// Ended implements replica.Observer. What only a leader knows is nobody's word any
// more: without this, the last values would stand beside those of the next leader.
func (m *Metrics) Ended(name shard.Name, _ error) {
	s := label(name)
	for _, g := range []*prometheus.GaugeVec{m.leader, m.token, m.waiting, m.contended, m.malformed, m.lastTick} {
		g.WithLabelValues(s).Set(0)
	}
	m.findings.DeletePartialMatch(prometheus.Labels{"shard": s})
}

// Ticked implements replica.Observer.
func (m *Metrics) Ticked(name shard.Name, r replica.Report) {
	s := label(name)
	applied := r.Result.Applied
	m.ticks.WithLabelValues(s).Inc()
	m.lastTick.WithLabelValues(s).SetToCurrentTime()
	m.assignments.WithLabelValues(s).Add(float64(len(applied.Assignments)))
	m.releases.WithLabelValues(s).Add(float64(len(applied.Releases)))
	m.moves.WithLabelValues(s).Add(float64(len(applied.Moves)))
	m.conflicts.WithLabelValues(s).Add(float64(len(r.Result.Conflicts)))
	m.locked.WithLabelValues(s).Add(float64(len(r.Result.Locked)))
	if !r.Newcomers {
		m.wholeTick(s, r)
	}
	if r.Woken > 0 {
		m.woken.WithLabelValues(s).Observe(r.Woken.Seconds())
	}
	for i := range applied.Assignments {
		if a := &applied.Assignments[i]; a.QueuedSeconds >= 0 {
			m.queued.WithLabelValues(s, m.priority(a.Priority)).Observe(float64(a.QueuedSeconds))
		}
	}
}

// wholeTick is what is known after a tick that looked at everything.
func (m *Metrics) wholeTick(s string, r replica.Report) {
	m.waiting.WithLabelValues(s).Set(float64(len(r.Result.Applied.Waiting)))
	m.contended.WithLabelValues(s).Set(float64(r.Contended))
	m.malformed.WithLabelValues(s).Set(float64(len(r.Result.Applied.Problems)))
	for _, d := range []struct {
		h *prometheus.HistogramVec
		d time.Duration
	}{
		{m.tick, r.Total},
		{m.snapshot, r.Snapshot},
		{m.plan, r.Plan},
		{m.lease, r.Result.Lease},
		{m.schedule, r.Result.Schedule},
		{m.release, r.Result.Release},
		{m.transaction, r.Result.LongestTx},
	} {
		d.h.WithLabelValues(s).Observe(d.d.Seconds())
	}
}

// Condemned counts a replica whose leases were revoked.
func (m *Metrics) Condemned(reason string) { m.condemned.WithLabelValues(reason).Inc() }

// Needless counts that the others took this replica for dead although it lived and had not
// stood still.
func (m *Metrics) Needless() { m.needless.Inc() }

// Checked implements replica.Observer.
func (m *Metrics) Checked(name shard.Name, f admin.Findings) {
	for _, kind := range f.Kinds() {
		m.findings.WithLabelValues(label(name), kind.Name).Set(float64(len(kind.All)))
	}
}

// Replanned implements replica.Observer.
func (m *Metrics) Replanned(name shard.Name) { m.replanned.WithLabelValues(label(name)).Inc() }

// Failed implements replica.Observer.
func (m *Metrics) Failed(name shard.Name, err error) {
	switch {
	case errors.Is(err, store.ErrFenced):
		m.fenced.WithLabelValues(label(name)).Inc()
		return
	case errors.Is(err, store.ErrWentBack):
		m.wentBack.WithLabelValues(label(name)).Inc()
	}
	m.uncaught.WithLabelValues(label(name)).Inc()
}
