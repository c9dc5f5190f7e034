package replica_test

import (
	"context"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

// between notes what newcomers got between whole ticks.
type between struct {
	witness
	newcomers, whole int
	got              map[scheduler.EntryID]bool
}

func (b *between) Ticked(name shard.Name, r replica.Report) {
	b.note(func() {
		if !r.Newcomers {
			b.whole++
			return
		}
		b.newcomers++
		for _, a := range r.Result.Applied.Assignments {
			b.got[a.Entry] = true
		}
	})
}

func (b *between) counts() (newcomers, whole int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.newcomers, b.whole
}

// TestNewcomersBetweenTicks: new entries that are named get a host between two whole ticks,
// whole ticks go on although newcomers never end, and find whoever was not named.
func TestNewcomersBetweenTicks(t *testing.T) {
	db := storetest.NewServerLab(t)
	lab, err := simlab.Create(t.Context(), db.SQL(), simlab.Spec{Seed: 1, Hosts: 300, Boards: 2, Suites: 2, Entries: 20})
	require.NoError(t, err)
	_, err = db.SQL().Exec("UPDATE afe_jobs SET synch_count = 1")
	require.NoError(t, err)
	b := &between{got: map[scheduler.EntryID]bool{}}
	r := replica.New(replica.Config{Scope: store.Scope{Shard: shard.Master}, Holder: "a", MinTick: 300 * time.Millisecond}, election.NewMemory().Replica("a"), db, b, hclog.NewNullLogger())
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); r.Run(ctx) }()
	t.Cleanup(func() { stop(); <-ended })
	require.Eventually(t, func() bool { _, whole := b.counts(); return whole > 1 }, soon, time.Millisecond)

	_, before := b.counts()
	latest := func() int { return storetest.Count(t, db, "SELECT MAX(id) FROM afe_host_queue_entries") }
	require.Eventually(t, func() bool {
		last := latest()
		require.NoError(t, lab.AddSuite(t.Context(), db.SQL(), 1))
		if entry := scheduler.EntryID(latest()); int(entry) > last {
			r.Wake(entry)
		}
		newcomers, whole := b.counts()
		return newcomers > 5 && whole > before+3
	}, 3*soon, 10*time.Millisecond, "both kinds of ticks go on")
	b.mu.Lock()
	require.NotEmpty(t, b.got)
	b.mu.Unlock()

	require.NoError(t, lab.AddSuite(t.Context(), db.SQL(), 3))
	require.Eventually(t, func() bool { return len(storetest.FullPlan(t, db).Assignments) == 0 }, soon, 10*time.Millisecond, "nobody is forgotten")
	require.Zero(t, storetest.Count(t, db, "SELECT COUNT(*) FROM (SELECT host_id FROM afe_host_queue_entries WHERE active = 1 GROUP BY host_id HAVING COUNT(*) > 1) twice"))
}
