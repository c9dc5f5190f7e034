package main

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/simlab"
)

// TestLabOfAThousandHosts is the main job end to end: three replicas against
// a database server and etcd give 1,000 hosts to 2,000 entries, first all at once
// and then as jobs come and go, with a leader killed in between. The log is the
// summary in the README.
func TestLabOfAThousandHosts(t *testing.T) {
	began := time.Now()
	in := newInstallation(t, simlab.Spec{Seed: 1, Hosts: 1000, Boards: 20, Suites: 40, Entries: 2000, MinimumShare: 0.04}, 3)
	t.Logf("database %s, %s", in.db.Server(), "3 replicas, 1000 hosts, 2000 entries")
	in.settle(t)
	first, err := in.history.Count(t.Context(), simlab.Counts{})
	require.NoError(t, err)
	require.Greater(t, first.Assignments, int64(500))
	t.Logf("first ticks: %d entries got a host", first.Assignments)

	stop := in.simulate(t, simlab.Simulation{
		Step: 100 * time.Millisecond, TaskMin: 200 * time.Millisecond, TaskMax: 600 * time.Millisecond,
		JobMin: 500 * time.Millisecond, JobMax: 2 * time.Second, Queue: 2000, SuiteSize: 25, FrontendTasks: 0.2,
	})
	time.Sleep(5 * time.Second) // the length of the run is the point
	in.followersReady(t)
	leader, st := in.leaderIn(t, anyPhase()...)
	ticks := slices.Clone(st.Recent)
	leader.kill(t)
	failover := in.takenOver(t, st.Epoch, time.Now())
	leader.start(t)
	time.Sleep(3 * time.Second)
	stop()
	require.LessOrEqual(t, failover, maxFailover)

	in.requireNothingTwice(t)
	all, err := in.history.Count(t.Context(), simlab.Counts{})
	require.NoError(t, err)
	slices.Sort(ticks)
	next, _ := in.leaderIn(t, anyPhase()...)
	t.Logf("summary: seconds %.1f, assignments %d, released %d, assigned twice 0, failover %v, ticks %d (p50 %v, p99 %v), leader now %s, token %s",
		time.Since(began).Seconds(), all.Assignments, all.Releases, failover.Round(time.Millisecond), st.Ticks,
		ticks[len(ticks)/2].Round(100*time.Microsecond), ticks[len(ticks)*99/100].Round(100*time.Microsecond),
		next.name, strconv.FormatFloat(next.metric(t, "hostsched_token"), 'f', -1, 64))
}
