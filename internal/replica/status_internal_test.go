package replica

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSlow: a leader is said to be slow while something hangs in it, and also between two ticks
// that take long to fail.
func TestSlow(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for name, tt := range map[string]struct {
		s    Status
		want string // part of the text, empty if it is not slow
	}{
		"a tick now and then":                {Status{State: StateLeader, LastTick: ago(time.Minute)}, ""},
		"a snapshot that hangs":              {Status{State: StateLeader, Phase: PhaseSnapshot, PhaseSince: ago(6 * time.Second)}, "the snapshot of shard master has been running since"},
		"a plan that takes its time":         {Status{State: StateLeader, Phase: PhasePlan, PhaseSince: ago(6 * time.Second)}, ""},
		"a tick that failed":                 {Status{State: StateLeader, Phase: PhaseIdle, LastTick: ago(time.Minute), FailingSince: ago(time.Second)}, ""},
		"a tick that took long to fail":      {Status{State: StateLeader, Phase: PhaseIdle, FailingSince: ago(30 * time.Second), LastError: "no answer"}, "ticks of shard master have failed since"},
		"ticks of a term that is over":       {Status{State: StateCandidate, Phase: PhaseIdle, FailingSince: ago(time.Hour)}, ""},
		"a term that cannot be finished":     {Status{State: StateCandidate, OverSince: ago(6 * time.Second)}, "and this replica has not finished with it"},
		"the next tick after one that fails": {Status{State: StateLeader, Phase: PhaseSnapshot, PhaseSince: ago(time.Second), FailingSince: ago(40 * time.Second)}, "(40s)"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.s.Shard = "master"
			got := tt.s.Slow(now)
			if tt.want == "" {
				require.Empty(t, got)
			} else {
				require.Contains(t, got, tt.want)
			}
		})
	}
	r := &Replica{}
	r.status.set(func(s *Status) { s.FailingSince = now })
	r.status.ticked(Report{})
	require.Zero(t, r.Status().FailingSince, "a good tick ends it")
}
