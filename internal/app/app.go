package app

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/oklog/run"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/election/recurring"
	"github.com/hostsched/hostsched/internal/agentapi"
	"github.com/hostsched/hostsched/internal/api"
	"github.com/hostsched/hostsched/internal/certs"
	"github.com/hostsched/hostsched/internal/cluster"
	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/metrics"
	"github.com/hostsched/hostsched/internal/peers"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/runs"
	"github.com/hostsched/hostsched/internal/tracing"
	"github.com/hostsched/hostsched/internal/web"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

// Bounds of an App.
const (
	httpHeaderTimeout   = 5 * time.Second
	httpIdleTimeout     = 2 * time.Minute
	httpAnswerTimeout   = 5 * time.Minute
	httpShutdownTimeout = 2 * time.Second
)

// ErrStarted is returned by Start if the App was started or stopped before: it
// runs once.
var ErrStarted = errors.New("the replica was started or stopped before")

// Options are what an App is made of.
type Options struct {
	// Config must be loaded. It is not changed.
	Config *config.Config
	// Version is shown to the other replicas.
	Version string
	// Listen is the address for metrics, health and status; the configured one if
	// empty.
	Listen string
	// Log gets what happens; nothing is logged if it is nil.
	Log hclog.Logger
	// Out gets what a standalone server tells the person who started it; nothing is told
	// if it is nil.
	Out io.Writer
	// Registry gets the metrics. No two Apps can share one. Without it the App
	// makes its own, with the metrics of the process.
	Registry *prometheus.Registry
}

// App is one replica with all that belongs to it. It runs once: New, Start, and
// Stop or an end by itself, which Done tells.
type App struct {
	cfg      *config.Config
	log      hclog.Logger
	faults   *recurring.Log
	version  string
	out      io.Writer
	listener net.Listener
	server   *http.Server
	// doors are where the API answers besides.
	doors      []door
	heartbeats *peers.Heartbeats
	metrics    *metrics.Metrics
	// certs are for TLS between replicas; nil without it. lookAtFiles asks for a look at
	// them.
	certs       *certs.Keeper
	lookAtFiles chan struct{}
	// observers are told what the replica does.
	observers replica.Observers
	// campaigner and holder are what the controller campaigns with.
	campaigner *election.Etcd
	holder     string
	// controller is nil until the databases are there, for which the replica waits.
	controller atomic.Pointer[cluster.Controller]
	// waiting says what it waits for: a string, empty when it does not.
	waiting atomic.Value
	// lab is nil as long as controller is.
	lab atomic.Pointer[lab.Lab]
	// runs is nil as long as lab is.
	runs atomic.Pointer[runs.Runs]
	// agents answers agents, and others who run jobs.
	agents *agentapi.API
	// etcdReady is closed when the embedded etcd of a standalone server has forgotten the
	// leases of its former processes.
	etcdReady chan struct{}
	// journal tells whether leaders note what they do; known once lab is.
	journal bool
	// metadataFault says why queued-time records were not taken.
	metadataFault func() string
	// tracer tells a collector of jobs; nil without one.
	tracer *tracing.Tracer
	// failing says what of the work in the background fails.
	failing faults
	// reporters run until everything else has ended, and then send what is left.
	reporters []func(context.Context)
	// closers undo what New opened, the last first.
	closers []func() error

	mu      sync.Mutex
	started bool
	stopped bool
	cancel  context.CancelFunc

	done chan struct{}
	// err may be read once done is closed.
	err error
}

// New checks what can be checked without a database, and takes the address. If it
// fails, nothing stays open.
func New(o Options) (*App, error) {
	a := &App{cfg: o.Config, log: o.Log, version: o.Version, out: o.Out, etcdReady: make(chan struct{}), metadataFault: func() string { return "" }, lookAtFiles: make(chan struct{}, 1), done: make(chan struct{})}
	a.waiting.Store("starting")
	if a.log == nil {
		a.log = hclog.NewNullLogger()
	}
	if a.out == nil {
		a.out = io.Discard
	}
	a.faults = recurring.New(a.log)
	if err := a.open(o); err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

func (a *App) open(o Options) (err error) {
	if err := a.checkDSNs(); err != nil {
		return err
	}
	if err := a.openFolder(); err != nil {
		return err
	}
	address := o.Listen
	if address == "" {
		address = a.cfg.Listen
	}
	if a.listener, err = net.Listen("tcp", address); err != nil {
		return fmt.Errorf("%w: listen: %w; choose another address with --listen", config.ErrConfig, err)
	}
	a.closers = append(a.closers, a.closeListener)
	shown := advertised(a.cfg, a.Addr(), a.log)
	if a.holder, err = holderName(a.cfg.Server, shown); err != nil {
		return err
	}
	if a.campaigner, err = newCampaigner(a.cfg, a.holder, shown); err != nil {
		return err
	}
	a.heartbeats = peers.NewHeartbeats(a.holder)
	registry := o.Registry
	if registry == nil {
		registry = metrics.NewRegistry()
	}
	a.metrics = metrics.New(registry)
	a.metrics.NotLeading(func() map[shard.Name]replica.NotLeading { return ask(a, (*cluster.Controller).NotLeading) })
	a.metrics.NotServed(func() int { return ask(a, (*cluster.Controller).Unserved) })
	a.metrics.Build(a.version)
	a.metrics.Rules(a.cfg.Shard, a.cfg.Rules())
	a.metrics.Replica(a.replicaNow)
	a.openLabMetrics()
	a.openSweeps()
	a.openLogKeeping()
	if a.observers, err = a.report(a.metrics); err != nil {
		return err
	}
	if err := a.openTracing(); err != nil {
		return err
	}
	calls := api.New(a.apiConfig())
	a.agents = agentapi.New(a.agentConfig(calls))
	a.observers = append(a.observers, ringer{ring: a.agents.Ring})
	a.metrics.Unheard(func() int { return len(ask(a, (*cluster.Controller).Unheard)) })
	a.server = a.newServer(a.handler(calls))
	a.server.RegisterOnShutdown(calls.EndStreams)
	a.server.RegisterOnShutdown(a.agents.EndWaits)
	if err := a.openCertificate(); err != nil {
		return err
	}
	if err := a.openDoors(calls); err != nil {
		return err
	}
	a.log.Info("starting", "server", a.cfg.Server, "etcd", a.cfg.Etcd.Endpoints, "listen", a.listener.Addr(), "policy", a.cfg.Scheduler.Policy, "aging", a.cfg.Scheduler.Aging)
	return nil
}

// handler answers over HTTP, also while there is no controller yet.
func (a *App) handler(calls *api.API) http.Handler {
	pages := http.NewServeMux()
	pages.Handle("GET "+peers.Path, a.heartbeats)
	pages.Handle("POST "+peers.WakePath, peers.Wakes(a.woken))
	if a.cfg.API.Listen == "" {
		a.addAPIs(pages, calls)
	}
	pages.Handle("/", web.Handler(web.Config{
		Server: a.cfg.Server, Version: a.version, Metrics: a.metrics.Handler(), Rules: a.cfg.Rules(),
		Waiting: a.waitingFor, MetadataFault: a.metadataFault, Failing: a.failing.all, Certificate: a.certificate,
		Unheard:   func() map[string]string { return ask(a, (*cluster.Controller).Unheard) },
		Status:    func() []replica.Status { return ask(a, (*cluster.Controller).Status) },
		NotServed: func() map[shard.Name]string { return ask(a, (*cluster.Controller).NotServed) },
		Role: func() (role, why string) {
			if c := a.controller.Load(); c != nil {
				return c.Role()
			}
			return election.RoleNone, a.waitingFor()
		},
		Recorder: func(name shard.Name) map[scheduler.HostID]scheduler.JobID {
			return ask(a, func(c *cluster.Controller) map[scheduler.HostID]scheduler.JobID { return c.Holdings(name) })
		},
	}))
	return pages
}

// wake wakes the leader of a shard, and woken answers another replica that does so. As long
// as there is no controller, whoever leads has still to look at everything.
func (a *App) wake(name shard.Name, entries ...int64) {
	a.agents.Ring()
	if c := a.controller.Load(); c != nil {
		c.Wake(name, entries...)
	}
}

func (a *App) woken(w peers.Wake) {
	if c := a.controller.Load(); c != nil {
		c.Woken(w)
	}
}

// ask asks the controller, if there is one yet.
func ask[T any](a *App, question func(*cluster.Controller) T) (answer T) {
	if c := a.controller.Load(); c != nil {
		answer = question(c)
	}
	return answer
}

func (a *App) waitingFor() string {
	reason, _ := a.waiting.Load().(string)
	return reason
}

// schedule waits for the databases and then takes part, until ctx ends.
func (a *App) schedule(ctx context.Context) error {
	if !a.waitForOwnEtcd(ctx) {
		return nil
	}
	dbs, err := a.waitForDatabases(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	a.log.Info("the database is there", "database", dbs.Main.Target(), "database server", dbs.Main.Server())
	scope := a.cfg.Scope()
	if scope.Agents, err = a.cfg.AgentsRun(ctx, dbs.Main); err != nil {
		return err
	}
	c := cluster.New(cluster.Config{
		Server: a.cfg.Server, Version: a.version, Weight: a.cfg.Placement.Weight, HoldOff: a.cfg.Placement.HoldOff, Only: shard.Name(a.cfg.Shard), Found: a.metrics.Serves, Gone: a.metrics.Forget,
		Certs: a.certs, Condemned: a.metrics.Condemned, Needless: a.metrics.Needless,
		Replica: replica.Config{Scope: scope, Holder: a.holder, Cluster: a.cfg.Cluster, MinTick: a.cfg.Tick.Min, CheckEvery: a.cfg.Audit.Every, KeepDays: a.cfg.History.Days, Journal: a.journal, JournalDays: a.cfg.Journal.Days, LogAssignments: a.cfg.Log.Assignments},
	}, a.campaigner, dbs, a.observers, a.log)
	a.controller.Store(c)
	at := lab.New(dbs.Main, scope)
	a.openRuns(at, !scope.Agents)
	if err := a.openBlobs(ctx, at); err != nil {
		return err
	}
	a.lab.Store(at)
	if err := a.welcome(ctx); err != nil {
		return err
	}
	c.Run(ctx)
	return nil
}

func newCampaigner(c *config.Config, holder, address string) (*election.Etcd, error) {
	e, err := election.NewEtcd(election.EtcdConfig{Etcd: c.EtcdConnection(), Cluster: c.Cluster, Server: c.Server, Holder: holder, Address: address, TTL: c.Etcd.TTL})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", config.ErrConfig, err)
	}
	return e, nil
}

// holderName is unique per process: a restarted replica must not pass for its
// former self.
func holderName(server, address string) (string, error) {
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	return store.HolderName(server, os.Getpid(), hex.EncodeToString(b[:]), address), nil
}

func (a *App) closeListener() error { return unlessClosed(a.listener.Close()) }

func (a *App) close() error {
	var errs []error
	for _, closer := range slices.Backward(a.closers) {
		errs = append(errs, closer())
	}
	return errors.Join(errs...)
}

// Addr is the address for metrics, health and status.
func (a *App) Addr() string { return a.listener.Addr().String() }

// Done is closed when the replica has ended, by Stop, by the end of Start's
// context, or by itself: at the end of its lifetime, or when a part failed.
func (a *App) Done() <-chan struct{} { return a.done }

// Err is why a part failed, once Done is closed; nil after an orderly end.
func (a *App) Err() error {
	if !a.ended() {
		return nil
	}
	return a.err
}

func (a *App) ended() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// Start begins to serve and returns. The end of ctx is an orderly end, as by
// Stop.
func (a *App) Start(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.started || a.stopped {
		return ErrStarted
	}
	a.started = true
	ctx, a.cancel = context.WithCancel(ctx)
	go func() {
		a.err = errors.Join(a.run(ctx), a.close())
		a.cancel()
		close(a.done)
	}()
	return nil
}

// Stop ends the replica in an orderly way: it finishes the running apply, hands
// its shards over and sends what it still has to report. If ctx ends before, the
// rest continues without Stop. Stop may be called more than once, and of an App
// that was never started it closes what New opened.
func (a *App) Stop(ctx context.Context) error {
	a.mu.Lock()
	switch {
	case a.started:
		a.cancel()
	case !a.stopped:
		a.err = a.close()
		close(a.done)
	}
	a.stopped = true
	a.mu.Unlock()
	select {
	case <-a.done:
	case <-ctx.Done():
		if !a.ended() {
			return fmt.Errorf("stop server %s: it has not handed over yet: %w", a.cfg.Server, context.Cause(ctx))
		}
	}
	return a.err
}

// run serves until ctx ends, the lifetime is over, or a part fails; then the
// other parts end, too, and what is still to be reported is sent.
func (a *App) run(ctx context.Context) error {
	reports, endReports := context.WithCancel(context.WithoutCancel(ctx))
	defer endReports()
	var reporters sync.WaitGroup
	for _, report := range a.reporters {
		reporters.Go(func() { report(reports) })
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	var g run.Group
	// The replica is the first to hear of the end: handing over cannot wait until
	// the connections of browsers are closed. The other replicas hear its heartbeats
	// until it has handed over.
	handedOver := make(chan struct{})
	g.Add(func() error {
		defer close(handedOver)
		return a.schedule(running)
	}, func(error) { stop() })
	g.Add(func() error {
		a.waitForLifetime(running)
		return nil
	}, func(error) { stop() })
	g.Add(a.serve, func(error) {
		<-handedOver
		a.heartbeats.End()
		a.shutdown(a.server)
	})
	for _, d := range a.doors {
		g.Add(d.serve, func(error) {
			<-handedOver
			a.shutdown(d.server)
		})
	}
	if a.cfg.Etcd.Embedded {
		member, endMember := context.WithCancel(context.WithoutCancel(ctx))
		defer endMember()
		g.Add(func() error { return a.runMember(member) }, func(error) {
			<-handedOver
			endMember()
		})
	}
	err := g.Run()
	endReports()
	reporters.Wait()
	return err
}

// waitForLifetime returns when the lifetime is over or ctx ends.
func (a *App) waitForLifetime(ctx context.Context) {
	hours := a.cfg.Lifetime.Hours
	if hours == 0 {
		<-ctx.Done()
		return
	}
	timer := time.NewTimer(time.Duration(hours * float64(time.Hour)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
		a.log.Info("stopping: the lifetime is over", "hours", hours)
	}
}

func (a *App) serve() error {
	serve := a.server.Serve
	if a.certs.Answers() {
		serve = func(l net.Listener) error { return a.server.ServeTLS(l, "", "") }
	}
	if err := serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics, health and status on %s: %w", a.Addr(), err)
	}
	return nil
}

func (a *App) shutdown(server *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), httpShutdownTimeout)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		a.log.Warn("closing connections", "error", errors.Join(err, server.Close()))
	}
}
