package suspicion_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/hostsched/hostsched/internal/suspicion"
)

func TestJudge(t *testing.T) {
	for name, c := range map[string]struct {
		contact suspicion.Contact
		want    suspicion.Verdict
	}{
		"heard a moment ago":                          {suspicion.Contact{Heard: true, Silence: 100}, suspicion.Alive},
		"a stall of a second and a slow network":      {suspicion.Contact{Heard: true, Silence: 1500}, suspicion.Alive},
		"silent for longer":                           {suspicion.Contact{Heard: true, Silence: 1501}, suspicion.Silent},
		"nobody listens any more":                     {suspicion.Contact{Heard: true, Silence: 5, Gone: true}, suspicion.Crashed},
		"never heard":                                 {suspicion.Contact{Silence: 99_999, Gone: true}, suspicion.Unreachable},
		"refused, but it was wrongly condemned once":  {suspicion.Contact{Heard: true, Silence: 5, Gone: true, Needless: 1}, suspicion.Alive},
		"silent, but it was wrongly condemned once":   {suspicion.Contact{Heard: true, Silence: 2900, Needless: 1}, suspicion.Alive},
		"silent for longer than the doubled patience": {suspicion.Contact{Heard: true, Silence: 3001, Gone: true, Needless: 1}, suspicion.Silent},
	} {
		require.Equal(t, c.want, suspicion.Judge(c.contact), name)
	}
}

func TestPatienceGrowsAndIsBounded(t *testing.T) {
	require.EqualValues(t, 1500, suspicion.Patience(0))
	require.EqualValues(t, 3000, suspicion.Patience(1))
	require.EqualValues(t, 60_000, suspicion.Patience(1_000_000))
	require.EqualValues(t, 1500, suspicion.Patience(-1))
}

func TestCondemn(t *testing.T) {
	type said = map[string]suspicion.Verdict
	for name, c := range map[string]struct {
		said said
		able []string
		want suspicion.Verdict
	}{
		"the only other one":               {said{"b": suspicion.Silent}, []string{"b"}, suspicion.Silent},
		"both others":                      {said{"b": suspicion.Silent, "c": suspicion.Silent}, []string{"b", "c"}, suspicion.Silent},
		"one of two hears it":              {said{"b": suspicion.Silent}, []string{"b", "c"}, suspicion.Alive},
		"one of two could never hear it":   {said{"b": suspicion.Silent, "c": suspicion.Unreachable}, []string{"b", "c"}, suspicion.Silent},
		"nobody ever heard it":             {said{"b": suspicion.Unreachable, "c": suspicion.Unreachable}, []string{"b", "c"}, suspicion.Alive},
		"one saw it die":                   {said{"c": suspicion.Crashed}, []string{"b", "c"}, suspicion.Crashed},
		"who disagrees has lost the lab":   {said{"b": suspicion.Silent}, []string{"b"}, suspicion.Silent},
		"who says so could not lead":       {said{"b": suspicion.Crashed}, []string{"c"}, suspicion.Alive},
		"nobody could lead in its place":   {said{"b": suspicion.Crashed}, nil, suspicion.Alive},
		"nobody has said anything so far":  {nil, []string{"b"}, suspicion.Alive},
		"one silent, one unreachable more": {said{"b": suspicion.Unreachable, "c": suspicion.Silent, "d": suspicion.Alive}, []string{"b", "c", "d"}, suspicion.Alive},
	} {
		require.Equal(t, c.want, suspicion.Condemn(c.said, c.able), name)
	}
}

// TestWhoIsHeardLives: no replica loses its leases as silent while any other that could
// lead in its place hears it.
func TestWhoIsHeardLives(t *testing.T) {
	names := []string{"b", "c", "d", "e"}
	rapid.Check(t, func(t *rapid.T) {
		said := map[string]suspicion.Verdict{}
		for _, name := range names {
			c := suspicion.Contact{
				Heard: rapid.Bool().Draw(t, "heard"), Silence: rapid.Int64Range(0, 100_000).Draw(t, "silence"),
				Gone: rapid.Bool().Draw(t, "gone"), Needless: rapid.IntRange(0, 20).Draw(t, "needless"),
			}
			said[name] = suspicion.Judge(c)
		}
		hears := rapid.SampledFrom(names).Draw(t, "hears it")
		said[hears] = suspicion.Judge(suspicion.Contact{Heard: true, Silence: rapid.Int64Range(0, 1500).Draw(t, "its silence")})
		able := append(rapid.SliceOfDistinct(rapid.SampledFrom(names), rapid.ID).Draw(t, "able"), hears)
		if got := suspicion.Condemn(said, able); got == suspicion.Silent {
			t.Fatalf("condemned as silent, though %s hears it: %v of %v", hears, said, able)
		}
	})
}
