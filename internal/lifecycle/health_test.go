package lifecycle_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/lifecycle"
)

// TestHealth: what makes a host bad, and what does not.
func TestHealth(t *testing.T) {
	repair := lifecycle.Failure{What: "repair failed"}
	lost := func(job int64) lifecycle.Failure {
		return lifecycle.Failure{What: "run lost", Job: jobID(job)}
	}
	for _, c := range []struct {
		name     string
		failures []lifecycle.Failure
		bad      bool
	}{
		{"three repairs", []lifecycle.Failure{repair, repair, repair}, true},
		{"three runs", []lifecycle.Failure{lost(1), lost(2), lost(3)}, true},
		{"runs and repairs", []lifecycle.Failure{lost(1), repair, lost(1)}, true},
		{"two", []lifecycle.Failure{lost(1), repair}, false},
		{"one job", []lifecycle.Failure{lost(1), lost(1), lost(1), lost(1)}, false},
		{"two jobs", []lifecycle.Failure{lost(1), lost(1), lost(2), lost(2)}, false},
	} {
		var h lifecycle.Health
		for _, f := range c.failures {
			h = h.Failed(f)
		}
		require.Equal(t, c.bad, h.Bad, c.name)
		require.Equal(t, c.bad, h.Reason != "", c.name)
		if !c.bad {
			require.Equal(t, lifecycle.Health{}, h.Worked(), c.name)
			continue
		}
		require.Contains(t, h.Reason, c.failures[len(c.failures)-1].What)
		require.Equal(t, h, h.Worked(), "only a person clears it")
		require.Equal(t, h, h.Failed(repair), "the reason stays")
	}
}
