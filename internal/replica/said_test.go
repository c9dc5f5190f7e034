package replica_test

import (
	"context"
	"slices"
	"strings"
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
	leads := func(token int64) bool {
		c := m.View().Shards[shard.Master].Candidates
		return len(c) > 0 && (token == 0 || c[0].Revision == token)
	}
	note := func(event string, holds bool) {
		if holds {
			o.add(event)
		}
	}
	r := startReplica(t, replica.Config{
		Holder:     "a",
		AwaitSeen:  func(_ context.Context, token int64) { note("seen", token != 0 && leads(token)) },
		Deaths:     func() map[string]store.Death { o.add("deaths"); return nil },
		Epoch:      func() int64 { o.add("epoch"); return 0 },
		Former:     func() []store.LastWrites { o.add("former"); return nil },
		Ended:      func(store.LastWrites) { o.add("ended") },
		AwaitShown: func(context.Context) { note("shown", leads(0)) },
	}, m.Replica("a"), db, replica.Silent{}, hclog.NewNullLogger())
	require.Eventually(t, r.Leads, soon, time.Millisecond)
	require.Zero(t, o.index("seen"))
	for _, event := range []string{"deaths", "epoch", "former"} {
		require.Positive(t, o.index(event), event)
	}

	_, err := db.SQL().Exec("ALTER TABLE afe_users RENAME TO afe_users_away")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return o.index("shown") >= 0 }, soon, time.Millisecond)
	require.Positive(t, o.index("ended"))
	require.Less(t, o.index("ended"), o.index("shown"))
}

// TestLostWhileItIsHandedOver: a term that is lost in the moment before it is handed over was
// lost, and the others are told what it wrote last.
func TestLostWhileItIsHandedOver(t *testing.T) {
	db, m := openLab(t), election.NewMemory()
	lost := make(chan struct{})
	var o order
	r := startReplica(t, replica.Config{
		Holder: "a",
		Ended:  func(store.LastWrites) { o.add("ended") },
		AwaitShown: func(context.Context) {
			m.Revoke(shard.Master)
			<-lost
		},
	}, noting{m.Replica("a"), lost}, db, replica.Silent{}, hclog.NewNullLogger())
	require.Eventually(t, r.Leads, soon, time.Millisecond)
	r.stop()
	require.Zero(t, o.index("ended"))
	requireLost(t, db)
}

// TestLostBeforeTheTakeover: a term that is lost while its winner waits for what others said is
// not taken over in the database.
func TestLostBeforeTheTakeover(t *testing.T) {
	db, m := openLab(t), election.NewMemory()
	var o order
	lost := make(chan struct{})
	r := startReplica(t, replica.Config{
		Holder: "a",
		AwaitSeen: func(context.Context, int64) {
			if o.index("won") < 0 {
				o.add("won")
				m.Revoke(shard.Master)
				<-lost
				return
			}
			o.add("won again")
		},
		Epoch: func() int64 { o.add("taken over"); return 0 },
	}, noting{m.Replica("a"), lost}, db, replica.Silent{}, hclog.NewNullLogger())
	require.Eventually(t, r.Leads, soon, time.Millisecond)
	require.Positive(t, o.index("won again"))
	require.Less(t, o.index("won again"), o.index("taken over"))
}

// noting closes a channel when the first term that is won is over.
type noting struct {
	election.Campaigner
	over chan struct{}
}

func (n noting) Campaign(ctx context.Context, name shard.Name) (*election.Term, error) {
	term, err := n.Campaigner.Campaign(ctx, name)
	if err == nil {
		go func() {
			<-term.Done()
			select {
			case <-n.over:
			default:
				close(n.over)
			}
		}()
	}
	return term, err
}

// TestTakeoverThatFails: the history says why a term ended before its first tick.
func TestTakeoverThatFails(t *testing.T) {
	db, m := openLab(t), election.NewMemory()
	_, err := db.SQL().Exec("ALTER TABLE afe_jobs RENAME TO afe_jobs_away")
	require.NoError(t, err)
	start(t, "a", m.Replica("a"), db, replica.Silent{})
	require.Eventually(t, func() bool {
		terms, err := db.Terms(t.Context(), shard.Master, 1)
		return err == nil && len(terms) == 1 && !terms[0].Planned && strings.Contains(terms[0].Cause, "afe_jobs")
	}, soon, time.Millisecond)
}

// TestWhatALeaderSays: whoever led a shard does not say that it is paused, or how many entries
// wait, once another replica may know better.
func TestWhatALeaderSays(t *testing.T) {
	for _, paused := range []string{"", "power work"} {
		t.Run(paused, func(t *testing.T) {
			db, m := openLab(t), election.NewMemory()
			r := start(t, "a", m.Replica("a"), db, replica.Silent{})
			_, err := db.SQL().Exec("UPDATE afe_hosts SET locked = 1")
			require.NoError(t, err)
			require.Eventually(t, func() bool { return r.Status().Waiting > 0 }, soon, time.Millisecond)
			_, err = db.SQL().Exec("UPDATE hostsched_fence SET pause_reason = ?", paused)
			require.NoError(t, err)
			require.Eventually(t, func() bool { s := r.Status(); return s.Paused == paused && (paused != "" || s.Waiting > 0) }, soon, time.Millisecond)
			r.stop()
			require.Empty(t, r.Status().Paused)
			require.Zero(t, r.Status().Waiting)
		})
	}
}
