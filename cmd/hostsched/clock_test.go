package main

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/agiledragon/gomonkey/v2"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/internal/web"
)

// clockFile names a file that says how far the wall clock of the process is ahead.
const clockFile = "HOSTSCHED_TEST_CLOCK"

// patches keep the function that setOwnClock puts in the place of another one.
var patches *gomonkey.Patches

// setOwnClock makes all of this process see another wall clock: the one of the machine is
// everybody's, and Go asks the kernel itself, so that no library can come between.
func setOwnClock(file string) {
	var ahead atomic.Int64
	begin := time.Now()
	patches = gomonkey.ApplyFunc(time.Now, func() time.Time {
		now := begin.Add(time.Since(begin)) // both clocks have gone on as the monotonic one
		// The seconds of the wall clock begin at bit 30, and monotonic time is kept apart.
		wall := (*uint64)(unsafe.Pointer(&now))
		*wall += uint64(ahead.Load()) << 30
		return now
	})
	go func() {
		for ; ; time.Sleep(5 * time.Millisecond) {
			text, err := os.ReadFile(file)
			if err != nil {
				continue // it was not set yet
			}
			if by, err := time.ParseDuration(string(text)); err == nil {
				ahead.Store(int64(by / time.Second))
			}
		}
	}()
}

// worksOn requires that the same leader finishes some more ticks in the same term.
func (in *installation) worksOn(t *testing.T, leader *server, before replica.Status) {
	t.Helper()
	var st replica.Status
	require.Eventually(t, func() (ok bool) {
		st, ok = leader.status()
		return ok && (st.Epoch != before.Epoch || st.Assignments >= before.Assignments+termAssignments)
	}, patience, 10*time.Millisecond, "the leader goes on")
	require.Equal(t, before.Epoch, st.Epoch, "in the same term")
}

// TestClockOfAReplicaJumps: nobody steps down, is condemned, or takes over because of a wall
// clock, and a takeover with a wrong one is as quick as any.
func TestClockOfAReplicaJumps(t *testing.T) {
	clocks := map[string]string{}
	in := newInstallation(t, failoverLab, 2, func(t *testing.T, in *installation) {
		in.prepareServer = func(s *server) {
			clocks[s.name] = filepath.Join(t.TempDir(), "ahead")
			s.env = append(s.env, clockFile+"="+clocks[s.name])
		}
	})
	in.simulate(t, busy)
	in.followersReady(t)
	jump := func(s *server, by time.Duration) {
		t.Helper()
		require.NoError(t, os.WriteFile(clocks[s.name], []byte(by.String()), 0o600))
		s.shows(t, func(page web.ServerStatus) bool { return (time.Until(page.Now) - by).Abs() < time.Minute }, "the clock of %s jumps by %v", s.name, by)
	}
	leader, st := in.leaderIn(t, anyPhase()...)
	for _, by := range []time.Duration{5 * time.Hour, -5 * time.Hour, 400 * 24 * time.Hour} {
		for _, s := range in.replicas {
			jump(s, by)
			_, now := in.leaderIn(t, anyPhase()...)
			st.Assignments = now.Assignments
			in.worksOn(t, leader, st)
		}
	}
	leader.kill(t)
	require.LessOrEqual(t, in.takenOver(t, st.Epoch, time.Now()), maxFailover)
	for _, s := range in.replicas {
		if s != leader {
			require.Zero(t, s.counter(t, "hostsched_needless_takeovers_total"))
		}
	}
	in.requireNothingTwice(t)
}

// TestClockOfTheDatabaseJumps: the leader goes on in its term, and entries get hosts.
func TestClockOfTheDatabaseJumps(t *testing.T) {
	another, clock := testserver.StartWithClock(t)
	db := asRoot{another}
	dsn, err := db.Create("lab")
	require.NoError(t, err)
	lab := storetest.NewLab(t, dsn)
	_, err = simlab.Create(t.Context(), lab.SQL(), simlab.Spec{Seed: 1, Hosts: 40, Boards: 2, Suites: 4, Entries: 800})
	require.NoError(t, err)
	s := newReplica(t, dsn)
	s.start(t)
	s.leadsWithin(t, patience)
	db.assigns(t, patience)
	st := s.mustStatus(t)
	for _, by := range []time.Duration{5 * time.Hour, -5 * time.Hour, 0} {
		clock.Set(t, by)
		require.Eventually(t, func() bool {
			ahead, err := lab.ClockAhead(t.Context())
			require.NoError(t, err)
			return (ahead - by).Abs() < time.Minute
		}, patience, 10*time.Millisecond, "the clock jumps")
		before := storetest.Count(t, db, "SELECT COUNT(*) FROM lab.afe_host_queue_entries WHERE host_id IS NOT NULL")
		db.endJobs(t)
		require.Eventually(t, func() bool {
			return storetest.Count(t, db, "SELECT COUNT(*) FROM lab.afe_host_queue_entries WHERE host_id IS NOT NULL") > before
		}, patience, 20*time.Millisecond, "entries get hosts")
	}
	require.Equal(t, st.Epoch, s.mustStatus(t).Epoch, "in the same term")
}
