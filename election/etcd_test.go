package election_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/shard"
)

// TestRawKeys reads what a person sees with `etcdctl get --prefix /hostsched/`.
func TestRawKeys(t *testing.T) {
	server := testserver.Etcd(t)
	client := rawClient(t, server)
	leader := campaign(t, candidate(t, server, "alpha"), "rack-7").term(t)
	campaign(t, candidate(t, server, "beta"), "rack-7")

	prefix := "/hostsched/test/shards/rack-7/leader/"
	require.Eventually(t, func() bool {
		res, err := client.Get(t.Context(), "/hostsched/", clientv3.WithPrefix())
		return err == nil && len(res.Kvs) == 2
	}, soon, 10*time.Millisecond, "two candidates")
	res, err := client.Get(t.Context(), prefix, clientv3.WithFirstCreate()...)
	require.NoError(t, err)
	require.Len(t, res.Kvs, 1)
	require.Equal(t, leader.Token, res.Kvs[0].CreateRevision, "the token is the key's create revision")
	var record election.Record
	require.NoError(t, json.Unmarshal(res.Kvs[0].Value, &record))
	require.Equal(t, election.StateLeader, record.State)
	require.Equal(t, "alpha", record.Server)
	require.Equal(t, "alpha:8080", record.Address)
	require.Equal(t, shard.Name("rack-7"), record.Shard)
	require.Equal(t, leader.Token, record.Token)
	_, err = time.Parse(time.RFC3339, record.Since)
	require.NoError(t, err)
}

// TestPhantomLeader revokes the lease of a candidate that waits: it does not win
// without a key when the leader leaves.
func TestPhantomLeader(t *testing.T) {
	server := testserver.Etcd(t)
	client := rawClient(t, server)
	first := campaign(t, candidate(t, server, "a"), shard.Master).term(t)
	waiting := campaign(t, candidate(t, server, "b"), shard.Master)
	prefix := election.LeaderPrefix("test", shard.Master)
	var lease int64
	require.Eventually(t, func() bool {
		res, err := client.Get(t.Context(), prefix, clientv3.WithLastCreate()...)
		if err != nil || len(res.Kvs) != 1 || res.Kvs[0].CreateRevision == first.Token {
			return false
		}
		lease = res.Kvs[0].Lease
		return true
	}, soon, 10*time.Millisecond, "the second candidate waits")
	_, err := client.Revoke(t.Context(), clientv3.LeaseID(lease))
	require.NoError(t, err)
	require.NoError(t, first.Resign(t.Context()))
	// Either the campaign notices the lost lease, or the victory is refused.
	err = waiting.err(t)
	require.Error(t, err)
	t.Logf("the phantom ended with: %v", err)
	// Nobody leads, and the next campaign wins.
	res, err := client.Get(t.Context(), prefix, clientv3.WithPrefix())
	require.NoError(t, err)
	require.Empty(t, res.Kvs)
	campaign(t, candidate(t, server, "b"), shard.Master).term(t)
}

// TestKeyDeletedByHand: `etcdctl del` deposes a leader at once.
func TestKeyDeletedByHand(t *testing.T) {
	server := testserver.Etcd(t)
	client := rawClient(t, server)
	term := campaign(t, candidate(t, server, "a"), shard.Master).term(t)
	_, err := client.Delete(t.Context(), election.LeaderPrefix("test", shard.Master), clientv3.WithPrefix())
	require.NoError(t, err)
	require.ErrorIs(t, over(t, term), election.ErrDeposed)
}

// TestForeignValues: a key that has a lease, but whose value is none of ours, is
// nobody's, and so is the key of a leader that somebody overwrites.
func TestForeignValues(t *testing.T) {
	server := testserver.Etcd(t)
	client := rawClient(t, server)
	lease, err := client.Grant(t.Context(), 600)
	require.NoError(t, err)
	prefix := election.LeaderPrefix("test", shard.Master)
	for i, value := range []string{"", "{nonsense", "[]", "null", `{"server":""}`, `{"server":3}`} {
		_, err := client.Put(t.Context(), prefix+fmt.Sprint(i), value, clientv3.WithLease(lease.ID))
		require.NoError(t, err)
	}
	term := campaign(t, candidate(t, server, "a"), shard.Master).term(t)
	next := campaign(t, candidate(t, server, "b"), shard.Master)
	v := look(t, client).Shards[shard.Master]
	require.Len(t, v.Ignored, 6)
	_, err = client.Put(t.Context(), v.Candidates[0].Key, "mine")
	require.NoError(t, err)
	require.ErrorIs(t, over(t, term), election.ErrDeposed)
	require.Equal(t, "b", next.term(t).Server)
}

// TestTrustEndsWhileEtcdIsSilent cuts a leader off from etcd: it stops trusting
// its lease before the TTL is over and before another candidate can lead, and
// everything still comes to an end within a bound.
func TestTrustEndsWhileEtcdIsSilent(t *testing.T) {
	server := testserver.Etcd(t)
	link := testserver.NewLink(t, strings.TrimPrefix(server.Endpoint, "http://"))
	term, err := candidateAt(t, "http://"+link.Addr, "a").Campaign(t.Context(), shard.Master)
	require.NoError(t, err)
	next := campaign(t, candidate(t, server, "b"), shard.Master)
	cut := time.Now()
	link.Cut(t)
	require.ErrorIs(t, over(t, term), election.ErrTrustExpired)
	require.Less(t, time.Since(cut), testTTL, "trust ends before the lease can")
	require.Empty(t, next.won, "nobody leads before trust has ended")
	began := time.Now()
	_ = term.Resign(t.Context()) // cannot reach etcd
	require.Less(t, time.Since(began), 2*time.Second)
	require.Greater(t, next.term(t).Token, term.Token)
}

// TestEtcdRestarted: candidates find their way back after etcd was away, and
// tokens continue to rise.
func TestEtcdRestarted(t *testing.T) {
	server := testserver.Etcd(t)
	first, err := candidate(t, server, "a").Campaign(t.Context(), shard.Master)
	require.NoError(t, err)
	server.Stop()
	require.Error(t, over(t, first))
	_ = first.Resign(t.Context()) // etcd is away
	require.NoError(t, server.Run())
	next := eventuallyLead(t, candidate(t, server, "b"))
	require.Greater(t, next.Token, first.Token)
}

// eventuallyLead repeats a campaign as a replica does.
func eventuallyLead(t *testing.T, c election.Campaigner) *election.Term {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		term, err := c.Campaign(ctx, shard.Master)
		if err == nil {
			t.Cleanup(func() { require.NoError(t, term.Resign(context.Background())) })
			return term
		}
		require.NoError(t, ctx.Err(), "last error: %v", err)
	}
}

// TestCancelAtEveryPoint cancels a campaign after more and more time, so that
// it is hit in every phase: connecting, getting the lease, waiting, confirming.
// goleak (TestMain) sees to it that nothing is left running.
func TestCancelAtEveryPoint(t *testing.T) {
	server := testserver.Etcd(t)
	c := candidate(t, server, "a")
	for i := range 40 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*500*time.Microsecond)
		term, err := c.Campaign(ctx, shard.Master)
		if err == nil {
			require.NoError(t, term.Resign(t.Context()))
		}
		cancel()
	}
	// Whatever the cancelled ones left behind expires: a campaign still wins.
	campaign(t, c, shard.Master).term(t)
}

// TestRestWritesNothing: neither leaders nor candidates nor members write anything to etcd
// while nothing happens, because etcd keeps every revision, and a hand-over writes little.
func TestRestWritesNothing(t *testing.T) {
	server := testserver.Etcd(t)
	client := rawClient(t, server)
	revision := func() int64 {
		res, err := client.Get(t.Context(), "/")
		require.NoError(t, err)
		return res.Header.Revision
	}
	var seen watcher
	a, b := candidate(t, server, "a"), candidate(t, server, "b")
	keep(t, a.Join(election.Presence{Role: election.RolePrimary}, func(election.View) {}))
	keep(t, b.Join(election.Presence{Role: election.RolePrimary}, seen.saw))
	term := campaign(t, a, shard.Master).term(t)
	next := campaign(t, b, shard.Master)
	seen.until(t, "b waits", func(v election.View) bool {
		return len(v.Servers) == 2 && len(v.Shards[shard.Master].Candidates) == 2 && v.Shards[shard.Master].Candidates[0].State == election.StateLeader
	})
	before := revision()
	time.Sleep(2 * testTTL) // several keepalives and looks
	require.Equal(t, before, revision(), "revisions while nothing happens")
	require.NoError(t, term.Resign(t.Context()))
	next.term(t)
	require.LessOrEqual(t, revision()-before, int64(4), "revisions of a hand-over")
}

// TestUnreachable: a campaign on an etcd that does not run fails at once.
func TestUnreachable(t *testing.T) {
	e, err := election.NewEtcd(election.EtcdConfig{
		Etcd:    election.At(clientv3.Config{Endpoints: []string{"http://127.0.0.1:1"}, DialTimeout: 200 * time.Millisecond}),
		Cluster: "test", Server: "a", TTL: time.Second,
	})
	require.NoError(t, err)
	_, err = e.Campaign(t.Context(), shard.Master)
	require.ErrorContains(t, err, "127.0.0.1:1")
}

func TestConfigIsChecked(t *testing.T) {
	endpoints := election.At(clientv3.Config{Endpoints: []string{"x"}})
	for i, cfg := range []election.EtcdConfig{
		{Etcd: endpoints, Cluster: "c", TTL: 0},
		{Etcd: endpoints, Cluster: "c", TTL: 1500 * time.Millisecond},
		{Etcd: endpoints, Cluster: "a/b", TTL: time.Second},
		{Etcd: endpoints, TTL: time.Second},
		{Etcd: election.At(clientv3.Config{}), Cluster: "c", TTL: time.Second},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			_, err := election.NewEtcd(cfg)
			require.Error(t, err)
		})
	}
}
