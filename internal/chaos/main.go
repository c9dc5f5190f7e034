package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/hostsched/hostsched/internal/testserver"
)

// options are the flags.
type options struct {
	minutes       float64
	seed          uint64
	database, out string
	program       string
	cluster, only string
	keep          bool
	ttl           time.Duration
	calm          bool
	kills, stops  int
	runs          bool
	agents        int
	// witness is set if this process is the work on a host (runs_witness.go).
	witness witness
}

// measures tells whether failovers are measured instead of letting faults happen at random.
func (o options) measures() bool { return o.kills > 0 || o.stops > 0 }

func main() {
	var o options
	flag.Float64Var(&o.minutes, "minutes", 2, "how long faults happen")
	flag.Uint64Var(&o.seed, "seed", 1, "decides the faults")
	flag.StringVar(&o.database, "database", string(testserver.MariaDB), "the kind of database server: mariadb or mysql")
	flag.StringVar(&o.out, "json", "", "also write the figures to this file")
	flag.StringVar(&o.program, "hostsched", "bin/hostsched", "the program under test")
	flag.StringVar(&o.cluster, "cluster", "", "what the database is: one server, galera (three nodes of MariaDB) or group (three servers of MySQL)")
	flag.StringVar(&o.only, "only", "", "only faults whose kind contains one of these texts, comma-separated")
	flag.BoolVar(&o.keep, "keep", false, "keep the logs although nothing is wrong")
	flag.DurationVar(&o.ttl, "ttl", 2*time.Second, "the leases of the replicas")
	flag.BoolVar(&o.calm, "calm", false, "nothing worse happens than stalls of a second and a slow network, for which nobody may lose a shard")
	flag.IntVar(&o.kills, "kills", 0, "measure so many failovers after SIGKILL of a leader, instead of letting faults happen")
	flag.IntVar(&o.stops, "stops", 0, "measure so many failovers after SIGSTOP of a leader, too")
	flag.BoolVar(&o.runs, "runs", false, "let claimants run commands on hosts meanwhile, and let faults happen to them, too")
	flag.IntVar(&o.agents, "agents", 2, "with -runs, so many agents serve hosts, too")
	flag.StringVar(&o.witness.dir, "witness", "", "be the work on a host; used by -runs")
	flag.DurationVar(&o.witness.hold, "hold", 0, "how long that takes")
	flag.BoolVar(&o.witness.fence, "fence", false, "end what is left of others first")
	flag.IntVar(&o.witness.tries, "tries", 1, "how often the job may be begun")
	flag.IntVar(&o.witness.lines, "lines", 0, "how many lines it says at once")
	flag.Parse()
	// The driver has a lot to say about connections that faults have ended.
	_ = mysql.SetLogger(&mysql.NopLogger{}) // fails for nil only
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	begin := run
	if o.witness.dir != "" {
		begin = beWitness
	}
	err := begin(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

// errViolated means that something happened that must never happen.
var errViolated = errors.New("what must not happen happened")

// run builds the cluster, lets faults happen and judges. The folder with the logs
// is kept if anything is wrong.
func run(ctx context.Context, o options) (err error) {
	if o.program, err = filepath.Abs(o.program); err != nil {
		return err
	}
	if _, err := os.Stat(o.program); err != nil {
		return fmt.Errorf("the program under test: %w; `make build` makes it", err)
	}
	dir, err := os.MkdirTemp("", "hostsched-chaos-")
	if err != nil {
		return err
	}
	c := &chaos{o: o, dir: dir, rng: rand.New(rand.NewPCG(o.seed, 1)), journal: &journal{began: time.Now()}}
	err = c.start(ctx)
	if err == nil {
		err = c.play(ctx)
	}
	err = errors.Join(err, c.stop())
	if err == nil && o.keep {
		c.journal.say("the logs are in %s", dir)
		return nil
	}
	if err == nil {
		return os.RemoveAll(dir)
	}
	return fmt.Errorf("%w; the logs are in %s", err, dir)
}

// beWitness is what this program does as the work on a host.
func beWitness(ctx context.Context, o options) error {
	if err := o.witness.fromEnvironment(os.Getenv); err != nil {
		return err
	}
	return o.witness.work(ctx)
}

// play lets faults happen, with drains in between, and reports.
func (c *chaos) play(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	beside, happen := func() error { return nil }, c.playRuns
	if !c.o.runs {
		beside, happen = c.beside(ctx), c.faults
	}
	if c.o.measures() {
		happen = func(ctx context.Context) (err error) {
			c.res.failovers, err = c.measure(ctx)
			return err
		}
	}
	err := happen(ctx)
	cancel()
	err = errors.Join(err, beside())
	// What was found until something failed is worth seeing, too.
	bound, done := context.WithTimeout(context.Background(), judgeTimeout)
	defer done()
	r, rerr := c.report(bound)
	if err = errors.Join(err, rerr); err != nil {
		return err
	}
	r.print(os.Stdout)
	if err := r.write(c.o.out); err != nil {
		return err
	}
	if wrong := c.violations(r); len(wrong) > 0 {
		for _, w := range wrong {
			fmt.Println("violated:", w)
		}
		return errViolated
	}
	return nil
}

// journal says on stderr what happens when.
type journal struct{ began time.Time }

// Helper is for links, which log as tests do.
func (j *journal) Helper() {}

// Logf is for links; each fault says itself what it does to them.
func (j *journal) Logf(string, ...any) {}

func (j *journal) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%7.1f s  "+format+"\n", append([]any{time.Since(j.began).Seconds()}, args...)...)
}
