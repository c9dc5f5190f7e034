package ops

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/shard"
)

// TestNobodyCouldTakeOver: that is to be mended, unless the lab has one server by its nature.
func TestNobodyCouldTakeOver(t *testing.T) {
	for standalone, want := range map[bool]string{false: CheckWarning, true: CheckOK} {
		up := NewCheckup(&config.Config{Standalone: standalone})
		up.shard(ShardStatus{Shard: shard.Master, Leader: "a", Term: 3})
		require.Len(t, up.Results, 1)
		require.EqualValues(t, want, up.Results[0].Result)
	}
}
