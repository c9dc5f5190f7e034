package replica

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestRestAfterATick: a leader leaves others a share of the database, and does not rest for
// long after a tick that was long because it waited for them.
func TestRestAfterATick(t *testing.T) {
	for name, tt := range map[string]struct {
		took, minTick time.Duration
		quiet, served bool // the latter if newcomers were served meanwhile
		want          time.Duration
	}{
		"a tick":                               {took: 40 * time.Millisecond, want: 20 * time.Millisecond},
		"a quiet one":                          {took: 10 * time.Millisecond, quiet: true, want: 90 * time.Millisecond},
		"one that waited for others":           {took: 20 * time.Second, want: 500 * time.Millisecond},
		"newcomers come":                       {took: 40 * time.Millisecond, served: true, want: 120 * time.Millisecond},
		"newcomers come after a long one":      {took: 20 * time.Second, served: true, want: 3 * time.Second},
		"ticks are to begin 30 s apart":        {took: 20 * time.Second, minTick: 30 * time.Second, want: 10 * time.Second},
		"ticks are to begin 30 s apart, quiet": {took: time.Millisecond, minTick: 30 * time.Second, quiet: true, want: 29999 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Replica{cfg: Config{MinTick: tt.minTick}}
			p := pace{}.after(time.Now().Add(-tt.took), false, &term{quiet: tt.quiet})
			if tt.served {
				p = p.after(time.Now(), true, &term{})
			}
			require.InDelta(t, tt.want.Seconds(), r.due(p).Seconds(), 0.015)
		})
	}
}
