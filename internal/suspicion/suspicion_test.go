package suspicion_test

import (
	"slices"
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

// says is a replica that could lead in a suspect's place.
func says(v suspicion.Verdict) suspicion.Voter {
	return suspicion.Voter{Says: v, MayLead: true, SameShards: true, ReachesLab: true}
}

func TestCondemn(t *testing.T) {
	crashed, silent, unreachable, alive := says(suspicion.Crashed), says(suspicion.Silent), says(suspicion.Unreachable), says(suspicion.Alive)
	type voters = []suspicion.Voter
	for name, c := range map[string]struct {
		voters voters
		want   suspicion.Verdict
	}{
		"the only other one":               {voters{silent}, suspicion.Silent},
		"both others":                      {voters{silent, silent}, suspicion.Silent},
		"one of two hears it":              {voters{silent, alive}, suspicion.Alive},
		"one of two could never hear it":   {voters{silent, unreachable}, suspicion.Silent},
		"nobody ever heard it":             {voters{unreachable, unreachable}, suspicion.Alive},
		"one saw it die":                   {voters{alive, crashed}, suspicion.Crashed},
		"nobody could lead in its place":   {nil, suspicion.Alive},
		"one silent, one unreachable more": {voters{unreachable, silent, alive}, suspicion.Alive},
	} {
		require.Equal(t, c.want, suspicion.Condemn(c.voters), name)
	}
}

// TestOnlySuccessorsVote: a replica that could not lead in the suspect's place, for
// whatever reason, neither condemns it nor saves it.
func TestOnlySuccessorsVote(t *testing.T) {
	for name, cannot := range map[string]func(*suspicion.Voter){
		"no role":       func(v *suspicion.Voter) { v.MayLead = false },
		"another shard": func(v *suspicion.Voter) { v.SameShards = false },
		"lost the lab":  func(v *suspicion.Voter) { v.ReachesLab = false },
	} {
		for _, verdict := range []suspicion.Verdict{suspicion.Alive, suspicion.Unreachable, suspicion.Silent, suspicion.Crashed} {
			other := says(verdict)
			cannot(&other)
			require.Equal(t, suspicion.Alive, suspicion.Condemn([]suspicion.Voter{other}), "%s, says %q", name, verdict)
			for _, successor := range []suspicion.Verdict{suspicion.Alive, suspicion.Unreachable, suspicion.Silent, suspicion.Crashed} {
				alone := []suspicion.Voter{says(successor)}
				require.Equal(t, suspicion.Condemn(alone), suspicion.Condemn(append(alone, other)), "%s, says %q beside a successor that says %q", name, verdict, successor)
			}
		}
	}
}

// TestWhoIsHeardLives: no replica loses its leases as silent while any other that could
// lead in its place hears it.
func TestWhoIsHeardLives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		voters := rapid.SliceOf(rapid.Custom(func(t *rapid.T) suspicion.Voter {
			c := suspicion.Contact{
				Heard: rapid.Bool().Draw(t, "heard"), Silence: rapid.Int64Range(0, 100_000).Draw(t, "silence"),
				Gone: rapid.Bool().Draw(t, "gone"), Needless: rapid.IntRange(0, 20).Draw(t, "needless"),
			}
			return suspicion.Voter{
				Says: suspicion.Judge(c), MayLead: rapid.Bool().Draw(t, "may lead"),
				SameShards: rapid.Bool().Draw(t, "same shards"), ReachesLab: rapid.Bool().Draw(t, "reaches the lab"),
			}
		})).Draw(t, "voters")
		hears := says(suspicion.Judge(suspicion.Contact{Heard: true, Silence: rapid.Int64Range(0, 1500).Draw(t, "its silence")}))
		at := rapid.IntRange(0, len(voters)).Draw(t, "place")
		voters = slices.Insert(voters, at, hears)
		if got := suspicion.Condemn(voters); got == suspicion.Silent {
			t.Fatalf("condemned as silent, though one hears it: %v", voters)
		}
	})
}
