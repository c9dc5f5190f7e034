package paperlab

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/scheduler"
)

// TestDay plays a day twice, and once under another policy: the same day is the same, and
// every job that arrives is served or still waits.
func TestDay(t *testing.T) {
	day := Day{Seed: 1, Hosts: 100, Load: 0.3, Rules: scheduler.Rules{Policy: scheduler.PolicyOptimal}}
	optimal := day.Play()
	require.Equal(t, optimal, day.Play())
	day.Rules.Policy = scheduler.PolicyExact
	exact := day.Play()
	require.Equal(t, exact.Served+exact.Unserved, optimal.Served+optimal.Unserved, "the same jobs arrive")
	for _, f := range []Figures{exact, optimal} {
		jobs := 0
		for _, priority := range Priorities {
			w := f.Of(priority)
			jobs += w.Jobs
			require.GreaterOrEqual(t, w.P99, w.P50)
			require.GreaterOrEqual(t, w.Max, w.P99)
		}
		require.Equal(t, f.Served+f.Unserved, jobs)
		require.Positive(t, f.Served)
		require.Positive(t, f.Provisions)
		require.Positive(t, f.Picky().Jobs)
		require.Greater(t, f.AtWork(), 0.2)
		require.LessOrEqual(t, f.AtWork(), 1.0)
	}
	both := exact
	both.Add(optimal)
	require.Equal(t, exact.Served+optimal.Served, both.Served)
	require.InDelta(t, (exact.AtWork()+optimal.AtWork())/2, both.AtWork(), 1e-9)
}

// TestOptimalServesMoreOfALab: in a lab where everything waits, the largest possible set of
// entries is noticeably larger than what one after the other get.
func TestOptimalServesMoreOfALab(t *testing.T) {
	for name, spec := range map[string]struct {
		capabilities []float64
		gain         float64
	}{"balanced": {Balanced, 1.02}, "unequal": {Unequal, 1.05}} {
		s := Spec{Hosts: 10_000, Entries: 10_000, Capabilities: spec.capabilities}.Snapshot()
		exact := len(scheduler.MakePlan(s).Assignments)
		s.Rules.Policy = scheduler.PolicyOptimal
		optimal := len(scheduler.MakePlan(s).Assignments)
		require.GreaterOrEqual(t, float64(optimal), spec.gain*float64(exact), "%s: %d and %d", name, exact, optimal)
	}
}
