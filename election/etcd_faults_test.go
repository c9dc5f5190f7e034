package election_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/shard"
)

// TestEtcdRestoredInPlace restores etcd from a backup, with SIGKILL, while replicas run whose
// leases are older than it: every watch then waits for a revision that is far away, and
// nobody is told, but nothing stays frozen.
func TestEtcdRestoredInPlace(t *testing.T) {
	const (
		// All leases outlive the restoration, and half a TTL is much longer than soonAfter, so
		// that nothing is seen in time but by the look at least every two seconds.
		ttl = time.Minute
		// soonAfter is one look more than what a hand-over may take.
		soonAfter = handOver + 2*time.Second
	)
	c := testserver.NewEtcdCluster(t, 1)
	client, err := c.Members[0].Client()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	a, b := candidateOf(t, c, "a", ttl, nil), candidateOf(t, c, "b", ttl, nil)
	var seen watcher
	member := a.Join(election.Presence{Role: election.RolePrimary}, func(election.View) {})
	keep(t, member)
	keep(t, b.Join(election.Presence{Role: election.RolePrimary}, seen.saw))
	handed := campaign(t, a, "s1").term(t)
	lost, err := a.Campaign(t.Context(), "s2")
	require.NoError(t, err)
	next := campaign(t, b, "s1")
	seen.until(t, "b waits", func(v election.View) bool {
		return len(v.Servers) == 2 && len(v.Shards["s1"].Candidates) == 2 && len(v.Shards["s2"].Candidates) == 1
	})
	restore := c.Members[0].BackUp(t)
	for range 1000 {
		_, err := client.Put(t.Context(), "other", "x")
		require.NoError(t, err)
	}
	// What all of them watch changes, so that none waits for an earlier revision.
	member.Set(func(p *election.Presence) { p.Weight = 7 })
	require.NoError(t, handed.Announce(t.Context(), election.Announcement{Epoch: 7}))
	require.NoError(t, lost.Announce(t.Context(), election.Announcement{Epoch: 7}))
	seen.until(t, "all changes are seen", func(v election.View) bool {
		return len(v.Servers) == 2 && v.Servers[0].Weight == 7 && len(v.Shards["s1"].Candidates) == 2 && v.Shards["s1"].Candidates[0].Epoch == 7 && v.Shards["s2"].Candidates[0].Epoch == 7
	})
	restore()
	within := func(what string, since time.Time) {
		t.Logf("%s after %v", what, time.Since(since))
		require.Less(t, time.Since(since), soonAfter, what)
	}
	require.Eventually(t, func() bool {
		_, err := client.Get(t.Context(), "other")
		return err == nil
	}, soon, 10*time.Millisecond)
	require.NoError(t, handed.Cause())

	began := time.Now()
	member.Set(func(p *election.Presence) { p.Role = election.RoleNone })
	seen.until(t, "a role changes", func(v election.View) bool { return roleIn(v, "a") == election.RoleNone })
	within("the role was seen", began)
	began = time.Now()
	require.NoError(t, handed.Resign(t.Context()))
	require.Equal(t, "b", next.term(t).Server)
	within("the next one led", began)
	began = time.Now()
	_, err = client.Delete(t.Context(), election.LeaderPrefix("test", "s2"), clientv3.WithPrefix())
	require.NoError(t, err)
	require.ErrorIs(t, over(t, lost), election.ErrDeposed)
	within("the leader learned that its key is gone", began)
	require.NoError(t, lost.Resign(t.Context()))
	began = time.Now()
	require.NoError(t, election.Want(t.Context(), client, "test", "s1", "a", "power work"))
	seen.until(t, "a switchover is requested", func(v election.View) bool { return v.Shards["s1"].Wanted == "a" })
	within("the request was seen", began)
}

// TestEtcdIsFull: while etcd takes no values because its quota is used up, everybody
// keeps the keys that there are, says why they are out of date, and the shards are
// still handed over. When there is space again, the values are written.
func TestEtcdIsFull(t *testing.T) {
	server := testserver.EtcdWith(t, "http", func(cfg *embed.Config) { cfg.QuotaBackendBytes = 8 << 20 })
	client := rawClient(t, server)
	a, b := candidate(t, server, "a"), candidate(t, server, "b")
	member := a.Join(election.Presence{Role: election.RolePrimary}, func(election.View) {})
	keep(t, member)
	leader := campaign(t, a, shard.Master).term(t)
	next := campaign(t, b, shard.Master)
	require.Eventually(t, func() bool {
		v := look(t, client)
		return len(v.Servers) == 1 && len(v.Shards[shard.Master].Candidates) == 2
	}, soon, 10*time.Millisecond)
	free := testserver.FillEtcd(t, client)

	member.Set(func(p *election.Presence) { p.Role, p.Why = election.RoleNone, "power work" })
	require.Eventually(t, func() bool { return member.Err() != nil && strings.Contains(member.Err().Error(), "space exceeded") }, soon, 10*time.Millisecond)
	testserver.Throughout(t, func() bool {
		v := look(t, client)
		return leader.Cause() == nil && roleIn(v, "a") == election.RolePrimary && member.Err() != nil
	}, 2*testTTL, 50*time.Millisecond)
	require.NoError(t, leader.Resign(t.Context()))
	led := next.term(t)

	free()
	disarmed := time.Now()
	require.Eventually(t, func() bool {
		v := look(t, client)
		k := v.Shards[shard.Master].Candidates
		return roleIn(v, "a") == election.RoleNone && member.Err() == nil && len(k) == 1 && k[0].State == election.StateLeader && k[0].Token == led.Token
	}, soon, 10*time.Millisecond)
	require.Less(t, time.Since(disarmed), testTTL)
	require.NoError(t, led.Cause())
}
