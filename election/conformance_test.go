package election_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/embedetcd"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/shard"
)

// world is one implementation under test.
type world struct {
	candidate func(server string) election.Campaigner
	// lose takes the lease of the shard's current leader away.
	lose func(name shard.Name)
}

const (
	testTTL = 2 * time.Second
	// soon is far longer than anything that should happen at once.
	soon = 10 * time.Second
	// handOver is what a planned hand-over may take.
	handOver = 500 * time.Millisecond
)

func onBoth(t *testing.T, test func(t *testing.T, w world)) {
	t.Run("memory", func(t *testing.T) {
		m := election.NewMemory()
		test(t, world{m.Candidate, m.Revoke})
	})
	t.Run("etcd", func(t *testing.T) { test(t, etcdWorld(t)) })
}

func etcdWorld(t *testing.T) world {
	server := testserver.Etcd(t)
	client := rawClient(t, server)
	return world{
		candidate: func(name string) election.Campaigner { return candidate(t, server, name) },
		lose:      func(name shard.Name) { revokeOldest(t, client, name) },
	}
}

func candidate(t *testing.T, server *embedetcd.Server, name string) *election.Etcd {
	t.Helper()
	return candidateAt(t, server.Endpoint, name)
}

func candidateAt(t *testing.T, endpoint, name string) *election.Etcd {
	t.Helper()
	e, err := election.NewEtcd(election.EtcdConfig{
		Client: clientv3.Config{Endpoints: []string{endpoint}}, Cluster: "test", Server: name, Address: name + ":8080", TTL: testTTL,
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
		first := campaign(t, w.candidate("a"), shard.Master).term(t)
		second := campaign(t, w.candidate("b"), shard.Master)
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
		a := campaign(t, w.candidate("a"), "s1").term(t)
		b := campaign(t, w.candidate("b"), "s2").term(t)
		require.NoError(t, a.Cause())
		require.NoError(t, b.Cause())
	})
}

func TestLeaseLostWhileLeading(t *testing.T) {
	onBoth(t, func(t *testing.T, w world) {
		first := campaign(t, w.candidate("a"), shard.Master).term(t)
		second := campaign(t, w.candidate("b"), shard.Master)
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
		c := w.candidate("a")
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
		first := campaign(t, w.candidate("a"), shard.Master).term(t)
		second := campaign(t, w.candidate("b"), shard.Master)
		second.cancel()
		require.ErrorIs(t, second.err(t), context.Canceled)
		require.NoError(t, first.Cause())
		// The cancelled candidate left nothing behind that a third must wait for.
		third := campaign(t, w.candidate("c"), shard.Master)
		began := time.Now()
		require.NoError(t, first.Resign(t.Context()))
		third.term(t)
		require.Less(t, time.Since(began), handOver)
	})
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
