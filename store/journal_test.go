package store_test

import (
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

// noting is a leader that keeps the journal, or not.
func noting(t *testing.T, db *store.DB, token int64, journal bool) *store.Leader {
	t.Helper()
	l, err := db.TakeOver(t.Context(), store.Claim{Shard: shard.Master, Token: token, Cluster: "test", Holder: "o'leader\\", Journal: journal})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

// journal reads the events of a kind, in order.
func journal(t *testing.T, db *store.DB, kind string) (out []store.Event) {
	t.Helper()
	rows, err := db.SQL().QueryContext(t.Context(), "SELECT kind, shard, host_id, job_id, entry_id, who, subject, reason FROM hostsched_events WHERE kind = ? ORDER BY id", kind)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	for rows.Next() {
		var e store.Event
		var host, job, entry sql.NullInt64
		require.NoError(t, rows.Scan(&e.Kind, &e.Shard, &host, &job, &entry, &e.Who, &e.Subject, &e.Reason))
		e.Host, e.Job, e.Entry = host.Int64, job.Int64, entry.Int64
		out = append(out, e)
	}
	require.NoError(t, rows.Err())
	return out
}

// TestJournalTellsWhatWasDone: every assignment, start, release and term, no more and no
// less, also if chunks fail or rows were changed meanwhile.
func TestJournalTellsWhatWasDone(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		fillLargeLab(t, db)
		l := noting(t, db, 10, true)
		require.Equal(t, []store.Event{{Kind: "shard.taken_over", Shard: "master", Who: "o'leader\\", Subject: "master", Reason: "epoch 1, token 10"}}, journal(t, db, "shard.taken_over"))
		l.SmallChunks()
		plan := storetest.FullPlan(t, db)
		storetest.Exec(t, db, "UPDATE afe_hosts SET locked = 1 WHERE id = ?", plan.Assignments[3].Host)
		fail := errors.New("fails once")
		db.FailInChunk(nth(2, func() error { return fail }))
		first, err := l.Apply(t.Context(), plan)
		require.ErrorIs(t, err, fail)
		db.FailInChunk(nil)
		second, err := l.Apply(t.Context(), storetest.FullPlan(t, db))
		require.NoError(t, err)
		var assigned, started []int64
		reasons := map[string]bool{}
		for _, a := range append(first.Applied.Assignments, second.Applied.Assignments...) {
			assigned = append(assigned, int64(a.Entry), int64(a.Host), int64(a.Job))
			if a.Status == scheduler.StatusStarting {
				started = append(started, int64(a.Entry))
			}
		}
		var gotAssigned, gotStarted []int64
		for _, e := range journal(t, db, "host.assigned") {
			require.Equal(t, "o'leader\\", e.Who)
			gotAssigned = append(gotAssigned, e.Entry, e.Host, e.Job)
			reasons[strings.Fields(e.Reason)[0]] = true
		}
		for _, e := range journal(t, db, "entry.started") {
			gotStarted = append(gotStarted, e.Entry)
		}
		require.ElementsMatch(t, assigned, gotAssigned)
		require.ElementsMatch(t, started, gotStarted)
		require.Contains(t, reasons, "minimum")
		require.Contains(t, reasons, "suite")

		storetest.Exec(t, db, "UPDATE afe_special_tasks SET is_complete = 1")
		storetest.Exec(t, db, "UPDATE afe_host_queue_entries SET active = 0, complete = 1, status = 'Completed' WHERE active = 1")
		storetest.Exec(t, db, "UPDATE afe_hosts SET status = 'Ready', locked = 0")
		plan = storetest.FullPlan(t, db)
		kept := plan.Releases[0].Host
		storetest.Exec(t, db, "UPDATE afe_hosts SET locked = 1 WHERE id = ?", kept)
		third, err := l.Apply(t.Context(), scheduler.Plan{Releases: plan.Releases, Basis: plan.Basis})
		require.NoError(t, err)
		require.Len(t, third.Applied.Releases, len(plan.Releases)-1)
		released := journal(t, db, "host.released")
		require.Len(t, released, len(third.Applied.Releases))
		for i, e := range released {
			require.Equal(t, int64(third.Applied.Releases[i].Host), e.Host)
		}

		next := noting(t, db, 11, true)
		require.Equal(t, []store.Event{{Kind: "shard.term_ended", Shard: "master", Who: "o'leader\\", Subject: "master", Reason: "lease expired"}}, journal(t, db, "shard.term_ended"))
		require.NoError(t, next.EndTerm(t.Context(), store.TermEnd{Planned: true, Cause: "handed over"}))
		ended := journal(t, db, "shard.term_ended")
		require.Len(t, ended, 2)
		require.Equal(t, "handed over", ended[1].Reason)
	})
}

// TestLeaseOfAFrontendTaskIsNoted, and one that did not happen is not.
func TestLeaseOfAFrontendTaskIsNoted(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillLab(t, db)
		storetest.Exec(t, db, "UPDATE afe_hosts SET leased = 0, locked = 0")
		l := noting(t, db, 10, true)
		storetest.Exec(t, db, "UPDATE afe_special_tasks SET is_complete = 1")
		for _, host := range []int{1, 2} {
			storetest.Exec(t, db, "INSERT INTO afe_special_tasks ("+simlab.TaskColumns+") VALUES (?, 'Repair', NULL, 1, 0, 0, CURRENT_TIMESTAMP)", host)
		}
		plan := storetest.FullPlan(t, db)
		require.Len(t, plan.Leases, 2)
		storetest.Exec(t, db, "UPDATE afe_hosts SET locked = 1 WHERE id = 2")
		_, err := l.Apply(t.Context(), scheduler.Plan{Leases: plan.Leases, Basis: plan.Basis})
		require.NoError(t, err)
		require.Equal(t, []store.Event{{Kind: "host.assigned", Shard: "master", Who: "o'leader\\", Host: 1, Reason: "frontend task"}}, journal(t, db, "host.assigned"))
	})
}

func TestJournalThatIsOff(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillLab(t, db)
		l := noting(t, db, 10, false)
		res, err := l.Apply(t.Context(), storetest.FullPlan(t, db))
		require.NoError(t, err)
		require.NotEmpty(t, res.Applied.Assignments)
		require.NoError(t, l.EndTerm(t.Context(), store.TermEnd{Planned: true, Cause: "handed over"}))
		require.Zero(t, storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_events"))
	})
}
