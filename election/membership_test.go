package election_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/shard"
)

// watcher keeps the latest view.
type watcher struct {
	mu   sync.Mutex
	view election.View
}

func (w *watcher) saw(v election.View) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.view = v
}

func (w *watcher) until(t *testing.T, what string, holds func(election.View) bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return holds(w.view)
	}, 10*time.Second, 2*time.Millisecond, what)
}

// memberIn is a member of a view, empty if it is none.
func memberIn(v election.View, server string) election.Member {
	for _, m := range v.Servers {
		if m.Server == server {
			return m
		}
	}
	return election.Member{}
}

func roleIn(v election.View, server string) string {
	if m := memberIn(v, server); m.Server != "" {
		return m.Role
	}
	return "absent"
}

// keep runs a membership until the returned function is called or the test ends.
func keep(t *testing.T, m *election.Membership) (leave func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { m.Run(ctx) })
	leave = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(leave)
	return leave
}

// TestMembership: replicas see each other and who leads what, and learn at once
// when one changes its role, loses its lease or leaves.
func TestMembership(t *testing.T) {
	onBoth(t, func(t *testing.T, w world) {
		var seen watcher
		a, b := w.replica("a"), w.replica("b")
		first := a.Join(election.Presence{Role: election.RolePrimary}, seen.saw)
		require.ErrorIs(t, first.Err(), election.ErrNotYet)
		second := b.Join(election.Presence{Role: election.RoleBackup, Weight: 2}, func(election.View) {})
		leaveFirst, leaveSecond := keep(t, first), keep(t, second)
		seen.until(t, "both are members", func(v election.View) bool {
			return roleIn(v, "a") == election.RolePrimary && roleIn(v, "b") == election.RoleBackup
		})
		require.Eventually(t, func() bool { return first.Err() == nil }, soon, time.Millisecond)

		second.Set(func(p *election.Presence) { p.Role, p.Why = election.RoleNone, "broken" })
		seen.until(t, "a role changes", func(v election.View) bool { return roleIn(v, "b") == election.RoleNone })

		term, err := b.Campaign(t.Context(), "s1")
		require.NoError(t, err)
		require.NoError(t, term.Announce(t.Context(), election.Announcement{Paused: "power work", Epoch: 3}))
		seen.until(t, "b leads s1, which is paused", func(v election.View) bool {
			c := v.Shards["s1"]
			return c.Holder() == "b" && c.Candidates[0].Token == term.Token && c.Candidates[0].Paused == "power work"
		})
		require.NoError(t, w.want("s1", "a"))
		seen.until(t, "a switchover to a is requested", func(v election.View) bool { return v.Shards["s1"].Wanted == "a" })
		require.NoError(t, w.want("s1", election.AnyServer))
		seen.until(t, "the request is withdrawn", func(v election.View) bool { return v.Shards["s1"].Wanted == "" })
		require.ErrorContains(t, w.want("s1", "nobody"), "server nobody is not running")
		require.NoError(t, w.want("s1", "b"))
		require.NoError(t, term.Resign(t.Context()))

		lease := w.view().Servers[0].Lease
		w.loseMember("a")
		seen.until(t, "a returns with another lease", func(v election.View) bool { return roleIn(v, "a") != "absent" && v.Servers[0].Lease != lease })

		leaveSecond()
		seen.until(t, "b left, and the request for it with it", func(v election.View) bool { return roleIn(v, "b") == "absent" && v.Shards["s1"].Wanted == "" })
		leaveFirst()
		require.Empty(t, w.view().Servers)
	})
}

// TestRevokeADeadReplica: whoever sees that a replica is dead ends all its leases, and
// whoever is next leads at once. Others keep theirs.
func TestRevokeADeadReplica(t *testing.T) {
	onBoth(t, func(t *testing.T, w world) {
		a, b := w.replica("a"), w.replica("b")
		keep(t, a.Join(election.Presence{Role: election.RolePrimary}, func(election.View) {}))
		judge := b.Join(election.Presence{Role: election.RolePrimary}, func(election.View) {})
		require.ErrorIs(t, judge.Revoke(t.Context(), election.View{}, "a"), nil, "nothing to do")
		keep(t, judge)
		first, other := campaign(t, a, "s1").term(t), campaign(t, b, "s2").term(t)
		next := campaign(t, b, "s1")
		require.Eventually(t, func() bool {
			v := w.view()
			return len(v.Servers) == 2 && len(v.Shards["s1"].Candidates) == 2 && judge.Err() == nil
		}, soon, time.Millisecond)
		v := w.view()
		dead := v.Servers[0].Holder
		require.NotEmpty(t, dead)
		require.Equal(t, dead, v.Shards["s1"].Candidates[0].Holder)
		require.Len(t, v.Leases(dead), 2, "as a member and as a leader")
		require.Empty(t, v.Leases(""))

		began := time.Now()
		require.NoError(t, judge.Revoke(t.Context(), v, dead))
		next.term(t)
		require.Less(t, time.Since(began), handOver)
		require.Error(t, over(t, first))
		require.NoError(t, other.Cause())
		require.NoError(t, judge.Revoke(t.Context(), v, dead), "again")
		_ = first.Resign(t.Context()) // its lease is gone, which etcd reports
	})
}

// TestVerdictComesBeforeTheEnd: whoever ends the leases of a dead replica has said why, when
// the others see that they are gone, because that is when one of them succeeds it.
func TestVerdictComesBeforeTheEnd(t *testing.T) {
	const rounds = 20
	onBoth(t, func(t *testing.T, w world) {
		var mu sync.Mutex
		var present, dead int64 // leases of a
		unexplained := 0
		judge := w.replica("b").Join(election.Presence{Role: election.RolePrimary}, func(v election.View) {
			mu.Lock()
			defer mu.Unlock()
			present = memberIn(v, "a").Lease
			if dead != 0 && present != dead && memberIn(v, "b").Suspects["a"].Lease != dead {
				unexplained++
			}
		})
		keep(t, judge)
		keep(t, w.replica("a").Join(election.Presence{Role: election.RolePrimary}, func(election.View) {}))
		for range rounds {
			require.Eventually(t, func() bool {
				mu.Lock()
				defer mu.Unlock()
				return present != 0 && present != dead && judge.Err() == nil
			}, soon, time.Millisecond, "the key of a is there")
			v := w.view()
			a := memberIn(v, "a")
			mu.Lock()
			before := unexplained
			dead = a.Lease
			mu.Unlock()
			judge.Set(func(p *election.Presence) {
				p.Suspects = map[string]election.Suspicion{"a": {Why: "silent", Lease: a.Lease}}
			})
			began := time.Now()
			require.NoError(t, judge.Revoke(t.Context(), v, a.Holder))
			slow := time.Since(began) >= election.ShowFirst // then it need not have waited
			require.Eventually(t, func() bool {
				mu.Lock()
				defer mu.Unlock()
				return present != a.Lease
			}, soon, time.Millisecond, "the key of a is gone")
			if slow {
				mu.Lock()
				dead, unexplained = 0, before
				mu.Unlock()
			}
		}
		mu.Lock()
		defer mu.Unlock()
		require.Zero(t, unexplained, "ends of leases that nobody had explained")
	})
}

// TestAwaitShown: what was set is in the key when the wait ends, also under a new lease, unless
// the wait took as long as it may. It does not wait for what was shown, nor for a key that
// cannot be written.
func TestAwaitShown(t *testing.T) {
	onBoth(t, func(t *testing.T, w world) {
		var seen watcher
		m := w.replica("a").Join(election.Presence{Role: election.RolePrimary}, seen.saw)
		await := func() (inTime bool) {
			began := time.Now()
			m.AwaitShown(t.Context())
			return time.Since(began) < election.ShowFirst
		}
		require.False(t, await(), "nobody keeps the key")
		keep(t, m)
		seen.until(t, "the key is there", func(v election.View) bool { return roleIn(v, "a") == election.RolePrimary })
		const rounds = 20
		inTime := 0
		for n := range rounds {
			if n == rounds/2 {
				lease := memberIn(w.view(), "a").Lease
				w.loseMember("a")
				seen.until(t, "a returns with another lease", func(v election.View) bool {
					is := memberIn(v, "a").Lease
					return is != 0 && is != lease
				})
			}
			m.Set(func(p *election.Presence) { p.Weight = n })
			if await() {
				inTime++
				require.Equal(t, n, memberIn(w.view(), "a").Weight)
			}
		}
		require.Positive(t, inTime)

		taken := w.replica("a").Join(election.Presence{Role: election.RoleBackup}, func(election.View) {})
		keep(t, taken)
		require.Eventually(t, func() bool { return errors.Is(taken.Err(), election.ErrNameTaken) }, soon, time.Millisecond)
		began := time.Now()
		taken.AwaitShown(t.Context())
		require.Less(t, time.Since(began), election.ShowFirst)
	})
}

// TestTwoReplicasOfOneServer: the key is of the first, whatever the second says about
// itself, and the second learns who has its name. When the first ends, with a word or
// without, the second takes the key over.
func TestTwoReplicasOfOneServer(t *testing.T) {
	onBoth(t, func(t *testing.T, w world) {
		var seen watcher
		leave := keep(t, w.replica("a").Join(election.Presence{Role: election.RolePrimary}, seen.saw))
		seen.until(t, "one replica", func(v election.View) bool { return roleIn(v, "a") == election.RolePrimary })
		second := w.replica("a").Join(election.Presence{Role: election.RoleBackup}, func(election.View) {})
		keep(t, second)
		require.Eventually(t, func() bool { return errors.Is(second.Err(), election.ErrNameTaken) }, soon, time.Millisecond)
		require.ErrorContains(t, second.Err(), w.view().Servers[0].Since)
		second.Set(func(p *election.Presence) { p.Weight = 7 })
		testserver.Throughout(t, func() bool { return roleIn(w.view(), "a") == election.RolePrimary }, time.Second, 50*time.Millisecond)

		ended := time.Now()
		leave()
		require.Eventually(t, func() bool { return second.Err() == nil && roleIn(w.view(), "a") == election.RoleBackup }, soon, time.Millisecond)
		require.Less(t, time.Since(ended), testTTL)
		third := w.replica("a").Join(election.Presence{Role: election.RolePrimary}, func(election.View) {})
		keep(t, third)
		require.Eventually(t, func() bool { return errors.Is(third.Err(), election.ErrNameTaken) }, soon, time.Millisecond)
		w.loseMember("a")
		require.Eventually(t, func() bool { return (second.Err() == nil) != (third.Err() == nil) }, soon, time.Millisecond, "one of them has the key")
	})
}

// TestMemberCutOff: the key of a replica that cannot reach the others any more
// disappears, and its membership still ends within a bound.
func TestMemberCutOff(t *testing.T) {
	onBoth(t, func(t *testing.T, w world) {
		var seen watcher
		keep(t, w.replica("a").Join(election.Presence{Role: election.RolePrimary}, seen.saw))
		leave := keep(t, w.replica("b").Join(election.Presence{Role: election.RolePrimary}, func(election.View) {}))
		seen.until(t, "both are members", func(v election.View) bool { return len(v.Servers) == 2 })
		w.cutOff("b")
		seen.until(t, "b is gone", func(v election.View) bool { return len(v.Servers) == 1 })
		began := time.Now()
		leave()
		require.Less(t, time.Since(began), testTTL+time.Second)
	})
}

// TestSameViews plays one script in memory and on etcd and compares what both show
// after each step.
func TestSameViews(t *testing.T) {
	var views [][]election.View
	onBoth(t, func(t *testing.T, w world) { views = append(views, playScript(t, w)) })
	require.Empty(t, cmp.Diff(views[0], views[1]))
}

func playScript(t *testing.T, w world) (views []election.View) {
	a, b, c := w.replica("a"), w.replica("b"), w.replica("c")
	show := func(what string, holds func(election.View) bool) {
		require.Eventually(t, func() bool { return holds(w.view()) }, soon, 2*time.Millisecond, what)
		views = append(views, comparable(w.view()))
	}
	first := a.Join(election.Presence{Role: election.RolePrimary, Version: "1"}, func(election.View) {})
	keep(t, first)
	second := b.Join(election.Presence{Role: election.RoleBackup, Weight: 3}, func(election.View) {})
	leave := keep(t, second)
	show("two members", func(v election.View) bool { return len(v.Servers) == 2 })
	first.Set(func(p *election.Presence) { p.Avoids = map[shard.Name]string{"s1": "no database"} })
	show("a shard is avoided", func(v election.View) bool { return v.Servers[0].Avoids != nil })

	candidates := func(n int) func(election.View) bool {
		return func(v election.View) bool { return len(v.Shards["s1"].Candidates) == n }
	}
	leader := campaign(t, a, "s1").term(t)
	show("a leads", candidates(1))
	waiting := campaign(t, b, "s1")
	show("b is next", candidates(2))
	last := campaign(t, c, "s1")
	show("then c", candidates(3))
	require.NoError(t, w.want("s1", "b"))
	require.NoError(t, w.want("s2", "b"))
	show("switchovers are requested", func(v election.View) bool { return v.Shards["s2"].Wanted == "b" })
	require.NoError(t, leader.Announce(t.Context(), election.Announcement{Paused: "power work", Epoch: 3}))
	show("s1 is paused", func(v election.View) bool { return v.Shards["s1"].Candidates[0].Paused != "" })
	last.cancel()
	require.ErrorIs(t, last.err(t), context.Canceled)
	show("c gave up", candidates(2))
	require.NoError(t, leader.Resign(t.Context()))
	next := <-waiting.won
	show("b leads", candidates(1))
	leave()
	show("b is no member any more, but leads", func(v election.View) bool { return len(v.Servers) == 1 })
	w.lose("s1")
	show("nobody leads", candidates(0))
	require.Error(t, over(t, next))
	_ = next.Resign(t.Context()) // its lease is gone, which etcd reports
	return views
}

// comparable leaves out of a view what is different in every run.
func comparable(v election.View) election.View {
	for i := range v.Servers {
		s := &v.Servers[i]
		s.Lease, s.Revision, s.Since, s.Address, s.Holder = 0, 0, "", "", ""
	}
	for _, e := range v.Shards {
		for i := range e.Candidates {
			k := &e.Candidates[i]
			k.Holder = ""
			k.Revision, k.Lease, k.Key, k.Since, k.Address, k.Token = 0, 0, "", "", "", min(k.Token, 1)
		}
	}
	return v
}

// TestFormatOfOthers: a value from a version that is too new is noticed, and one
// that cannot be read is nobody's.
func TestFormatOfOthers(t *testing.T) {
	endpoint := testserver.Etcd(t).Endpoint
	client, err := election.NewClient(clientv3.Config{Endpoints: []string{endpoint}})
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()
	put := func(key, value string) election.View {
		_, err := client.Put(t.Context(), key, value)
		require.NoError(t, err)
		v, err := election.Look(t.Context(), client, "c")
		require.NoError(t, err)
		return v
	}
	v := put(election.LeaderPrefix("c", shard.Master)+"1", "{nonsense")
	require.Empty(t, v.Shards[shard.Master].Candidates)
	require.Len(t, v.Shards[shard.Master].Ignored, 1)
	v = put(election.ServersPrefix("c")+"old", `{"server": "old", "role": "primary"}`)
	require.NoError(t, v.CheckFormat())
	v = put(election.ServersPrefix("c")+"new", `{"server": "new", "role": "primary", "format": 9, "oldest": 8, "unknown": 1}`)
	require.ErrorIs(t, v.CheckFormat(), election.ErrFormat)
}
