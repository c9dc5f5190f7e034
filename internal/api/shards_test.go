package api_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/api"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/shard"
)

// shardsAsked keeps the reasons of changes, of shards that there may be.
type shardsAsked struct{ reasons []string }

func (s *shardsAsked) Pause(_ context.Context, name string, by ops.By) error {
	s.reasons = append(s.reasons, by.Reason)
	_, err := shard.Parse(name)
	return err
}

func (s *shardsAsked) Resume(ctx context.Context, name string, by ops.By) error {
	return s.Pause(ctx, name, by)
}

func (s *shardsAsked) Switchover(ctx context.Context, name, _ string, by ops.By) (ops.Handover, error) {
	return ops.Handover{}, s.Pause(ctx, name, by)
}

// TestShardsChangeForAReason that others can read, whatever is done to them; a name that no shard
// can have is bad input.
func TestShardsChangeForAReason(t *testing.T) {
	asked := &shardsAsked{}
	s := newServerWith(t, storetest.NewLab(t, storetest.SQLiteFile(t)), func(c *api.Config) { c.Shards = asked })
	for _, action := range []string{"pause", "resume", "switchover"} {
		path := "/shards/master/" + action
		for _, reason := range []string{"", " ", "\n\t", "\u00a0", "a\x00b", "two\nlines", "\x1b[31mred"} {
			require.Equal(t, http.StatusUnprocessableEntity, s.call(t, s.admin, http.MethodPost, path, labapi.ShardChange{Reason: reason}, nil), "%s for %q", action, reason)
		}
		require.Empty(t, asked.reasons)
		require.Less(t, s.call(t, s.admin, http.MethodPost, path, labapi.ShardChange{Reason: " power \n"}, nil), 300)
		require.Equal(t, []string{"power"}, asked.reasons)
		asked.reasons = nil
		for _, name := range []string{"a%20b", "a%2Fb", "%2e%2e"} {
			require.Equal(t, http.StatusUnprocessableEntity, s.call(t, s.admin, http.MethodPost, "/shards/"+name+"/"+action, labapi.ShardChange{Reason: "power"}, nil), name)
		}
		asked.reasons = nil
	}
}
