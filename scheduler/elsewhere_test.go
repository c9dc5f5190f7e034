package scheduler

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReasonNamesHostsOfOtherShards: where only hosts of other shards carry the labels,
// the reason says so, whether or not a host of this shard carries some of them.
func TestReasonNamesHostsOfOtherShards(t *testing.T) {
	s := reasonsLab()
	s.Elsewhere = []OtherHost{{"west", []LabelID{1, 3}}, {"east", []LabelID{1, 2, 3}}, {"east", []LabelID{3, 1}}, {"east", []LabelID{3}}}
	for _, w := range MakePlan(s).Waiting {
		switch w.Entry {
		case 4:
			require.Equal(t, NoMatchingHost, w.Reason.Code)
			require.Contains(t, w.Reason.String(), "no host carries stylus; 2 hosts that carry them belong to shard east; 1 host that carries them belongs to shard west")
		default:
			require.NotContains(t, w.Reason.String(), "belong to shard", "entry %d", w.Entry)
		}
	}
}
