package runs_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/store"
)

// TestBadHost: one that failed again and again is held until a person unlocks it, who trusts
// it again.
func TestBadHost(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		h := w.host("h1")
		a := w.agent("a1", "h1")
		for range 3 {
			require.Nil(t, w.hostOf("h1").Bad)
			e := w.job(labapi.JobSpec{}).Entries[0]
			w.give(e, h)
			_, run := w.claim(a, "job")
			w.begin(run)
			w.late(run)
			require.Equal(t, 1, w.sweep().Lost)
			// Nothing that ends well comes in between.
			storetest.Exec(t, db, "DELETE FROM afe_special_tasks")
			storetest.Exec(t, db, "UPDATE afe_hosts SET status = 'Ready', leased = 0")
		}
		bad := w.hostOf("h1").Bad
		require.NotNil(t, bad)
		require.Contains(t, bad.Reason, "3 failed repairs or lost runs in a row")
		require.NotNil(t, bad.Since)
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_events WHERE kind = 'host.bad'"))
		e, err := w.lab.ExplainHost(w.ctx, "h1")
		require.NoError(t, err)
		require.False(t, e.Given)
		require.Contains(t, e.Text, "held as bad")
		pools, err := w.lab.Pools(w.ctx, "board:eve")
		require.NoError(t, err)
		require.Equal(t, 1, pools[0].Held)
		job := w.job(labapi.JobSpec{})
		why, err := w.lab.ExplainJob(w.ctx, job.ID)
		require.NoError(t, err)
		require.Contains(t, why.Text, "held as bad")

		_, _, err = w.lab.HoldHost(w.ctx, root, "h1", lab.Hold{Action: labapi.ActionUnlock})
		require.NoError(t, err)
		require.Nil(t, w.hostOf("h1").Bad)
		require.Zero(t, storetest.Count(t, db, "SELECT failures FROM hostsched_host_epochs"))
	})
}

func (w *world) hostOf(name string) labapi.Host {
	w.t.Helper()
	h, _, err := w.lab.Host(w.ctx, name)
	require.NoError(w.t, err)
	return h
}
