package runs_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/runs"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/store"
)

// reserve reserves a host for an hour.
func (w *world) reserve(host int64) labapi.Run {
	w.t.Helper()
	job := w.job(labapi.JobSpec{Own: labapi.OwnReserve, MaxRuntime: "1h"})
	w.give(job.Entries[0], host)
	out, err := w.ClaimOwn(w.ctx, root, job.ID, labapi.OwnClaimInput{ClaimKey: w.key()})
	require.NoError(w.t, err)
	require.NotNil(w.t, out.Claimed)
	run, err := w.ByToken(w.ctx, out.Claimed.Token)
	require.NoError(w.t, err)
	_, err = w.State(w.ctx, run, labapi.RunState{Phase: "running"})
	require.NoError(w.t, err)
	return w.shown(run.ID)
}

func (w *world) shown(run int64) labapi.Run {
	w.t.Helper()
	shown, err := w.Get(w.ctx, run)
	require.NoError(w.t, err)
	return shown
}

func TestAReservationHoldsItsHostUntilItEnds(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		host := w.host("h1")
		run := w.reserve(host)
		require.Equal(t, "reserve", run.Kind)
		require.Equal(t, "running", run.State)
		require.Equal(t, []labapi.RunHost{{Hostname: "h1", Epoch: 1, Entry: run.Hosts[0].Entry}}, run.Hosts)
		require.Equal(t, time.Hour, run.LeaseUntil.Sub(run.Claimed), "nobody renews it")

		longer, err := w.Extend(w.ctx, root, run.ID, 30*time.Minute)
		require.NoError(t, err)
		require.Equal(t, 90*time.Minute, longer.LeaseUntil.Sub(run.Claimed))
		_, err = w.Extend(w.ctx, root, run.ID, 7*24*time.Hour)
		require.ErrorIs(t, err, lab.ErrInput)
		bob := access.Caller{Login: "bob", Role: access.User}
		_, err = w.Extend(w.ctx, bob, run.ID, time.Hour)
		require.ErrorIs(t, err, access.ErrDenied)
		_, err = w.Release(w.ctx, bob, run.ID)
		require.ErrorIs(t, err, access.ErrDenied)

		require.Zero(t, w.sweep().Released)
		storetest.Exec(t, db, "UPDATE hostsched_own_jobs SET until = 1")
		require.Equal(t, 1, w.sweep().Released)
		require.Equal(t, "done", w.shown(run.ID).State)
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_special_tasks WHERE host_id = ? AND task = 'Cleanup'", host), "it was cleaned")
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries WHERE status = 'Completed'"))
		_, err = w.Extend(w.ctx, root, run.ID, time.Hour)
		require.ErrorIs(t, err, lab.ErrConflict)
	})
}

func TestAReservationIsReleased(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		host := w.host("h1")
		w.agent("a1", "h1")
		run := w.reserve(host)
		mine, err := w.List(w.ctx, runs.Filter{Login: "root", Kind: "reserve", Host: "h1", Open: true, Limit: 10})
		require.NoError(t, err)
		require.Len(t, mine.Items, 1)
		done, err := w.Release(w.ctx, root, run.ID)
		require.NoError(t, err)
		require.Equal(t, "done", done.State)
		require.Equal(t, "passed", done.Result)
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_special_tasks WHERE host_id = ? AND task = 'Cleanup' AND is_complete = 0", host), "its agent cleans it")
		mine, err = w.List(w.ctx, runs.Filter{Login: "root", Open: true, Limit: 10})
		require.NoError(t, err)
		require.Empty(t, mine.Items)
		_, err = w.Release(w.ctx, root, run.ID)
		require.ErrorIs(t, err, lab.ErrConflict)
		_, err = w.Release(w.ctx, root, 4711)
		require.ErrorIs(t, err, lab.ErrNotFound)
	})
}

func TestAnAbortedReservationEnds(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		run := w.reserve(w.host("h1"))
		_, err := w.lab.AbortJob(w.ctx, root, run.Job, "needed elsewhere")
		require.NoError(t, err)
		require.Equal(t, 1, w.sweep().Released)
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries WHERE complete = 1 AND status = 'Aborted'"))
	})
}
