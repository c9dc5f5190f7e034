package runs_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/runs"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/store"
)

// TestOneOfManyClaimantsWins: the others hear that the offer is gone, and nothing of theirs is
// left.
func TestOneOfManyClaimantsWins(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		h := w.host("h1")
		a := w.agent("a1", "h1")
		for round, kind := range []string{"Reset", "job"} {
			if round == 0 {
				w.give(w.job(labapi.JobSpec{}).Entries[0], h, "Reset")
			}
			offer := w.offers(a)[0]
			require.Equal(t, kind, offer.Kind)
			var wg sync.WaitGroup
			errs, claims := make([]error, 6), make([]labapi.Claimed, 6)
			for i := range errs {
				key := w.key()
				wg.Go(func() {
					claims[i], errs[i] = w.Claim(w.ctx, a, labapi.ClaimInput{Session: "s1", ClaimKey: key, Offer: offer})
				})
			}
			wg.Wait()
			won := 0
			for i, err := range errs {
				if err == nil {
					won++
					run, err := w.ByToken(w.ctx, claims[i].Token)
					require.NoError(t, err)
					w.finish(run, "passed")
					continue
				}
				require.ErrorIs(t, err, runs.ErrOfferGone)
			}
			require.Equal(t, 1, won)
			require.Equal(t, round+1, storetest.Count(t, db, "SELECT epoch FROM hostsched_host_epochs"))
		}
	})
}

// TestClaimAgain: the same key gets the same run, also at the same time, and another claimant
// with the same key does not.
func TestClaimAgain(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		h := w.host("h1")
		a, b := w.agent("a1", "h1"), w.agent("a2")
		w.give(w.job(labapi.JobSpec{}).Entries[0], h)
		in := labapi.ClaimInput{Session: "s1", ClaimKey: w.key(), Offer: w.offers(a)[0]}
		var wg sync.WaitGroup
		errs, claims := make([]error, 4), make([]labapi.Claimed, 4)
		for i := range errs {
			wg.Go(func() { claims[i], errs[i] = w.Claim(w.ctx, a, in) })
		}
		wg.Wait()
		require.NoError(t, errors.Join(errs...))
		for _, c := range claims {
			require.Equal(t, claims[0], c)
		}
		_, err := w.Claim(w.ctx, b, in)
		require.ErrorIs(t, err, runs.ErrOfferGone)
		run, err := w.ByToken(w.ctx, claims[0].Token)
		require.NoError(t, err)
		w.finish(run, "passed")
		_, err = w.Claim(w.ctx, a, in)
		require.ErrorIs(t, err, runs.ErrOfferGone)
	})
}

// TestTwoThatFinishAtOnceStartTheirJob once: each sees the other.
func TestTwoThatFinishAtOnceStartTheirJob(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		const hosts, rounds = 3, 5
		var ids []int64
		var names []string
		for i := range hosts {
			names = append(names, fmt.Sprint("h", i))
			ids = append(ids, w.host(names[i]))
		}
		a := w.agent("a1", names...)
		for range rounds {
			job := w.job(labapi.JobSpec{Count: hosts, Synch: hosts})
			for i, e := range job.Entries {
				w.give(e, ids[i], "Reset")
			}
			var wg sync.WaitGroup
			errs := make([]error, hosts)
			for i, o := range w.offers(a) {
				claimed, err := w.Claim(w.ctx, a, labapi.ClaimInput{ClaimKey: w.key(), Offer: o})
				require.NoError(t, err)
				run, err := w.ByToken(w.ctx, claimed.Token)
				require.NoError(t, err)
				wg.Go(func() { _, errs[i] = w.Finish(w.ctx, run, labapi.RunFinish{Result: "passed"}) })
			}
			wg.Wait()
			require.NoError(t, errors.Join(errs...))
			require.Equal(t, hosts, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries WHERE job_id = ? AND status = 'Starting' AND execution_subdir = 'group0'", job.ID))
			claimed, run := w.claim(a, "job")
			require.Len(t, claimed.Hosts, hosts)
			w.begin(run)
			w.finish(run, "passed")
			require.Equal(t, hosts, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries WHERE job_id = ? AND status = 'Completed'", job.ID))
		}
	})
}

// TestGroupOfDifferentAgents is offered to none of them.
func TestGroupOfDifferentAgents(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		h1, h2 := w.host("h1"), w.host("h2")
		a, b := w.agent("a1", "h1"), w.agent("a2", "h2")
		job := w.job(labapi.JobSpec{Count: 2, Synch: 2})
		w.give(job.Entries[0], h1, "Reset")
		w.give(job.Entries[1], h2, "Reset")
		w.perform(a, "Reset", "passed")
		w.perform(b, "Reset", "passed")
		require.Equal(t, "Starting active", w.entry(job.Entries[0]))
		require.Empty(t, w.offers(a))
		require.Empty(t, w.offers(b))
		_, err := w.Claim(w.ctx, a, labapi.ClaimInput{ClaimKey: w.key(), Offer: labapi.Offer{Kind: "job", Job: job.ID, Entries: job.Entries, Hosts: []string{"h1", "h2"}}})
		require.ErrorIs(t, err, runs.ErrOfferGone)
	})
}

// TestResults: what each result means for the entry and the host.
func TestResults(t *testing.T) {
	for result, want := range map[string]struct{ entry, host, task string }{
		"passed":   {"Completed complete", "Ready dirty", ""},
		"failed":   {"Failed complete", "Ready dirty", ""},
		"unusable": {"Failed complete", "Running dirty", "Repair"},
		"infra":    {"Failed complete", "Ready dirty", ""},
	} {
		t.Run(result, func(t *testing.T) {
			storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
				w := newWorld(t, db)
				h := w.host("h1")
				a := w.agent("a1", "h1")
				e := w.job(labapi.JobSpec{}).Entries[0]
				w.give(e, h)
				_, run := w.claim(a, "job")
				w.begin(run)
				w.finish(run, result)
				require.Equal(t, want.entry, w.entry(e))
				require.Equal(t, want.host, w.hostIs(h))
				require.Equal(t, want.task, w.text("SELECT task FROM afe_special_tasks"))
			})
		})
	}
}

// TestGivenBack: a run that could not begin is made again, but not for ever.
func TestGivenBack(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		h := w.host("h1")
		a := w.agent("a1", "h1")
		e := w.job(labapi.JobSpec{}).Entries[0]
		for try := range 4 {
			w.give(e, h)
			_, run := w.claim(a, "job")
			_, err := w.Finish(w.ctx, run, labapi.RunFinish{Result: "infra", NotRunReason: "disk-full"})
			require.NoError(t, err)
			if try == 3 {
				require.Equal(t, "Failed complete", w.entry(e))
				return
			}
			require.Equal(t, "Queued ", w.entry(e))
			w.perform(a, "Reset", "passed")
		}
	})
}

// TestLogsBeforeTheEnd: a run is closed when the servers have its logs.
func TestLogsBeforeTheEnd(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		h := w.host("h1")
		a := w.agent("a1", "h1")
		e := w.job(labapi.JobSpec{}).Entries[0]
		w.give(e, h)
		_, run := w.claim(a, "job")
		w.begin(run)
		in := labapi.RunFinish{Result: "passed", Streams: []labapi.StreamEnd{{Stream: "stdout", Size: 5}}}
		answer, err := w.Finish(w.ctx, run, in)
		require.ErrorIs(t, err, runs.ErrPartsMissing)
		require.True(t, answer.Unfinished)
		require.Equal(t, "Running active", w.entry(e))
		storetest.Exec(t, db, "INSERT INTO hostsched_logs (run_id, stream, size) VALUES (?, 'stdout', 5)", run.ID)
		_, err = w.Finish(w.ctx, run, in)
		require.NoError(t, err)
		require.Equal(t, "Completed complete", w.entry(e))
	})
}

// TestListOfRuns: people find runs by job, host and state.
func TestListOfRuns(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db)
		h := w.host("h1")
		a := w.agent("a1", "h1")
		job := w.job(labapi.JobSpec{})
		w.give(job.Entries[0], h, "Reset")
		w.perform(a, "Reset", "passed")
		_, run := w.claim(a, "job")
		w.begin(run)
		all, err := w.List(w.ctx, runs.Filter{Job: job.ID, Host: "h1", Limit: 1})
		require.NoError(t, err)
		require.Len(t, all.Items, 1)
		require.NotEmpty(t, all.After)
		got := all.Items[0]
		require.Equal(t, "a1", got.Agent)
		require.Equal(t, "running", got.State)
		require.Equal(t, "h1", got.Hosts[0].Hostname)
		require.NotNil(t, got.Started)
		done, err := w.List(w.ctx, runs.Filter{State: "done", Limit: 10})
		require.NoError(t, err)
		require.Len(t, done.Items, 1)
		require.Equal(t, "Reset", done.Items[0].Kind)
		require.Equal(t, "passed", done.Items[0].Result)
		again, err := w.Get(w.ctx, got.ID)
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}
