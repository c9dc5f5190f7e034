package dev

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

// observeEvery is how often figures are gathered and shown.
const observeEvery = 500 * time.Millisecond

// figures are what is shown; the supervisor keeps them over the whole run.
type figures struct {
	counts simlab.Counts
	// checked is the last event that was checked for double assignments, and
	// twice how many were found up to there.
	checked, twice int64
	perSecond      float64
	fence          store.Fence
	leader         string
	hosts          hostCounts
	runs           runCounts
	latest         []run
	suites         []simlab.Suite
	queue          int
	failovers      []time.Duration
	ticks          []time.Duration
	// perProcess is what each process last said of itself; a process that was
	// restarted is another one.
	perProcess map[string]counters
}

type counters struct{ ticks, fenced, errors int64 }

type hostCounts struct{ idle, leased, running, total int }

// observe gathers figures and shows them until ctx ends.
func (d *dev) observe(ctx context.Context) error {
	tick := time.NewTicker(observeEvery)
	defer tick.Stop()
	screen := newScreen(d)
	defer screen.close()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := time.Now()
		err := d.gather(ctx, now.Sub(last))
		if err != nil && ctx.Err() == nil {
			// A busy database is no reason to end the run.
			d.event("figures are late: %v", err)
			continue
		}
		last = now
		screen.draw()
	}
}

func (d *dev) gather(ctx context.Context, since time.Duration) error {
	d.askReplicas(ctx)
	d.mu.Lock()
	before := d.figures.counts
	checked := d.figures.checked
	d.mu.Unlock()
	counts, err := d.history.Count(ctx, before)
	if err != nil {
		return err
	}
	twice, err := d.history.AssignedTwice(ctx, checked)
	if err != nil {
		return err
	}
	fence, _, err := d.db.ReadFence(ctx, shard.Master)
	if err != nil {
		return err
	}
	hosts, err := d.countHosts(ctx)
	if err != nil {
		return err
	}
	suites, err := d.history.Suites(ctx)
	if err != nil {
		return err
	}
	runs, latest, err := d.lookAtRuns(ctx)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	f := &d.figures
	f.runs, f.latest = runs, latest
	f.counts, f.fence, f.hosts, f.suites = counts, fence, hosts, suites
	f.twice, f.checked = f.twice+twice, counts.Last
	f.perSecond = float64(counts.Assignments-before.Assignments) / since.Seconds()
	f.queue = 0
	for _, s := range suites {
		f.queue += s.Waiting
	}
	return nil
}

func (d *dev) countHosts(ctx context.Context) (hostCounts, error) {
	var h hostCounts
	var leased, running int
	err := d.db.SQL().QueryRowContext(ctx, "SELECT COUNT(*), COALESCE(SUM(leased), 0), COALESCE(SUM(CASE WHEN status = 'Running' THEN 1 ELSE 0 END), 0) FROM afe_hosts").Scan(&h.total, &leased, &running)
	h.idle, h.leased, h.running = h.total-leased, leased-running, running
	return h, err
}

// askReplicas collects what the replicas say of themselves.
func (d *dev) askReplicas(ctx context.Context) {
	leader := "none"
	d.eachStatus(ctx, func(p *process, s replica.Status) bool {
		d.note(fmt.Sprintf("%s/%d", p.name, p.pid()), s)
		if s.State == replica.StateLeader {
			leader = p.name
		}
		return true
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.figures.leader = leader
}

// note takes over the ticks that are new since the last look.
func (d *dev) note(process string, s replica.Status) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := &d.figures
	if f.perProcess == nil {
		f.perProcess = map[string]counters{}
	}
	fresh := min(int(s.Ticks-f.perProcess[process].ticks), len(s.Recent))
	f.ticks = append(f.ticks, s.Recent[len(s.Recent)-fresh:]...)
	f.perProcess[process] = counters{s.Ticks, s.FencedWrites, s.Errors}
}

func (f *figures) sum(of func(counters) int64) int64 {
	var n int64
	for _, c := range f.perProcess {
		n += of(c)
	}
	return n
}

// quantile returns the q-quantile in milliseconds, 0 of nothing.
func quantile(values []time.Duration, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	i := max(0, int(math.Ceil(q*float64(len(sorted))))-1)
	return float64(sorted[i].Microseconds()) / 1000
}

// holderProcess shortens a fence holder, name/pid/random, for showing.
func holderProcess(holder string) string {
	name, _, _ := strings.Cut(holder, "/")
	return name
}
