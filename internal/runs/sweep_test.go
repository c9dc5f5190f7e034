package runs_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/runs"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

func (w *world) sweep() runs.Swept {
	w.t.Helper()
	done, err := w.Sweep(w.ctx)
	require.NoError(w.t, err)
	return done
}

// late makes the lease of a run end long ago.
func (w *world) late(run runs.Run) {
	w.t.Helper()
	require.EqualValues(w.t, 1, storetest.Exec(w.t, w.db, "UPDATE hostsched_runs SET lease_until = lease_until - 86400000 WHERE id = ?", run.ID))
}

// TestLostRuns: what had begun fails, what had not is made again; in both cases the host is
// reset first, by a claimant that is told to end what is left of the lost run.
func TestLostRuns(t *testing.T) {
	for _, c := range []struct {
		name   string
		begun  bool
		retry  *labapi.RetrySpec
		then   string
		queued int
	}{
		{"not begun", false, nil, "Queued ", 1},
		{"begun", true, nil, "Failed complete", 0},
		{"begun, and may be tried again", true, &labapi.RetrySpec{Infra: 1}, "Queued ", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
				w := newWorld(t, db)
				h := w.host("h1")
				a := w.agent("a1", "h1")
				e := w.job(labapi.JobSpec{Retry: c.retry}).Entries[0]
				w.give(e, h)
				claimed, run := w.claim(a, "job")
				if c.begun {
					w.begin(run)
				}
				require.False(t, w.sweep().Any())
				w.late(run)
				require.Equal(t, 1, w.sweep().Lost)
				require.Equal(t, c.then, w.entry(e))
				require.Equal(t, c.queued, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries WHERE host_id IS NULL"))
				_, err := w.ByToken(w.ctx, claimed.Token)
				require.ErrorIs(t, err, runs.ErrRunLost)
				before := storetest.Dump(t, db)
				_, err = w.Finish(w.ctx, run, labapi.RunFinish{Result: "passed"})
				require.ErrorIs(t, err, runs.ErrRunLost)
				_, err = w.State(w.ctx, run, labapi.RunState{Phase: "running"})
				require.ErrorIs(t, err, runs.ErrRunLost)
				require.Equal(t, before, storetest.Dump(t, db), "a stale call changes nothing")

				reset, again := w.claim(a, "Reset")
				require.True(t, reset.Manifest.Fence)
				require.EqualValues(t, 2, reset.Hosts[0].Epoch)
				w.finish(again, "passed")
				require.Equal(t, "Ready", w.hostIs(h))
			})
		})
	}
}

// TestLostTasks: a task that is lost failed, and its host is repaired.
func TestLostTasks(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		h := w.host("h1")
		a := w.agent("a1", "h1")
		e := w.job(labapi.JobSpec{}).Entries[0]
		w.give(e, h, "Reset")
		_, run := w.claim(a, "Reset")
		w.late(run)
		require.Equal(t, 1, w.sweep().Lost)
		require.Equal(t, "Queued ", w.entry(e))
		repair, again := w.claim(a, "Repair")
		require.True(t, repair.Manifest.Fence)
		w.finish(again, "failed")
		require.Equal(t, "Repair Failed", w.hostIs(h))
		require.Equal(t, 2, storetest.Count(t, db, "SELECT failures FROM hostsched_host_epochs WHERE host_id = ?", h))
	})
}

// TestATaskThatIsLostIsNotDone, also on a host whose failures count for nothing: nobody knows
// what goes on there.
func TestATaskThatIsLostIsNotDone(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		h := w.host("h1")
		a := w.agent("a1", "h1")
		storetest.Exec(t, db, "UPDATE afe_hosts SET protection = ? WHERE id = ?", scheduler.DoNotVerify, h)
		e := w.job(labapi.JobSpec{}).Entries[0]
		w.give(e, h, "Reset")
		_, run := w.claim(a, "Reset")
		w.late(run)
		require.Equal(t, 1, w.sweep().Lost)
		require.Equal(t, "Queued ", w.entry(e))
		repair, _ := w.claim(a, "Repair")
		require.True(t, repair.Manifest.Fence)
	})
}

// TestNothingIsLostBecauseServersWereAway: for one lease after they came back.
func TestNothingIsLostBecauseServersWereAway(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		h := w.host("h1")
		a := w.agent("a1", "h1")
		e := w.job(labapi.JobSpec{}).Entries[0]
		w.give(e, h)
		_, run := w.claim(a, "job")
		w.begin(run)
		w.sweep()
		storetest.Exec(t, db, "UPDATE hostsched_facts SET value = CAST(value AS DECIMAL(20)) - 60000 WHERE name = 'alive_at'")
		w.late(run)
		require.Zero(t, w.sweep().Lost)
		require.Zero(t, w.sweep().Lost)
		require.Equal(t, "Running active", w.entry(e))
		storetest.Exec(t, db, "UPDATE hostsched_facts SET value = '1' WHERE name = 'no_loss_before'")
		require.Equal(t, 1, w.sweep().Lost)
	})
}

// TestTwoSweepersAtOnce do each thing once.
func TestTwoSweepersAtOnce(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		a := w.agent("a1")
		for _, name := range []string{"h1", "h2", "h3"} {
			h := w.host(name)
			_, err := w.lab.PatchAgent(w.ctx, root, "a1", labapi.AgentPatch{AddHosts: []string{name}})
			require.NoError(t, err)
			w.give(w.job(labapi.JobSpec{}).Entries[0], h)
		}
		for _, o := range w.offers(a) {
			claimed, err := w.Claim(w.ctx, a, labapi.ClaimInput{ClaimKey: w.key(), Offer: o})
			require.NoError(t, err)
			run, err := w.ByToken(w.ctx, claimed.Token)
			require.NoError(t, err)
			w.begin(run)
			w.late(run)
		}
		var wg sync.WaitGroup
		errs := make([]error, 3)
		for i := range errs {
			other := runs.New(w.lab)
			wg.Go(func() { _, errs[i] = other.Sweep(w.ctx) })
		}
		wg.Wait()
		require.NoError(t, errors.Join(errs...))
		require.Equal(t, 3, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries WHERE status = 'Failed' AND complete = 1"))
		require.Equal(t, 3, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_special_tasks WHERE task = 'Reset'"))
		require.Equal(t, 3, storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_events WHERE kind = 'run.lost'"))
	})
}

// TestAbort of what waits, of what is prepared, and of what runs.
func TestAbort(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		h := w.host("h1")
		a := w.agent("a1", "h1")
		abort := func(job int64) {
			t.Helper()
			_, err := w.lab.AbortJob(w.ctx, root, job, "enough")
			require.NoError(t, err)
		}
		job := w.job(labapi.JobSpec{})
		abort(job.ID)
		require.Equal(t, "Aborted complete", w.entry(job.Entries[0]))

		job = w.job(labapi.JobSpec{})
		w.give(job.Entries[0], h)
		abort(job.ID)
		require.Empty(t, w.offers(a))
		w.sweep()
		require.Equal(t, "Aborted complete", w.entry(job.Entries[0]))
		require.Equal(t, "Ready", w.hostIs(h))

		job = w.job(labapi.JobSpec{})
		w.give(job.Entries[0], h, "Reset")
		_, reset := w.claim(a, "Reset")
		abort(job.ID)
		w.sweep()
		require.Equal(t, "Resetting active", w.entry(job.Entries[0]), "until its task has stopped")
		answer, err := w.Touch(w.ctx, reset)
		require.NoError(t, err)
		require.Equal(t, "aborted", answer.Stop.Reason)
		_, err = w.Finish(w.ctx, reset, labapi.RunFinish{Result: "failed", StopReason: "aborted"})
		require.NoError(t, err)
		require.Equal(t, "Aborted complete", w.entry(job.Entries[0]))
		w.perform(a, "Cleanup", "passed")
		require.Equal(t, "Ready", w.hostIs(h))

		job = w.job(labapi.JobSpec{})
		w.give(job.Entries[0], h)
		_, run := w.claim(a, "job")
		w.begin(run)
		abort(job.ID)
		_, _, stop, err := w.Renew(w.ctx, a.Agent, a.Session, "", []labapi.AgentRun{{Run: run.ID, State: "running"}})
		require.NoError(t, err)
		require.Len(t, stop, 1)
		require.Equal(t, "aborted", stop[0].Reason)
		w.finish(run, "failed")
		require.Equal(t, "Aborted complete", w.entry(job.Entries[0]))
		w.perform(a, "Cleanup", "passed")
		require.Equal(t, "Ready", w.hostIs(h))
	})
}

// TestTimesOfJobs: a job that waited or ran for too long is ended.
func TestTimesOfJobs(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		h := w.host("h1")
		a := w.agent("a1", "h1")
		waiting := w.job(labapi.JobSpec{Timeout: "1h"}).Entries[0]
		running := w.job(labapi.JobSpec{Timeout: "1h"})
		w.give(running.Entries[0], h)
		_, run := w.claim(a, "job")
		w.begin(run)
		require.False(t, w.sweep().Any())
		storetest.Exec(t, db, "UPDATE afe_jobs SET created_on = '2020-01-01 00:00:00'")
		require.Equal(t, 1, w.sweep().Ended, "all that waits is looked at seldom")
		require.Equal(t, 1, func() int {
			other := runs.New(w.lab)
			done, err := other.Sweep(w.ctx)
			require.NoError(t, err)
			return done.Ended
		}())
		require.Equal(t, "Aborted complete", w.entry(waiting))
		answer, err := w.Touch(w.ctx, run)
		require.NoError(t, err)
		require.Equal(t, "aborted", answer.Stop.Reason)
		w.finish(run, "failed")
		require.Equal(t, "Aborted complete", w.entry(running.Entries[0]))

		w.perform(a, "Cleanup", "passed")
		e := w.job(labapi.JobSpec{MaxRuntime: "1m"}).Entries[0]
		w.give(e, h)
		_, run = w.claim(a, "job")
		w.begin(run)
		storetest.Exec(t, db, "UPDATE hostsched_runs SET claimed = claimed - 100000, started = started - 100000")
		require.Equal(t, 1, w.sweep().Stopped)
		answer, err = w.Touch(w.ctx, run)
		require.NoError(t, err)
		require.Equal(t, "timeout", answer.Stop.Reason)
		storetest.Exec(t, db, "UPDATE hostsched_runs SET stop_since = stop_since - 86400000, lease_until = lease_until - 86400000")
		_, err = w.Touch(w.ctx, run)
		require.NoError(t, err)
		require.Equal(t, 1, w.sweep().Lost, "one that does not stop renews nothing")
		require.Equal(t, "Failed complete", w.entry(e))
	})
}

// TestOwnJob: who submits a job to run it himself gets all its hosts together; hosts that no
// agent serves are ready at once.
func TestOwnJob(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		a := w.agent("a1")
		h1, h2 := w.host("h1"), w.host("h2")
		job := w.job(labapi.JobSpec{Own: labapi.OwnRun, Count: 2})
		in := labapi.OwnClaimInput{ClaimKey: w.key()}
		claim := func() labapi.OwnClaimed {
			t.Helper()
			out, err := w.ClaimOwn(w.ctx, root, job.ID, in)
			require.NoError(t, err)
			return out
		}
		require.Equal(t, labapi.JobQueued, claim().State)
		w.give(job.Entries[0], h1, "Reset")
		out := claim()
		require.Nil(t, out.Claimed)
		require.NotEmpty(t, out.Waiting)
		require.Equal(t, "Pending active", w.entry(job.Entries[0]))
		w.give(job.Entries[1], h2, "Cleanup", "Verify")
		out = claim()
		require.NotNil(t, out.Claimed)
		require.Len(t, out.Claimed.Hosts, 2)
		require.Equal(t, out.Claimed, claim().Claimed, "the same key gets the same answer")
		require.Equal(t, labapi.JobRunning, out.State)
		_, err := w.ClaimOwn(w.ctx, root, job.ID, labapi.OwnClaimInput{ClaimKey: w.key()})
		require.NoError(t, err)
		require.Empty(t, w.offers(a))
		run, err := w.ByToken(w.ctx, out.Claimed.Token)
		require.NoError(t, err)
		w.begin(run)
		w.finish(run, "failed")
		require.Equal(t, "Failed complete", w.entry(job.Entries[0]))
		require.Equal(t, "Ready dirty", w.hostIs(h1))
		require.Equal(t, labapi.JobFailed, claim().State)
		_, err = w.ClaimOwn(w.ctx, access.Caller{Login: "ann", Role: access.Admin}, job.ID, in)
		require.ErrorIs(t, err, access.ErrDenied)

		job = w.job(labapi.JobSpec{Own: labapi.OwnReserve, MaxRuntime: "1h", Hosts: []string{"h1"}})
		storetest.Exec(t, db, "UPDATE hostsched_own_jobs SET seen = seen - 90000")
		w.sweepWhole()
		require.Equal(t, "Aborted complete", w.entry(job.Entries[0]), "nobody asks for it any more")
		for range 2 {
			out, err = w.ClaimOwn(w.ctx, root, job.ID, labapi.OwnClaimInput{ClaimKey: w.key()})
			require.NoError(t, err)
			require.Equal(t, labapi.OwnClaimed{State: labapi.JobAborted, Deserted: true}, out, "who asks too late hears why, also twice")
		}
		job = w.job(labapi.JobSpec{Own: labapi.OwnRun, Hosts: []string{"h1"}})
		_, err = w.lab.AbortJob(w.ctx, root, job.ID, "test")
		require.NoError(t, err)
		storetest.Exec(t, db, "UPDATE hostsched_own_jobs SET seen = seen - 90000")
		out, err = w.ClaimOwn(w.ctx, root, job.ID, labapi.OwnClaimInput{ClaimKey: w.key()})
		require.NoError(t, err)
		require.Equal(t, labapi.OwnClaimed{State: labapi.JobAborted}, out, "a person ended it")
		job = w.job(labapi.JobSpec{Own: labapi.OwnReserve, MaxRuntime: "1h", Hosts: []string{"h1"}})
		w.give(job.Entries[0], h1)
		in.ClaimKey = w.key()
		out = claim()
		require.Equal(t, "reserve", out.Claimed.Manifest.Kind)
		storetest.Exec(t, db, "UPDATE hostsched_own_jobs SET until = 1")
		require.Equal(t, 1, w.sweep().Stopped)
	})
}

// sweepWhole sweeps as a server does that has just begun, which looks at all that waits.
func (w *world) sweepWhole() {
	w.t.Helper()
	_, err := runs.New(w.lab).Sweep(w.ctx)
	require.NoError(w.t, err)
}

// TestHostsWithoutAgent: their tasks count as done.
func TestHostsWithoutAgent(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		h := w.host("h1")
		e := w.job(labapi.JobSpec{}).Entries[0]
		w.give(e, h, "Reset")
		require.Equal(t, 1, w.sweep().AtOnce)
		require.Equal(t, "Starting active", w.entry(e))
		require.False(t, w.sweep().Any())
		why, err := w.lab.ExplainJob(w.ctx, int64(storetest.Count(t, db, "SELECT job_id FROM afe_host_queue_entries WHERE id = ?", e)))
		require.NoError(t, err)
		require.Contains(t, why.Text, "no agent serves host h1")

		h2 := w.host("h2")
		w.agent("a1", "h2")
		job := w.job(labapi.JobSpec{})
		w.give(job.Entries[0], h2, "Reset")
		storetest.Exec(t, db, "UPDATE hostsched_agents SET session = 's', seen = 1000000")
		why, err = w.lab.ExplainJob(w.ctx, job.ID)
		require.NoError(t, err)
		require.Equal(t, "has host h2, and waits for its first task; agent a1: not heard since 1970-01-01T00:16:40Z", why.Text)
	})
}

// TestWhatWasLeftBehind is found by the sweeps: a host that nobody uses, an entry for which
// nothing goes on, a task that nobody runs.
func TestWhatWasLeftBehind(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		h1, h2, h3 := w.host("h1"), w.host("h2"), w.host("h3")
		w.agent("a1", "h1", "h2", "h3")
		storetest.Exec(t, db, "UPDATE afe_hosts SET status = 'Running', leased = 1 WHERE id = ?", h1)
		e := w.job(labapi.JobSpec{}).Entries[0]
		w.give(e, h2)
		storetest.Exec(t, db, "UPDATE afe_host_queue_entries SET status = 'Running', started_on = "+db.Dialect.Now+" WHERE id = ?", e)
		other := w.job(labapi.JobSpec{}).Entries[0]
		w.give(other, h3, "Reset")
		storetest.Exec(t, db, "UPDATE afe_special_tasks SET is_active = 1 WHERE host_id = ?", h3)
		storetest.Exec(t, db, "UPDATE afe_host_queue_entries SET status = 'Resetting' WHERE id = ?", other)
		w.sweep()
		require.Equal(t, "Failed complete", w.entry(e))
		require.Equal(t, "Queued ", w.entry(other))
		require.Equal(t, "Repair", w.text("SELECT task FROM afe_special_tasks WHERE is_complete = 0 AND host_id = ?", h3))
		require.Equal(t, "Reset", w.text("SELECT task FROM afe_special_tasks WHERE is_complete = 0 AND host_id = ?", h1))
		require.Equal(t, "Reset", w.text("SELECT task FROM afe_special_tasks WHERE is_complete = 0 AND host_id = ?", h2))
		for range 3 {
			w.sweep()
		}
		require.Equal(t, 3, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_special_tasks WHERE is_complete = 0"))
	})
}

// TestAgentsOfFormerProcesses: runs of which a new process does not know are lost, and all of
// them after a reboot. Another spool may be that of another machine, on which the runs go on.
func TestAgentsOfFormerProcesses(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		w.Lease = time.Hour
		h := w.host("h1")
		a := w.agent("a1", "h1")
		a.Session = "disk.s1"
		storetest.Exec(t, db, "UPDATE hostsched_agents SET boot_id = 'b1'")
		for _, c := range []struct {
			name, session, boot string
			named               bool
			lost                bool
		}{
			{"the answer to the claim is on the way", "disk.s1", "b1", false, false},
			{"restarted", "disk.s2", "b1", true, false},
			{"a copy of its machine", "other.s2", "b2", false, false},
			{"a copy beside it", "other.s2", "b1", false, false},
			{"a copy that names it", "other.s3", "b2", true, false},
			{"one whose spool begins alike", "dis.s2", "b1", false, false},
			{"restarted, and forgotten", "disk.s2", "b1", false, true},
			{"booted again", "disk.s2", "b2", true, true},
			{"forgotten by one that says nothing of its spool", "s2", "b1", false, true},
		} {
			e := w.job(labapi.JobSpec{}).Entries[0]
			w.give(e, h)
			_, run := w.claim(a, "job")
			w.begin(run)
			var named []labapi.AgentRun
			if c.named {
				named = append(named, labapi.AgentRun{Run: run.ID, State: "running"})
			}
			renewed, forget, _, err := w.Renew(w.ctx, a.Agent, c.session, c.boot, named)
			require.NoError(t, err)
			require.Equal(t, c.named && !c.lost, len(renewed) == 1, c.name)
			require.Equal(t, c.named && c.lost, len(forget) == 1, c.name)
			want := "Running active"
			if c.lost {
				want = "Failed complete"
			}
			require.Equal(t, want, w.entry(e), c.name)
			if !c.lost {
				w.finish(run, "passed")
			} else {
				w.perform(a, "Reset", "passed")
			}
		}
	})
}

// TestWhatFinishedJobsLeftIsDeleted, and nothing of jobs that go on.
func TestWhatFinishedJobsLeftIsDeleted(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		h := w.host("h1")
		a := w.agent("a1", "h1")
		over, waits := w.job(labapi.JobSpec{}), w.job(labapi.JobSpec{})
		w.give(over.Entries[0], h)
		_, run := w.claim(a, "job")
		w.begin(run)
		w.finish(run, "passed")
		storetest.Exec(t, db, "INSERT INTO afe_ineligible_host_queues (job_id, host_id) VALUES (?, ?)", waits.ID, h)
		own := []labapi.Submitted{w.job(labapi.JobSpec{Own: labapi.OwnRun}), w.job(labapi.JobSpec{Own: labapi.OwnRun}), w.job(labapi.JobSpec{Own: labapi.OwnRun})}
		for _, job := range own[:2] {
			_, err := w.lab.AbortJob(w.ctx, root, job.ID, "enough")
			require.NoError(t, err)
		}
		storetest.Exec(t, db, "UPDATE hostsched_own_jobs SET seen = seen - 90000000 WHERE job_id = ?", own[0].ID)

		w.sweepWhole()
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_ineligible_host_queues"))
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_ineligible_host_queues WHERE job_id = ?", waits.ID))
		require.Equal(t, 2, storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_own_jobs"))
		require.Zero(t, storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_own_jobs WHERE job_id = ?", own[0].ID))
		out, err := w.ClaimOwn(w.ctx, root, own[1].ID, labapi.OwnClaimInput{ClaimKey: w.key()})
		require.NoError(t, err)
		require.Equal(t, labapi.JobAborted, out.State, "it can still be asked what became of it")
	})
}

// TestARunThatItsAgentDoesNotKnowIsGivenUp long before its lease ends, and no other run of
// the agent.
func TestARunThatItsAgentDoesNotKnowIsGivenUp(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		h1, h2 := w.host("h1"), w.host("h2")
		a := w.agent("a1", "h1", "h2")
		storetest.Exec(t, db, "UPDATE hostsched_agents SET session = ?", a.Session)
		e1, e2 := w.job(labapi.JobSpec{}).Entries[0], w.job(labapi.JobSpec{}).Entries[0]
		w.give(e1, h1)
		_, known := w.claim(a, "job")
		w.begin(known)
		w.give(e2, h2)
		w.claim(a, "job")
		minute := func() {
			storetest.Exec(t, db, "UPDATE hostsched_runs SET claimed = claimed - 60000, lease_until = lease_until - 60000 WHERE state <> 'lost'")
			_, _, _, err := w.Renew(w.ctx, a.Agent, a.Session, "", []labapi.AgentRun{{Run: known.ID, State: "running"}})
			require.NoError(t, err)
		}
		minute()
		require.Zero(t, w.sweep().Lost, "the agent was not heard of since")
		require.NoError(t, w.lab.NoteSeen(w.ctx, []lab.AgentSeen{{ID: a.Agent}}))
		require.Equal(t, 1, w.sweep().Lost)
		require.Equal(t, "Running active", w.entry(e1))
		require.Equal(t, "Queued ", w.entry(e2), "it had not begun")
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_events WHERE kind = 'run.lost' AND reason = 'its agent does not know of it'"))
		minute()
		require.NoError(t, w.lab.NoteSeen(w.ctx, []lab.AgentSeen{{ID: a.Agent}}))
		require.Zero(t, w.sweep().Lost)
	})
}

// TestEntriesWithoutHostEndWithTheirChildren: an entry that needs no host, as other clients give
// to suites, is complete when all entries of the suite's jobs are.
func TestEntriesWithoutHostEndWithTheirChildren(t *testing.T) {
	for _, c := range []struct{ second, want string }{{"passed", "Completed complete"}, {"failed", "Failed complete"}} {
		storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
			w := newWorld(t, db)
			h := w.host("h1")
			a := w.agent("a1", "h1")
			suite, _, err := w.lab.SubmitSuite(w.ctx, lab.Submission{Who: root, MaxPriority: 1000}, labapi.SuiteInput{
				Name: "a suite", Jobs: []labapi.JobSpec{{Name: "one", Labels: []string{"board:eve"}}, {Name: "two", Labels: []string{"board:eve"}}},
			})
			require.NoError(t, err)
			entryOf := func(job int64) int64 {
				return int64(storetest.Count(t, db, "SELECT id FROM afe_host_queue_entries WHERE job_id = ?", job))
			}
			storetest.Exec(t, db, "INSERT INTO afe_host_queue_entries (job_id, status, active, complete, aborted, deleted, execution_subdir) VALUES (?, 'Queued', 0, 0, 0, 0, '')", suite.ID)
			parent := entryOf(suite.ID)
			children, err := sqldb.SelectIDs(w.ctx, db.Pool, "SELECT id FROM afe_jobs WHERE parent_job_id = ? ORDER BY id", suite.ID)
			require.NoError(t, err)
			for i, result := range []string{"passed", c.second} {
				w.sweepWhole()
				require.Equal(t, "Queued ", w.entry(parent))
				w.give(entryOf(children[i]), h)
				_, run := w.claim(a, "job")
				w.begin(run)
				w.finish(run, result)
				storetest.Exec(t, db, "UPDATE afe_special_tasks SET is_complete = 1")
			}
			w.sweepWhole()
			require.Equal(t, c.want, w.entry(parent))
			require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_events WHERE entry_id = ? AND kind IN ('entry.completed', 'entry.failed')", parent))
		})
	}
}
