package election_test

import (
	"context"
	"sync"
	"testing"
	"time"

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

func roleIn(v election.View, server string) string {
	for _, a := range v.Servers {
		if a.Server == server {
			return a.Role
		}
	}
	return "absent"
}

// TestMembership: replicas see each other and who leads what, and notice at once
// when one changes its role, loses its lease or leaves.
func TestMembership(t *testing.T) {
	endpoint := testserver.Etcd(t).Endpoint
	client, err := election.NewClient(clientv3.Config{Endpoints: []string{endpoint}})
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()
	etcd := func(server string) *election.Etcd {
		e, err := election.NewEtcd(election.EtcdConfig{Client: clientv3.Config{Endpoints: []string{endpoint}}, Cluster: "c", Server: server, Address: server + ":1", TTL: 2 * time.Second})
		require.NoError(t, err)
		return e
	}
	var w watcher
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	a, b := etcd("a"), etcd("b")
	here := a.Join(election.Presence{Role: election.RolePrimary}, w.saw)
	require.ErrorIs(t, here.Err(), election.ErrNotYet)
	there := b.Join(election.Presence{Role: election.RoleBackup, Weight: 2}, func(election.View) {})
	running.Go(func() { here.Run(ctx) })
	leaving, leave := context.WithCancel(ctx)
	running.Go(func() { there.Run(leaving) })
	w.until(t, "both are there", func(v election.View) bool {
		return roleIn(v, "a") == election.RolePrimary && roleIn(v, "b") == election.RoleBackup
	})
	require.NoError(t, here.Err())

	there.Set(func(p *election.Presence) { p.Role, p.Why = election.RoleNone, "broken" })
	w.until(t, "a role changes", func(v election.View) bool { return roleIn(v, "b") == election.RoleNone })

	term, err := b.Campaign(ctx, "s1")
	require.NoError(t, err)
	require.NoError(t, term.Announce(ctx, "power work"))
	w.until(t, "b leads s1, which is paused", func(v election.View) bool {
		c := v.Shards["s1"]
		return c.Holder() == "b" && c.Candidates[0].Token == term.Token && c.Candidates[0].Paused == "power work"
	})
	require.NoError(t, election.Want(ctx, client, "c", "s1", "a"))
	w.until(t, "a is wanted", func(v election.View) bool { return v.Shards["s1"].Wanted == "a" })
	require.NoError(t, election.Want(ctx, client, "c", "s1", election.AnyServer))
	w.until(t, "nobody is wanted", func(v election.View) bool { return v.Shards["s1"].Wanted == "" })
	require.ErrorContains(t, election.Want(ctx, client, "c", "s1", "nobody"), "not there")
	require.NoError(t, election.Want(ctx, client, "c", "s1", "b"))
	require.NoError(t, term.Resign(ctx))

	view, err := election.Look(ctx, client, "c")
	require.NoError(t, err)
	lease := view.Servers[0].Lease
	_, err = client.Revoke(ctx, clientv3.LeaseID(lease))
	require.NoError(t, err)
	w.until(t, "a returns with another lease", func(v election.View) bool { return roleIn(v, "a") != "absent" && v.Servers[0].Lease != lease })

	leave()
	w.until(t, "b left, and the wish for it with it", func(v election.View) bool { return roleIn(v, "b") == "absent" && v.Shards["s1"].Wanted == "" })
	cancel()
	running.Wait()
	view, err = election.Look(t.Context(), client, "c")
	require.NoError(t, err)
	require.Empty(t, view.Servers)
}

// TestFormatOfOthers: a value from a version that is too new is noticed, and one
// that cannot be read holds its place.
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
	require.Len(t, v.Shards[shard.Master].Candidates, 1)
	v = put(election.ServersPrefix("c")+"old", `{"server": "old", "role": "primary"}`)
	require.NoError(t, v.CheckFormat())
	v = put(election.ServersPrefix("c")+"new", `{"server": "new", "role": "primary", "format": 9, "oldest": 8, "unknown": 1}`)
	require.ErrorIs(t, v.CheckFormat(), election.ErrFormat)
}
