package cluster

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/certs"
	"github.com/hostsched/hostsched/shard"
)

// TestAwaitWin: a winner waits until the view has its own win, with which it has what others
// said before, and not for long if that does not come. Nor does it wait for long until others
// can see what it says.
func TestAwaitWin(t *testing.T) {
	keeper, err := certs.Open(certs.Files{})
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		c := &Controller{cfg: Config{Server: "a"}, suspects: newSuspects(keeper, func() {}), sawView: make(chan struct{})}
		c.membership = election.NewMemory().Replica("a").Join(election.Presence{}, func(election.View) {})
		cfg := newShardRunner(c, "s", "").config()
		defer c.suspects.watcher.Close()
		view := func(token int64) election.View {
			return election.View{
				Servers: []election.Member{{Presence: election.Presence{Server: "a"}}},
				Shards:  map[shard.Name]election.ShardElection{"s": {Candidates: []election.Candidate{{Revision: token}}}, "none": {}},
			}
		}
		waited := func(token int64) time.Duration {
			began := time.Now()
			cfg.AwaitSeen(t.Context(), token)
			return time.Since(began)
		}
		c.saw(view(3))
		require.Zero(t, waited(3), "seen already")
		require.Zero(t, waited(2), "another one leads by now")
		go func() {
			time.Sleep(20 * time.Millisecond)
			c.saw(view(4)) // another one led in between
			time.Sleep(30 * time.Millisecond)
			c.saw(view(5))
		}()
		require.Equal(t, 50*time.Millisecond, waited(5))
		require.Equal(t, election.ShowFirst, waited(6))

		began := time.Now()
		cfg.AwaitShown(t.Context()) // the membership is not kept
		require.Equal(t, election.ShowFirst, time.Since(began))
	})
}
