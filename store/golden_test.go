package store_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

// goldenDir is the folder of scenarios: the project's own copy, or any other
// folder of files in the same format. Tests run in their package's folder, but a
// relative path is meant from the top of the project, where make is called.
func goldenDir() string {
	dir := cmp.Or(os.Getenv("HOSTSCHED_GOLDEN_DIR"), "testdata/golden")
	if filepath.IsAbs(dir) {
		return dir
	}
	return filepath.Join("..", dir)
}

// TestGolden plays every scenario recorded from the original scheduler on every
// database and compares what FORMAT.md says must be equal.
func TestGolden(t *testing.T) {
	scenarios, err := storetest.ReadFolder(goldenDir())
	require.NoError(t, err)
	for _, server := range storetest.Databases(t) {
		var passed atomic.Int64
		ran := t.Run(server.Name, func(t *testing.T) {
			for _, sc := range scenarios {
				t.Run(sc.Name, func(t *testing.T) {
					t.Parallel()
					playScenario(t, server, sc)
					if !t.Failed() {
						passed.Add(1)
					}
				})
			}
		})
		if n := passed.Load(); n > 0 || !ran {
			// Not t.Log, which is silent when all pass: 'make test-golden' shows this.
			fmt.Printf("%s: %d of %d scenarios passed\n", server.Name, n, len(scenarios))
		}
	}
}

func playScenario(t *testing.T, server storetest.Database, sc storetest.Scenario) {
	db := storetest.NewLab(t, server.DSN(t))
	// Scenarios may begin with two active entries on one host, which the guard
	// would refuse.
	storetest.RemoveGuard(t, db)
	playOn(t, db, sc)
}

func playOn(t *testing.T, db *store.DB, sc storetest.Scenario) {
	ctx := t.Context()
	world, err := storetest.NewWorld(ctx, db.SQL(), sc.Input)
	require.NoError(t, err)
	p := &player{t: t, db: db, scope: scopeOf(sc), world: world}
	p.restart(ctx)
	departure, departs := storetest.Departures[sc.Name]
	ticks := 0
	for i, step := range sc.Steps {
		switch step.Op {
		case "restart":
			p.restart(ctx)
		case "tick":
			got := p.tick(ctx)
			if departs {
				requireDeparture(t, departure, ticks, got)
			} else {
				p.compare(ctx, i, sc, got)
			}
			ticks++
		default:
			require.NoErrorf(t, world.Do(ctx, step), "step %d", i)
		}
	}
	if departs {
		require.Len(t, departure.Acquired, ticks)
		t.Logf("departs on purpose: %s", departure.Reason)
	}
}

func scopeOf(sc storetest.Scenario) store.Scope {
	scope := store.Scope{Shard: shard.Master, Rules: scheduler.Rules{Policy: scheduler.PolicyExact, RespectStaticLabels: sc.Config.RespectStaticLabels}}
	if sc.Config.ShardHostname != "" {
		scope.Shard = shard.Name(sc.Config.ShardHostname)
	}
	return scope
}

// player plays the part of a replica that leads all the time.
type player struct {
	t        *testing.T
	db       *store.DB
	scope    store.Scope
	world    *storetest.World
	leader   *store.Leader
	recorder *scheduler.Recorder
	token    int64
}

// restart begins a new term, as a new scheduler process does.
func (p *player) restart(ctx context.Context) {
	p.t.Helper()
	if p.leader != nil {
		require.NoError(p.t, p.leader.Close())
	}
	p.token++
	p.leader = storetest.TakeOver(p.t, p.db, p.scope, p.token)
	var err error
	p.recorder, err = p.db.Recorder(ctx, p.scope)
	require.NoError(p.t, err)
}

func (p *player) tick(ctx context.Context) storetest.Tick {
	p.t.Helper()
	snapshot, err := p.db.Snapshot(ctx, p.scope)
	require.NoError(p.t, err)
	p.recorder.ForgetUnleased(snapshot.Hosts)
	snapshot.Recorder = p.recorder
	plan := scheduler.MakePlan(snapshot)
	res, err := p.leader.Apply(ctx, plan)
	require.NoError(p.t, err)
	require.Empty(p.t, res.Conflicts)
	p.recorder.Record(res.Applied)
	return storetest.Tick{Plan: plan, Suites: p.recorder.Suites()}
}

func (p *player) compare(ctx context.Context, step int, sc storetest.Scenario, got storetest.Tick) {
	p.t.Helper()
	i := slices.IndexFunc(sc.Expected, func(e storetest.Expected) bool { return e.Step == step })
	require.GreaterOrEqual(p.t, i, 0, "the file expects nothing for the tick at step %d", step)
	want := sc.Expected[i]
	if want.Exception != nil {
		// A crash is never copied: the tick above ended without an error.
		p.t.Logf("departs on purpose: the original crashed here (%s)", *want.Exception)
		return
	}
	diffs, err := p.world.Compare(ctx, got, want)
	require.NoError(p.t, err)
	for _, d := range diffs {
		p.t.Errorf("step %d: %s", step, d)
	}
}

func requireDeparture(t *testing.T, d storetest.Departure, tick int, got storetest.Tick) {
	t.Helper()
	acquired := []int64{}
	for _, a := range got.Plan.Assignments {
		acquired = append(acquired, int64(a.Entry))
	}
	slices.Sort(acquired)
	require.Less(t, tick, len(d.Acquired))
	require.Equal(t, d.Acquired[tick], acquired, "entries that got a host in tick %d", tick)
}
