package election_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/shard"
)

// stands measures for how long nobody leads.
type stands struct {
	mu      sync.Mutex
	leaders int
	since   time.Time
	longest time.Duration
}

func (s *stands) change(by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaders == 0 {
		s.longest = max(s.longest, time.Since(s.since))
	}
	s.leaders += by
	s.since = time.Now()
}

// led tells whether somebody leads, and for how long nobody did at the longest.
func (s *stands) led() (bool, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaders == 0 {
		return false, max(s.longest, time.Since(s.since))
	}
	return true, s.longest
}

func (s *stands) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.longest, s.since = 0, time.Now()
}

// serve campaigns and leads again and again, as a replica does.
func serve(t *testing.T, e *election.Etcd, s *stands) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			term, err := e.Campaign(ctx, shard.Master)
			if err != nil {
				t.Logf("campaign: %v", err)
				select {
				case <-ctx.Done():
				case <-time.After(100 * time.Millisecond):
				}
				continue
			}
			s.change(+1)
			select {
			case <-ctx.Done():
			case <-term.Done():
				t.Logf("term %d is over: %v", term.Token, term.Cause())
			}
			s.change(-1)
			_ = term.Resign(context.Background()) // etcd may be away
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

func candidateOf(t *testing.T, c *testserver.EtcdCluster, name string, ttl time.Duration, endpoints []string) *election.Etcd {
	t.Helper()
	if endpoints == nil {
		endpoints = c.Endpoints()
	}
	e, err := election.NewEtcd(election.EtcdConfig{
		Etcd: election.At(clientv3.Config{Endpoints: endpoints}), Cluster: "test", Server: name, Holder: name, Address: name + ":8080", TTL: ttl,
	})
	require.NoError(t, err)
	return e
}

func lead(t *testing.T, s *stands) {
	t.Helper()
	require.Eventually(t, func() bool { led, _ := s.led(); return led }, soon, 10*time.Millisecond, "somebody leads")
	s.forget()
}

// TestMemberThatIsNoUse: a member of etcd that lost its peers, but not its clients, or
// that hangs, follower or leader of etcd, stops nobody for long.
func TestMemberThatIsNoUse(t *testing.T) {
	c := testserver.NewEtcdCluster(t, 3)
	var s stands
	for _, name := range []string{"a", "b"} {
		serve(t, candidateOf(t, c, name, testTTL, nil), &s)
	}
	var seen watcher
	m := candidateOf(t, c, "a", testTTL, nil).Join(election.Presence{Role: election.RolePrimary}, seen.saw)
	keep(t, m)
	lead(t, &s)
	leader, err := c.Leader(t.Context())
	require.NoError(t, err)
	cut := func(m *testserver.EtcdMember) { m.CutPeers(t) }
	heal := func(m *testserver.EtcdMember) { m.HealPeers(t) }
	s.suffers(t, c, another(c, leader), cut, heal)
	s.suffers(t, c, leader, cut, heal)
	leader, err = c.Leader(t.Context())
	require.NoError(t, err)
	s.suffers(t, c, leader,
		func(m *testserver.EtcdMember) { require.NoError(t, m.Stop()) },
		func(m *testserver.EtcdMember) { require.NoError(t, m.Cont()) })
	m.Set(func(p *election.Presence) { p.Weight = 5 })
	seen.until(t, "the view goes on", func(v election.View) bool { return len(v.Servers) == 1 && v.Servers[0].Weight == 5 })
}

// TestMemberWithoutPeersAndLongLeases: with leases of five seconds, too, nobody is without a
// leader for four, whichever member of etcd loses its peers.
func TestMemberWithoutPeersAndLongLeases(t *testing.T) {
	const ttl, bound = 5 * time.Second, 4 * time.Second
	c := testserver.NewEtcdCluster(t, 3)
	var s stands
	for _, name := range []string{"a", "b"} {
		serve(t, candidateOf(t, c, name, ttl, nil), &s)
	}
	lead(t, &s)
	leader, err := c.Leader(t.Context())
	require.NoError(t, err)
	for _, m := range []*testserver.EtcdMember{another(c, leader), leader} {
		s.forget()
		m.CutPeers(t)
		time.Sleep(ttl + time.Second) // what is measured is what happens meanwhile
		_, longest := s.led()
		m.HealPeers(t)
		t.Logf("nobody led for %v", longest)
		require.Less(t, longest, bound)
		require.NoError(t, c.WaitReady(t.Context()))
		lead(t, &s)
	}
}

// suffers requires that nobody is without a leader for long while a member is harmed.
func (s *stands) suffers(t *testing.T, c *testserver.EtcdCluster, m *testserver.EtcdMember, harm, undo func(*testserver.EtcdMember)) {
	t.Helper()
	s.forget()
	harm(m)
	time.Sleep(2 * testTTL) // what is measured is what happens meanwhile
	_, longest := s.led()
	undo(m)
	t.Logf("nobody led for %v", longest)
	require.Less(t, longest, testTTL)
	require.NoError(t, c.WaitReady(t.Context()))
	lead(t, s)
}

func another(c *testserver.EtcdCluster, than *testserver.EtcdMember) *testserver.EtcdMember {
	for _, m := range c.Members {
		if m != than {
			return m
		}
	}
	return nil
}

// TestLeaderDiesWhileAMemberHangs: whoever is next leads, and everybody sees it.
func TestLeaderDiesWhileAMemberHangs(t *testing.T) {
	c := testserver.NewEtcdCluster(t, 3)
	var links []*testserver.Link
	var endpoints []string
	for _, m := range c.Members {
		links = append(links, testserver.NewLink(t, m.Addr))
		endpoints = append(endpoints, "http://"+links[len(links)-1].Addr)
	}
	dying := candidateOf(t, c, "a", testTTL, endpoints)
	first, err := dying.Campaign(t.Context(), shard.Master)
	require.NoError(t, err)
	next := campaign(t, candidateOf(t, c, "b", testTTL, nil), shard.Master)
	var seen watcher
	keep(t, candidateOf(t, c, "c", testTTL, nil).Join(election.Presence{Role: election.RolePrimary}, seen.saw))
	seen.until(t, "both are candidates", func(v election.View) bool { return len(v.Shards[shard.Master].Candidates) == 2 })
	leader, err := c.Leader(t.Context())
	require.NoError(t, err)
	hung := another(c, leader)
	require.NoError(t, hung.Stop())
	died := time.Now()
	for _, l := range links {
		l.Cut(t)
	}
	next.term(t)
	// Whoever waits for the member that hangs waits for longer than this.
	const slack = 5 * time.Second
	require.Less(t, time.Since(died), testTTL+slack)
	seen.until(t, "b leads", func(v election.View) bool { return v.Shards[shard.Master].Holder() == "b" })
	require.Less(t, time.Since(died), testTTL+slack)
	require.NoError(t, hung.Cont())
	require.Error(t, first.Resign(t.Context()))
}

// TestOwnLeaseIsNotWaitedFor: after etcd had no quorum, replicas lead again as soon as
// it has one. They do not wait for leases of their own that etcd has begun anew.
func TestOwnLeaseIsNotWaitedFor(t *testing.T) {
	c := testserver.NewEtcdCluster(t, 3)
	const ttl = 6 * time.Second
	var s stands
	serve(t, candidateOf(t, c, "a", ttl, nil), &s)
	lead(t, &s)
	for _, m := range c.Members[:2] {
		require.NoError(t, m.Stop())
	}
	require.Eventually(t, func() bool { led, _ := s.led(); return !led }, soon, 10*time.Millisecond)
	for _, m := range c.Members[:2] {
		require.NoError(t, m.Cont())
	}
	healed := time.Now()
	require.Eventually(t, func() bool { led, _ := s.led(); return led }, soon, 10*time.Millisecond)
	t.Logf("led again after %v", time.Since(healed))
	require.Less(t, time.Since(healed), ttl-time.Second)
}

// TestOneEndpointIsEnough: when members leave etcd while replicas run, one of the
// endpoints that they were given is enough.
func TestOneEndpointIsEnough(t *testing.T) {
	c := testserver.NewEtcdCluster(t, 3)
	var s stands
	serve(t, candidateOf(t, c, "a", testTTL, nil), &s)
	serve(t, candidateOf(t, c, "b", testTTL, nil), &s)
	lead(t, &s)
	stays := c.Members[2]
	client, err := stays.Client()
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()
	for _, gone := range c.Members[:2] {
		// A change of members may be refused until all are connected again.
		require.Eventually(t, func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			_, err := client.MemberRemove(ctx, gone.ID())
			return err == nil || strings.Contains(err.Error(), "not found")
		}, 3*soon, 200*time.Millisecond)
		require.NoError(t, gone.Kill())
	}
	require.Eventually(t, func() bool {
		if led, _ := s.led(); !led {
			return false
		}
		_, err := client.Put(t.Context(), "x", "y")
		return err == nil
	}, 2*soon, 50*time.Millisecond)
	s.forget()
	time.Sleep(2 * testTTL) // long enough for every lease to run out
	led, longest := s.led()
	require.True(t, led)
	require.Less(t, longest, testTTL)
}
