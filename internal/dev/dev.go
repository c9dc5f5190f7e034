package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hostsched/hostsched/internal/embedetcd"
	"github.com/hostsched/hostsched/internal/labclient"
	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Options are the flags of `hostsched dev`, within the bounds below.
type Options struct {
	Hosts    int
	Replicas int
	// Agents run the jobs of the lab; 0 has the simulator play them.
	Agents  int
	DataDir string
	Seed    uint64
	// Duration ends the run by itself; 0 runs until interrupted.
	Duration time.Duration
	// KillLeaderEvery kills the leader (SIGKILL) again and again; 0 never does.
	KillLeaderEvery time.Duration
	JSON            bool
	TTL, MinTick    time.Duration

	// Interactive draws a live screen and reads keys; otherwise progress lines
	// go to Progress.
	Interactive bool
	Out         io.Writer
	Progress    io.Writer
	Keys        *os.File
}

// ErrProof means that the run did not prove what it should: something was
// assigned twice, or nothing was assigned at all.
var ErrProof = errors.New("the run is not sound")

// ErrOptions are flags that make no lab. Nothing was started or written.
var ErrOptions = errors.New("hostsched dev")

// The bounds of the options. More is a slip of the finger, and would fill the memory before
// anybody could correct it, or never end.
const (
	MaxHosts    = 1_000_000
	MaxReplicas = 100
	MaxAgents   = 100
	MinTTL      = time.Second
	MaxTTL      = 10 * time.Minute
	MaxTick     = 10 * time.Minute
	MaxDuration = 365 * 24 * time.Hour
)

const (
	clusterName = "dev"
	// The simulated lab: 40 suites at first, half of which are guaranteed hosts that
	// add up to a twenty-fifth of the lab; more entries wait than there are hosts.
	labSuites       = 40
	labBoards       = 20
	labMinimumShare = 0.04
	suiteSize       = 25
	// Agents have fewer hosts, and so smaller suites of which several are seen.
	agentSuiteSize = 10
	hostsOfAgent   = 10_000
)

type dev struct {
	opts      Options
	etcd      *embedetcd.Server
	db        *store.DB
	lab       *simlab.Lab
	history   *simlab.History
	api       *labclient.Client
	processes []*process
	agents    []*process
	// program is the file of this program, dataDir the data folder, and envFile what a shell
	// reads to find it and the lab; their paths are absolute.
	program, dataDir, envFile string

	began time.Time
	ended time.Time

	// mu guards figures and events, which several goroutines write.
	mu      sync.Mutex
	figures figures
	events  []string
}

// Run starts everything, watches it, stops everything, and writes the summary.
func Run(ctx context.Context, opts Options) error {
	d := &dev{opts: opts}
	if err := d.check(); err != nil {
		return err
	}
	if err := d.start(ctx); err != nil {
		return errors.Join(err, d.stop())
	}
	err := d.watch(ctx)
	d.ended = time.Now()
	// All end before the last count, so that it is final.
	err = errors.Join(err, d.stopAgents(), d.stopReplicas())
	summary, serr := d.summarise()
	err = errors.Join(err, serr, d.stop())
	if err != nil {
		return err
	}
	if err := d.print(summary); err != nil {
		return err
	}
	return summary.verdict()
}

// check refuses options that do not go together.
func (d *dev) check() error {
	o := d.opts
	switch {
	case o.TTL%time.Second != 0:
		return fmt.Errorf("%w: --ttl is %v; whole seconds are needed", ErrOptions, o.TTL)
	case o.KillLeaderEvery > 0 && o.Replicas < 2:
		return fmt.Errorf("%w: --kill-leader-every needs at least 2 replicas, or nobody is left to take over", ErrOptions)
	case o.Agents > 0 && o.Hosts > o.Agents*hostsOfAgent:
		return fmt.Errorf("%w: %d hosts need more agents, each of which has at most %d: say --agents N, or --simulator", ErrOptions, o.Hosts, hostsOfAgent)
	}
	return nil
}

func (d *dev) dsn() string { return "sqlite:" + d.file(labFile) }

// labFile is the database in the data folder.
const labFile = "lab.db"

// start brings up etcd, the database with its lab, and the replicas.
func (d *dev) start(ctx context.Context) error {
	if err := errors.Join(d.locate(), d.clearDataDir()); err != nil {
		return err
	}
	var err error
	d.progress("starting etcd in %s", d.opts.DataDir)
	if d.etcd, err = embedetcd.Start(filepath.Join(d.opts.DataDir, "etcd")); err != nil {
		return err
	}
	d.progress("creating a lab of %d hosts and %d suites (seed %d)", d.opts.Hosts, labSuites, d.opts.Seed)
	if err := d.createLab(ctx); err != nil {
		return err
	}
	for i := 1; i <= d.opts.Replicas; i++ {
		listen, err := embedetcd.FreeAddr()
		if err != nil {
			return err
		}
		p := d.newProcess(i, listen)
		d.processes = append(d.processes, p)
		if err := p.start(); err != nil {
			return err
		}
	}
	d.progress("started %d replicas; their logs are in %s", d.opts.Replicas, d.opts.DataDir)
	if err := d.openAPI(); err != nil {
		return err
	}
	if err := d.startAgents(ctx); err != nil {
		return err
	}
	d.progress(lookAt, d.consoleURL())
	d.progress("the API answers without a token; try in another terminal:")
	for _, command := range d.commands() {
		d.progress("  %s", command)
	}
	d.progress("(%s says: export HOSTSCHED_SERVER=%s)", d.envFile, strings.Join(d.addresses(), ","))
	d.began = time.Now()
	return nil
}

// marker shows that a folder is ours to clear.
const marker = "hostsched-dev"

// clearDataDir empties the data folder of an earlier run, and refuses to touch
// any other folder that is not empty.
func (d *dev) clearDataDir() error {
	dir := d.opts.DataDir
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look into the data folder: %w", err)
	}
	mark := filepath.Join(dir, marker)
	if _, err := os.Stat(mark); len(files) > 0 && err != nil {
		return fmt.Errorf("data folder %s is not empty and not from an earlier 'hostsched dev'; choose another with --data-dir", dir)
	}
	if inUse(dir) {
		return fmt.Errorf("another 'hostsched dev' runs in %s; stop it or choose another folder with --data-dir", dir)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("clear the data folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("create the data folder: %w", err)
	}
	return os.WriteFile(mark, []byte("data of 'hostsched dev'; cleared by its next run\n"), 0o644)
}

func (d *dev) createLab(ctx context.Context) error {
	var err error
	if d.db, err = store.Open(ctx, sqldb.Config{DSN: d.dsn(), Create: true}); err != nil {
		return err
	}
	if _, err := schema.Up(ctx, d.db.DB, schema.Options{}); err != nil {
		return err
	}
	d.lab, err = simlab.Create(ctx, d.db.SQL(), simlab.Spec{
		Seed: d.opts.Seed, Hosts: d.opts.Hosts, Boards: d.boards(), Suites: labSuites, Entries: d.queueLength(),
		// What agents are to run comes with scripts, through the API.
		Later:        d.opts.Agents > 0,
		MinimumShare: labMinimumShare, LeasedAtFirst: true,
	})
	if err != nil {
		return err
	}
	if d.history, err = simlab.InstallHistory(ctx, d.db.SQL(), true); err != nil {
		return err
	}
	d.history.Requeues = d.opts.Agents > 0
	return nil
}

// boards are so many that each of a small lab has some hosts, and each of the smallest one.
func (d *dev) boards() int { return max(min(2, d.opts.Hosts), min(d.opts.Hosts/5, labBoards)) }

func (d *dev) suiteSize() int {
	if d.opts.Agents > 0 {
		return agentSuiteSize
	}
	return suiteSize
}

func (d *dev) queueLength() int { return max(2*d.opts.Hosts, labSuites) }

// watch runs the simulator and the observers until the run is over.
func (d *dev) watch(ctx context.Context) error {
	if d.opts.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.opts.Duration)
		defer cancel()
	}
	ctx, quit := context.WithCancel(ctx)
	defer quit()
	simulator := simlab.NewSimulator(d.db.SQL(), d.lab, simlab.Simulation{
		Step: 200 * time.Millisecond, TaskMin: 300 * time.Millisecond, TaskMax: time.Second,
		JobMin: 2 * time.Second, JobMax: 6 * time.Second,
		Queue: d.queueLength(), SuiteSize: d.suiteSize(), FrontendTasks: 0.2,
		Submit: d.submit, Agents: d.opts.Agents > 0,
	})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return simulator.Run(ctx) })
	g.Go(func() error { return d.observe(ctx) })
	g.Go(func() error { return d.control(ctx) })
	g.Go(func() error { return d.killRegularly(ctx) })
	if d.opts.Interactive {
		g.Go(func() error { return d.readKeys(ctx, quit) })
	}
	return g.Wait()
}

func (d *dev) stopReplicas() error {
	var g errgroup.Group
	for _, p := range d.processes {
		g.Go(p.stop)
	}
	return g.Wait()
}

// stop ends whatever was started.
func (d *dev) stop() error {
	err := errors.Join(d.stopAgents(), d.stopReplicas())
	if d.db != nil {
		err = errors.Join(err, d.db.Close())
	}
	if d.etcd != nil {
		d.etcd.Stop()
	}
	return err
}

func (d *dev) progress(format string, args ...any) {
	fmt.Fprintf(d.opts.Progress, format+"\n", args...)
}
