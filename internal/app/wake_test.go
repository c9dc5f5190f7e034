package app

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/internal/web"
	"github.com/hostsched/hostsched/shard"
)

// TestWake: whoever wakes a shard, on the leader or on another replica, makes the leader
// tick at once and not at the time of its next tick.
func TestWake(t *testing.T) {
	etcd, dsn := testserver.Etcd(t), newLab(t)
	var apps []*App
	registries := map[*App]*prometheus.Registry{}
	for _, server := range []string{"lab-1", "lab-2"} {
		cfg := load(t, "--server", server, "--database-dsn", dsn, "--etcd-endpoints", etcd.Endpoint, "--tick-min", "10m")
		registry := prometheus.NewRegistry()
		a, err := New(Options{Config: cfg, Listen: "127.0.0.1:0", Registry: registry})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, a.Stop(context.WithoutCancel(t.Context()))) })
		registries[a] = registry
		require.NoError(t, a.Start(t.Context()))
		apps = append(apps, a)
	}
	leader, follower := apps[0], apps[1]
	require.Eventually(t, func() bool { return leads(leader) || leads(follower) }, patience, 10*time.Millisecond)
	if leads(follower) {
		leader, follower = follower, leader
	}
	ticks := func() int64 {
		st, err := web.Client{}.ReadStatus(t.Context(), leader.Addr(), time.Second)
		require.NoError(t, err)
		return st.Shards[0].Ticks
	}
	// The follower needs a moment until it knows who leads.
	first := ticks()
	require.Eventually(t, func() bool { follower.wake(shard.Master); return ticks() > first }, patience, 10*time.Millisecond)
	const times = 20
	for who, a := range map[string]*App{"the leader itself": leader, "another replica": follower} {
		var took []time.Duration
		for range times {
			before := ticks()
			began := time.Now()
			a.wake(shard.Master)
			require.Eventually(t, func() bool { return ticks() > before }, patience, time.Millisecond, who)
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		t.Logf("from a wake by %s to the end of the tick: p50 %v, max %v", who, took[times/2], took[times-1])
	}
	families, err := registries[leader].Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() != "hostsched_wake_seconds" {
			continue
		}
		h := f.GetMetric()[0].GetHistogram()
		require.GreaterOrEqual(t, h.GetSampleCount(), uint64(2*times))
		mean := time.Duration(h.GetSampleSum() / float64(h.GetSampleCount()) * float64(time.Second))
		t.Logf("from a wake to the beginning of the tick: %v in the mean of %d", mean, h.GetSampleCount())
		require.Less(t, mean, 100*time.Millisecond, "the time of the next tick is far away")
		return
	}
	t.Fatal("no metric of wakes")
}
