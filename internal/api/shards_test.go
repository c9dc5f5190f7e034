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
)

// shardsAsked keeps the reasons of changes.
type shardsAsked struct{ reasons []string }

func (s *shardsAsked) Pause(_ context.Context, _ string, by ops.By) error {
	s.reasons = append(s.reasons, by.Reason)
	return nil
}

func (s *shardsAsked) Resume(_ context.Context, _ string, by ops.By) error {
	s.reasons = append(s.reasons, by.Reason)
	return nil
}

func (s *shardsAsked) Switchover(_ context.Context, _, _ string, by ops.By) (ops.Handover, error) {
	s.reasons = append(s.reasons, by.Reason)
	return ops.Handover{}, nil
}

// TestShardsChangeForAReason that others can read, whatever is done to them.
func TestShardsChangeForAReason(t *testing.T) {
	asked := &shardsAsked{}
	s := newServerWith(t, storetest.NewLab(t, storetest.SQLiteFile(t)), func(c *api.Config) { c.Shards = asked })
	for _, action := range []string{"pause", "resume", "switchover"} {
		path := "/shards/master/" + action
		for _, reason := range []string{"", " ", "\n\t", "\u00a0"} {
			require.Equal(t, http.StatusUnprocessableEntity, s.call(t, s.admin, http.MethodPost, path, labapi.ShardChange{Reason: reason}, nil), "%s for %q", action, reason)
		}
		require.Empty(t, asked.reasons)
		require.Less(t, s.call(t, s.admin, http.MethodPost, path, labapi.ShardChange{Reason: " power \n"}, nil), 300)
		require.Equal(t, []string{"power"}, asked.reasons)
		asked.reasons = nil
	}
}
