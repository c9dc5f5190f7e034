package replica_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

// order is what happened, in order.
type order struct {
	mu     sync.Mutex
	events []string
}

func (o *order) add(event string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, event)
}

func (o *order) index(event string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Index(o.events, event)
}

// TestWhatIsSaidIsShownFirst: whoever takes a shard over waits until it knows what others said
// before, and whoever gives one back, until the others can see what it said of its end.
func TestWhatIsSaidIsShownFirst(t *testing.T) {
	db, m := openLab(t), election.NewMemory()
	var o order
	leads := func() bool { return len(m.View().Shards[shard.Master].Candidates) > 0 }
	r := startReplica(t, replica.Config{
		Holder:    "a",
		AwaitSeen: func(_ context.Context, token int64) { o.add("seen"); require.Positive(t, token) },
		Deaths:    func() map[string]store.Death { o.add("deaths"); return nil },
		Epoch:     func() int64 { o.add("epoch"); return 0 },
		Former:    func() []store.LastWrites { o.add("former"); return nil },
		Ended:     func(store.LastWrites) { o.add("ended") },
		AwaitShown: func(context.Context) {
			if leads() {
				o.add("shown")
			}
		},
	}, m.Replica("a"), db, replica.Silent{}, hclog.NewNullLogger())
	require.Eventually(t, r.Leads, soon, time.Millisecond)
	for _, event := range []string{"deaths", "epoch", "former"} {
		require.Less(t, o.index("seen"), o.index(event), event)
	}
	require.Zero(t, o.index("seen"))

	_, err := db.SQL().Exec("ALTER TABLE afe_users RENAME TO afe_users_away")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return o.index("shown") >= 0 }, soon, time.Millisecond)
	require.Positive(t, o.index("ended"))
	require.Less(t, o.index("ended"), o.index("shown"))
}
