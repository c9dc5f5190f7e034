package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

// Figures of one size. Times are milliseconds, the median of several rounds.
type Figures struct {
	Hosts    int     `json:"hosts"`
	Entries  int     `json:"entries"`
	Assigned int     `json:"assigned"`
	FullTick float64 `json:"full_tick_ms"`
	// WorkedFullTick and WorkedSteady are FullTick and Steady of a lab at work, 0 if there is
	// none of the size.
	WorkedFullTick float64 `json:"worked_full_tick_ms"`
	WorkedSteady   float64 `json:"worked_steady_tick_ms"`
	Ratio          float64 `json:"full_tick_over_bare_sql"`
	// JournalRatio is a full tick that keeps the journal over one that does not.
	JournalRatio float64 `json:"journal_full_tick_ratio"`
	BareSQL      float64 `json:"bare_sql_ms"`
	Snapshot     float64 `json:"snapshot_ms"`
	// Plan is the planner alone on the snapshot of the full tick, under the policy exact,
	// and OptimalPlan under optimal, as in the tick. The others are how many entries get a
	// host.
	Plan            float64 `json:"plan_ms"`
	OptimalPlan     float64 `json:"optimal_plan_ms"`
	ExactAssigned   int     `json:"exact_assigned"`
	OptimalAssigned int     `json:"optimal_assigned"`
	Apply           float64 `json:"apply_ms"`
	// Steady is a tick after stir: it releases as many hosts as it gives out.
	Steady         float64 `json:"steady_tick_ms"`
	SteadyAssigned int     `json:"steady_assigned"`
	// Idle is a tick that finds nothing to do right after one that did much;
	// Quiet is one after nobody has written anything for a few seconds.
	Idle  float64 `json:"idle_tick_ms"`
	Quiet float64 `json:"quiet_tick_ms"`
	// IdleWrites is how many statements of an idle tick write anything.
	IdleWrites      int64   `json:"idle_tick_writes"`
	Statements      int64   `json:"statements_full_tick"`
	IdleStatements  int64   `json:"statements_idle_tick"`
	QuietStatements int64   `json:"statements_quiet_tick"`
	LongestTx       float64 `json:"longest_tx_ms"`
	// RSS is the peak of a leader's resident memory in MiB, above that of one
	// with an empty lab.
	RSS     float64 `json:"rss_mib"`
	RSSIdle float64 `json:"rss_idle_mib"`
	Probe   Probe   `json:"probe"`
}

// Rounds of a measurement; of a large lab there is one, which takes a minute.
const (
	rounds       = 3
	largeLab     = 50_000 // hosts
	planRounds   = 9
	steadyRounds = 5
	idleRounds   = 7
)

// size measures one size.
func (b *bench) size(ctx context.Context, hosts, entries int) (Figures, error) {
	n := rounds
	if hosts >= largeLab {
		n = 1
	}
	var bare, noted []float64
	var full, worked []Figures
	for range n {
		for _, m := range []struct {
			with    func(ctx context.Context, hosts, entries int, work func(*testLab) error) error
			measure func(*testLab) error
		}{
			{b.with, into(ctx, &bare, (*testLab).bareSQL)},
			{b.with, into(ctx, &full, (*testLab).ticks)},
			{b.with, into(ctx, &noted, (*testLab).notedTick)},
			{b.withAtWork, into(ctx, &worked, (*testLab).ticks)},
		} {
			if err := m.with(ctx, hosts, entries, m.measure); err != nil {
				return Figures{}, err
			}
		}
	}
	byFullTick := func(a, b Figures) int { return int(a.FullTick - b.FullTick) }
	slices.SortFunc(full, byFullTick)
	f := full[len(full)/2]
	f.BareSQL = median(bare)
	if len(worked) > 0 {
		slices.SortFunc(worked, byFullTick)
		w := worked[len(worked)/2]
		f.WorkedFullTick, f.WorkedSteady = w.FullTick, w.Steady
	}
	f.Ratio = f.FullTick / f.BareSQL
	// Of each the fastest, because others of the machine make single ticks slow.
	f.JournalRatio = slices.Min(noted) / full[0].FullTick
	progress("memory and the probe")
	return f, b.footprint(ctx, &f)
}

// into adds what is measured in a lab to a list.
func into[T any](ctx context.Context, all *[]T, measure func(*testLab, context.Context) (T, error)) func(*testLab) error {
	return func(l *testLab) error {
		one, err := measure(l, ctx)
		*all = append(*all, one)
		return err
	}
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// ticker ticks in this process, as a leader does.
type ticker struct {
	l         *testLab
	leader    *store.Leader
	recorder  *scheduler.Recorder
	snapshots *store.Snapshots
}

// tickTimes is what a tick took.
type tickTimes struct {
	snapshot, plan, apply, total time.Duration
	result                       store.Result
}

func (l *testLab) ticker(ctx context.Context, journal bool) (t *ticker, err error) {
	t = &ticker{l: l, recorder: scheduler.NewRecorder(nil), snapshots: l.db.Snapshots(scope)}
	l.terms++
	t.leader, err = l.db.TakeOver(ctx, store.Claim{Shard: shard.Master, Token: l.terms, Cluster: "bench", Holder: "bench", Journal: journal})
	return t, err
}

func (l *testLab) ticks(ctx context.Context) (f Figures, err error) {
	f = Figures{Hosts: l.spec.Hosts, Entries: l.spec.Entries}
	t, err := l.ticker(ctx, false)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, t.leader.Close()) }()
	for _, step := range []func(context.Context, *Figures) error{planAlone(l), t.full, t.idle, t.steady, t.quiet} {
		if err := step(ctx, &f); err != nil {
			return f, err
		}
	}
	return f, nil
}

// notedTick measures a full tick that keeps the journal.
func (l *testLab) notedTick(ctx context.Context) (took float64, err error) {
	t, err := l.ticker(ctx, true)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, t.leader.Close()) }()
	if err := planAlone(l)(ctx, &Figures{}); err != nil { // as before the tick without
		return 0, err
	}
	x, err := t.tick(ctx)
	return ms(x.total), err
}

// planAlone measures the planner on the snapshot of a full tick.
func planAlone(l *testLab) func(context.Context, *Figures) error {
	return func(ctx context.Context, f *Figures) error {
		s, err := l.db.Snapshot(ctx, scope)
		if err != nil {
			return err
		}
		s.Recorder = scheduler.NewRecorder(nil)
		plans := comparePolicies(s)
		f.Plan, f.OptimalPlan = plans.ExactPlan, plans.OptimalPlan
		f.ExactAssigned, f.OptimalAssigned = plans.ExactAssigned, plans.OptimalAssigned
		return nil
	}
}

// tick is what a replica does, without the election around it.
func (t *ticker) tick(ctx context.Context) (x tickTimes, err error) {
	began := time.Now()
	s, changed, err := t.snapshots.Next(ctx)
	if err != nil {
		return x, err
	}
	x.snapshot = time.Since(began)
	if changed {
		t.recorder.ForgetUnleased(s.Hosts)
		s.Recorder = t.recorder
		plan := scheduler.MakePlan(s)
		x.plan = time.Since(began) - x.snapshot
		x.result, err = t.leader.Apply(ctx, plan)
		t.recorder.Record(x.result.Applied)
	}
	x.total = time.Since(began)
	x.apply = x.total - x.snapshot - x.plan
	return x, err
}

func (t *ticker) full(ctx context.Context, f *Figures) error {
	before, err := counters(ctx, t.l.b.server)
	if err != nil {
		return err
	}
	x, err := t.tick(ctx)
	if err != nil {
		return err
	}
	after, err := counters(ctx, t.l.b.server)
	f.Assigned = len(x.result.Applied.Assignments)
	f.Snapshot, f.Apply, f.FullTick = ms(x.snapshot), ms(x.apply), ms(x.total)
	f.LongestTx, f.Statements = ms(x.result.LongestTx), after.statements-before.statements-1
	return err
}

// idle measures ticks that find nothing to do. The first one only sees what the
// one before has written.
func (t *ticker) idle(ctx context.Context, f *Figures) error {
	if _, err := t.tick(ctx); err != nil {
		return err
	}
	var err error
	f.Idle, f.IdleStatements, f.IdleWrites, err = t.nothing(ctx)
	return err
}

// nothing measures ticks without anything to do, and counts the statements of
// each.
func (t *ticker) nothing(ctx context.Context) (took float64, statements, writes int64, err error) {
	before, err := counters(ctx, t.l.b.server)
	if err != nil {
		return 0, 0, 0, err
	}
	var all []float64
	for range idleRounds {
		x, err := t.tick(ctx)
		if err != nil {
			return 0, 0, 0, err
		}
		all = append(all, ms(x.total))
	}
	after, err := counters(ctx, t.l.b.server)
	return median(all), (after.statements - before.statements) / idleRounds, after.writes - before.writes, err
}

// steady measures ticks of a lab at work. Its labels, ACL groups and users were entered some
// time before: tables are read again as long as they may have been written a moment ago.
func (t *ticker) steady(ctx context.Context, f *Figures) error {
	time.Sleep(time.Until(t.l.entered.Add(quietAfter)))
	var took []float64
	for n := range steadyRounds + 1 {
		if err := t.l.stir(ctx); err != nil {
			return err
		}
		x, err := t.tick(ctx)
		if err != nil {
			return err
		}
		if n > 0 { // the first one only releases hosts
			took = append(took, ms(x.total))
			f.SteadyAssigned = len(x.result.Applied.Assignments)
		}
	}
	f.Steady = median(took)
	return nil
}

// After quietAfter the store knows that nobody has written; what it reads in
// turns takes another turn, and a second per turnsPerSecond entries, at most.
const (
	quietAfter     = 3 * time.Second
	turn           = 2 * time.Second
	turnsPerSecond = 8000
)

// quiet measures ticks in a lab where nobody writes.
func (t *ticker) quiet(ctx context.Context, f *Figures) error {
	wait := quietAfter + turn + time.Duration(t.l.spec.Entries)*time.Second/turnsPerSecond
	for until := time.Now().Add(wait); time.Now().Before(until); {
		if _, err := t.tick(ctx); err != nil {
			return err
		}
	}
	var err error
	f.Quiet, f.QuietStatements, _, err = t.nothing(ctx)
	return err
}

// serverCounters are the server's own counts.
type serverCounters struct{ statements, writes int64 }

// counters reads how many statements the server was sent, this one included, and
// how many of them change something.
func counters(ctx context.Context, server *testserver.Server) (c serverCounters, err error) {
	rows, err := server.Admin().QueryContext(ctx, "SHOW GLOBAL STATUS WHERE Variable_name IN ('Questions', 'Com_insert', 'Com_update', 'Com_delete')")
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var name string
		var n int64
		if err := rows.Scan(&name, &n); err != nil {
			return c, err
		}
		if name == "Questions" {
			c.statements = n
			continue
		}
		c.writes += n
	}
	return c, rows.Err()
}
