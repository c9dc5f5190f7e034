package election_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/embedetcd"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/shard"
)

// replica is what a replica does in an election, whichever implementation it is.
type replica interface {
	election.Campaigner
	Join(election.Presence, func(election.View)) *election.Membership
}

// world is one implementation under test.
type world struct {
	replica func(server string) replica
	// lose takes the lease of the shard's current leader away, loseMember that of a
	// server's key.
	lose       func(name shard.Name)
	loseMember func(server string)
	want       func(name shard.Name, server string) error
	view       func() election.View
	// put writes a key among those of a shard's candidates, as a person does.
	put func(name shard.Name, key, value string)
	// cutOff cuts off the replica that was created last for a server, and returns
	// when nothing that it does arrives any more. Its leases then run out.
	cutOff func(server string)
}

const (
	testTTL = 2 * time.Second
	// soon is far longer than anything that should happen at once.
	soon = 10 * time.Second
	// handOver is what a planned hand-over may take.
	handOver = 500 * time.Millisecond
)

// onBoth runs a test in memory, where time is virtual, and on etcd.
func onBoth(t *testing.T, test func(t *testing.T, w world)) {
	t.Run("memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { test(t, memoryWorld()) })
	})
	t.Run("etcd", func(t *testing.T) { test(t, etcdWorld(t)) })
}

func memoryWorld() world {
	m := election.NewMemory()
	replicas := map[string]*election.MemoryReplica{}
	return world{
		replica: func(server string) replica {
			replicas[server] = m.Replica(server)
			return replicas[server]
		},
		lose: m.Revoke, loseMember: m.RevokeMember, want: m.Want, view: m.View, put: m.Put,
		cutOff: func(server string) {
			replicas[server].Freeze()
			replicas[server].Expire()
		},
	}
}

func etcdWorld(t *testing.T) world {
	server := testserver.Etcd(t)
	client := rawClient(t, server)
	links := map[string]*testserver.Link{}
	return world{
		replica: func(name string) replica {
			links[name] = testserver.NewLink(t, strings.TrimPrefix(server.Endpoint, "http://"))
			return candidateAt(t, "http://"+links[name].Addr, name)
		},
		lose: func(name shard.Name) { revokeOldest(t, client, name) },
		loseMember: func(server string) {
			i := slices.IndexFunc(look(t, client).Servers, func(m election.Member) bool { return m.Server == server })
			require.GreaterOrEqual(t, i, 0)
			_, err := client.Revoke(t.Context(), clientv3.LeaseID(look(t, client).Servers[i].Lease))
			require.NoError(t, err)
		},
		want: func(name shard.Name, server string) error {
			return election.Want(t.Context(), client, "test", name, server, "")
		},
		view: func() election.View { return look(t, client) },
		put: func(name shard.Name, key, value string) {
			_, err := client.Put(t.Context(), election.LeaderPrefix("test", name)+key, value)
			require.NoError(t, err)
		},
		cutOff: func(server string) { links[server].Cut(t) },
	}
}

func look(t *testing.T, client *clientv3.Client) election.View {
	t.Helper()
	v, err := election.Look(context.WithoutCancel(t.Context()), client, "test")
	require.NoError(t, err)
	return v
}

func candidate(t *testing.T, server *embedetcd.Server, name string) *election.Etcd {
	t.Helper()
	return candidateAt(t, server.Endpoint, name)
}

// holders counts the candidates, so that each has a name of its own.
var holders atomic.Int64

func candidateAt(t *testing.T, endpoint, name string) *election.Etcd {
	t.Helper()
	e, err := election.NewEtcd(election.EtcdConfig{
		Etcd: election.At(clientv3.Config{Endpoints: []string{endpoint}}), Cluster: "test", Server: name, Holder: fmt.Sprintf("%s/%d", name, holders.Add(1)), Address: name + ":8080", TTL: testTTL,
	})
	require.NoError(t, err)
	return e
}

func rawClient(t *testing.T, server *embedetcd.Server) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Endpoint}, DialTimeout: soon})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

func revokeOldest(t *testing.T, client *clientv3.Client, name shard.Name) {
	t.Helper()
	res, err := client.Get(t.Context(), election.LeaderPrefix("test", name), clientv3.WithFirstCreate()...)
	require.NoError(t, err)
	require.NotEmpty(t, res.Kvs)
	_, err = client.Revoke(t.Context(), clientv3.LeaseID(res.Kvs[0].Lease))
	require.NoError(t, err)
}

// running is a campaign in the background.
type running struct {
	won    chan *election.Term
	failed chan error
	cancel context.CancelFunc
}

func campaign(t *testing.T, c election.Campaigner, name shard.Name) *running {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	r := &running{make(chan *election.Term, 1), make(chan error, 1), cancel}
	go func() {
		term, err := c.Campaign(ctx, name)
		if err != nil {
			r.failed <- err
			return
		}
		r.won <- term
	}()
	return r
}

func (r *running) term(t *testing.T) *election.Term {
	t.Helper()
	select {
	case term := <-r.won:
		t.Cleanup(func() { require.NoError(t, term.Resign(context.Background())) })
		return term
	case err := <-r.failed:
		t.Fatalf("campaign failed: %v", err)
	case <-time.After(soon):
		t.Fatal("nobody won")
	}
	return nil
}

func (r *running) err(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.failed:
		return err
	case <-r.won:
		t.Fatal("the campaign was won")
	case <-time.After(soon):
		t.Fatal("the campaign did not end")
	}
	return nil
}

func over(t *testing.T, term *election.Term) error {
	t.Helper()
	select {
	case <-term.Done():
		return term.Cause()
	case <-time.After(soon):
		t.Fatal("the term did not end")
	}
	return nil
}

func TestTwoCandidatesOneLeader(t *testing.T) {
	onBoth(t, func(t *testing.T, w world) {
		first := campaign(t, w.replica("a"), shard.Master).term(t)
		second := campaign(t, w.replica("b"), shard.Master)
		select {
		case <-second.won:
			t.Fatal("two leaders at once")
		case err := <-second.failed:
			t.Fatal(err)
		case <-time.After(testTTL + time.Second): // longer than any lease lasts unrenewed
		}
		require.NoError(t, first.Cause())
		require.Equal(t, "a", first.Server)
		require.NotEmpty(t, first.Cluster)

		began := time.Now()
		require.NoError(t, first.Resign(t.Context()))
		next := second.term(t)
		require.Less(t, time.Since(began), handOver, "planned hand-over")
		require.ErrorIs(t, over(t, first), election.ErrResigned)
		require.Greater(t, next.Token, first.Token)
	})
}

func TestShardsAreIndependent(t *testing.T) {
	onBoth(t, func(t *testing.T, w world) {
		a := campaign(t, w.replica("a"), "s1").term(t)
		b := campaign(t, w.replica("b"), "s2").term(t)
		require.NoError(t, a.Cause())
		require.NoError(t, b.Cause())
	})
}

func TestLeaseLostWhileLeading(t *testing.T) {
	onBoth(t, func(t *testing.T, w world) {
		first := campaign(t, w.replica("a"), shard.Master).term(t)
		second := campaign(t, w.replica("b"), shard.Master)
		w.lose(shard.Master)
		cause := over(t, first)
		require.True(t, errors.Is(cause, election.ErrLeaseLost) || errors.Is(cause, election.ErrDeposed), "cause: %v", cause)
		next := second.term(t)
		require.Greater(t, next.Token, first.Token)
		// The loser frees what it holds; the new term is not touched.
		_ = first.Resign(t.Context()) // its lease is gone, which etcd reports
		require.NoError(t, next.Cause())
	})
}

func TestTokenRisesOverManyTerms(t *testing.T) {
	onBoth(t, func(t *testing.T, w world) {
		c := w.replica("a")
		var last int64
		for range 50 {
			term, err := c.Campaign(t.Context(), shard.Master)
			require.NoError(t, err)
			require.Greater(t, term.Token, last)
			last = term.Token
			require.NoError(t, term.Resign(t.Context()))
		}
	})
}

func TestCancelWhileWaiting(t *testing.T) {
	onBoth(t, func(t *testing.T, w world) {
		first := campaign(t, w.replica("a"), shard.Master).term(t)
		second := campaign(t, w.replica("b"), shard.Master)
		second.cancel()
		require.ErrorIs(t, second.err(t), context.Canceled)
		require.NoError(t, first.Cause())
		// The cancelled candidate left nothing behind that a third must wait for.
		third := campaign(t, w.replica("c"), shard.Master)
		began := time.Now()
		require.NoError(t, first.Resign(t.Context()))
		third.term(t)
		require.Less(t, time.Since(began), handOver)
	})
}

// TestLeaderCutOff: a leader that cannot reach the others any more has a successor
// when its lease runs out. Whatever it calls then returns within a bound.
func TestLeaderCutOff(t *testing.T) {
	onBoth(t, func(t *testing.T, w world) {
		leader, other := w.replica("a"), w.replica("b")
		term, err := leader.Campaign(t.Context(), shard.Master)
		require.NoError(t, err)
		next := campaign(t, other, shard.Master)
		w.cutOff("a")
		require.Greater(t, next.term(t).Token, term.Token)
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), handOver)
		defer cancel()
		require.Error(t, term.Announce(ctx, election.Announcement{Paused: "power work", Epoch: 3}))
		require.Error(t, term.Resign(ctx))
		_, err = leader.Campaign(ctx, shard.Master)
		require.Error(t, err)
		require.Less(t, time.Since(began), testTTL+2*time.Second)
		require.Len(t, w.view().Shards[shard.Master].Candidates, 1)
	})
}

// TestForeignKeysAreNobodys: keys without lease are passed over, whatever they say,
// and named. A leader whose key somebody overwrites has lost it.
func TestForeignKeysAreNobodys(t *testing.T) {
	onBoth(t, func(t *testing.T, w world) {
		w.put("s1", "0", "x")
		w.put("s1", "1", `{"state":"leader","server":"ghost","shard":"s1","token":1}`)
		require.Empty(t, w.view().Shards["s1"].Holder())
		leader := campaign(t, w.replica("a"), "s1").term(t)
		w.put("s1", "2", "")
		next := campaign(t, w.replica("b"), "s1")
		require.Eventually(t, func() bool { return len(w.view().Shards["s1"].Candidates) == 2 }, soon, time.Millisecond)
		e := w.view().Shards["s1"]
		require.Equal(t, "a", e.Holder())
		require.Len(t, e.Ignored, 3)
		require.Contains(t, e.Ignored[0].String(), "etcdctl del "+e.Ignored[0].Key)
		require.NoError(t, leader.Resign(t.Context()))
		require.Equal(t, "b", next.term(t).Server)
	})
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
