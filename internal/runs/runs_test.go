package runs_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/runs"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/store"
)

// TestJobFromItsResetToItsEnd: every step of a job that one agent runs.
func TestJobFromItsResetToItsEnd(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		h := w.host("h1")
		a := w.agent("a1", "h1")
		other := w.agent("a2")
		job := w.job(labapi.JobSpec{Script: "echo hello", Env: map[string]string{"A": "b"}, Secrets: map[string]string{"S": "secret text"}, Keyvals: map[string]string{"k": "v"}})
		e := job.Entries[0]
		w.give(e, h, "Reset")
		require.Empty(t, w.offers(other))

		_, reset := w.claim(a, "Reset")
		require.Equal(t, "Resetting active", w.entry(e))
		require.Equal(t, "Resetting", w.hostIs(h))
		require.Empty(t, w.offers(a), "the host is in use")
		w.begin(reset)
		w.finish(reset, "passed")
		require.Equal(t, "Starting active", w.entry(e))
		require.Equal(t, "Pending", w.hostIs(h))

		claimed, run := w.claim(a, "job")
		require.EqualValues(t, 2, claimed.Hosts[0].Epoch)
		require.Equal(t, []string{"board:eve"}, claimed.Hosts[0].Labels)
		require.Equal(t, e, claimed.Hosts[0].Entry)
		require.Equal(t, "echo hello", claimed.Manifest.Script)
		require.Equal(t, map[string]string{"A": "b", "S": "secret text"}, claimed.Manifest.Env)
		require.Equal(t, []string{"S"}, claimed.Manifest.Secrets)
		require.Equal(t, map[string]string{"k": "v"}, claimed.Manifest.Keyvals)
		require.Equal(t, "root", claimed.Manifest.Owner)
		require.False(t, claimed.Manifest.Fence)
		require.Equal(t, "Starting active", w.entry(e))
		w.begin(run)
		w.begin(run)
		require.Equal(t, "Running active", w.entry(e))
		require.Equal(t, "Running dirty", w.hostIs(h))
		run, err := w.ByToken(w.ctx, claimed.Token)
		require.NoError(t, err)
		code := 0
		_, err = w.State(w.ctx, run, labapi.RunState{Phase: "finishing", ExitCode: &code})
		require.NoError(t, err)
		require.Equal(t, "Gathering active", w.entry(e))
		w.finish(run, "passed")
		require.Equal(t, "Completed complete", w.entry(e))
		require.Equal(t, "Ready dirty", w.hostIs(h))

		run, err = w.ByToken(w.ctx, claimed.Token)
		require.ErrorIs(t, err, runs.ErrRunLost)
		w.finish(run, "passed") // as if the answer was lost
		_, err = w.Touch(w.ctx, run)
		require.ErrorIs(t, err, runs.ErrRunLost)
		_, err = w.State(w.ctx, run, labapi.RunState{Phase: "running"})
		require.ErrorIs(t, err, runs.ErrRunLost)
		require.Equal(t, "Completed complete", w.entry(e))
	})
}

// TestEveryRunIsToldOnce when it is closed, with its result.
func TestEveryRunIsToldOnce(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		var told []string
		w.Closed = func(run runs.Run, result string) { told = append(told, run.Kind+" "+result) }
		h := w.host("h1")
		a := w.agent("a1", "h1")
		w.give(w.job(labapi.JobSpec{}).Entries[0], h, "Reset")
		w.perform(a, "Reset", "passed")
		_, run := w.claim(a, "job")
		w.begin(run)
		w.finish(run, "failed")
		w.finish(run, "failed")
		w.give(w.job(labapi.JobSpec{}).Entries[0], h)
		_, run = w.claim(a, "job")
		w.late(run)
		w.sweep()
		w.sweep()
		require.Equal(t, []string{"Reset passed", "job failed", "job lost"}, told)
	})
}
