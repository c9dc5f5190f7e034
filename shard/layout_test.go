package shard_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/hostsched/hostsched/shard"
)

func genLayout(t *rapid.T) shard.Layout {
	l := shard.Layout{Names: map[shard.ID]shard.Name{}, Labels: map[int64]shard.ID{}, Released: map[int64]bool{}}
	for id := range rapid.IntRange(0, 4).Draw(t, "shards") {
		l.Names[shard.ID(id+1)] = shard.Name(rapid.StringMatching(`s[0-9]{4}`).Draw(t, "name"))
	}
	for label := range int64(6) {
		if rapid.Bool().Draw(t, "owned") {
			// The owner is sometimes a shard that does not exist.
			l.Labels[label+1] = shard.ID(rapid.IntRange(1, 5).Draw(t, "owner"))
		} else if rapid.Bool().Draw(t, "released") {
			l.Released[label+1] = true
		}
	}
	return l
}

// TestLayout checks that everything has exactly one owner, which exists, and that a host
// which moved to its home stays there.
func TestLayout(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := genLayout(t)
		exists := func(id shard.ID) {
			_, ok := l.Names[id]
			require.True(t, ok || id == shard.MasterID, "shard %d does not exist", id)
		}
		owner := shard.ID(rapid.IntRange(0, 6).Draw(t, "shard_id"))
		labels := rapid.SliceOfDistinct(rapid.Int64Range(1, 8), rapid.ID[int64]).Draw(t, "labels")
		exists(l.OfHost(owner))
		home := l.Home(owner, labels)
		exists(home)
		require.Equal(t, home, l.Home(home, labels), "a host at home stays")
		claimed := false
		for _, label := range labels {
			exists(l.OfLabel(label))
			if l.OfLabel(label) != shard.MasterID {
				claimed = true
			}
			exists(l.OfEntry(false, owner, label))
			require.Equal(t, l.OfLabel(label), l.OfEntry(false, owner, label))
			require.Equal(t, l.OfHost(owner), l.OfEntry(true, owner, label), "an entry that names a host is where the host is")
		}
		if claimed {
			require.NotEqual(t, shard.MasterID, home, "a claimed host is a shard's")
		}
	})
}

func TestHome(t *testing.T) {
	l := shard.Layout{
		Names:    map[shard.ID]shard.Name{1: "a", 2: "b"},
		Labels:   map[int64]shard.ID{10: 1, 20: 2, 30: 9},
		Released: map[int64]bool{40: true},
	}
	for name, c := range map[string]struct {
		owner, want shard.ID
		labels      []int64
	}{
		"nobody claims it":                 {0, 0, []int64{50}},
		"nobody claims it, pinned":         {1, 1, []int64{50}},
		"claimed":                          {0, 1, []int64{10, 50}},
		"claimed by another":               {1, 2, []int64{20}},
		"claimed by both, stays":           {2, 2, []int64{10, 20}},
		"claimed by both, the older":       {0, 1, []int64{20, 10}},
		"claimed by a shard that is gone":  {0, 0, []int64{30}},
		"owned by a shard that is gone":    {9, 0, nil},
		"released":                         {1, 0, []int64{40}},
		"released by another":              {2, 0, []int64{40}},
		"released, but claimed by another": {1, 2, []int64{40, 20}},
		"released, but claimed again":      {1, 1, []int64{40, 10}},
	} {
		require.Equal(t, c.want, l.Home(c.owner, c.labels), name)
	}
}
