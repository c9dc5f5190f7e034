package ops_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

var scope = store.Scope{Shard: shard.Master}

func openLab(t *testing.T) *store.DB {
	t.Helper()
	db := storetest.NewLab(t, storetest.SQLiteFile(t))
	_, err := simlab.Create(t.Context(), db.SQL(), simlab.Spec{Seed: 1, Hosts: 60, Boards: 2, Suites: 6, Entries: 90})
	require.NoError(t, err)
	return db
}

func lead(t *testing.T, db *store.DB) *store.Leader {
	t.Helper()
	l, err := db.TakeOver(t.Context(), store.Claim{Shard: shard.Master, Token: 1, Cluster: "c", Holder: "other"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

// scheduleOnce is the other scheduler: one tick, with entries left out that it
// is told to overlook.
func scheduleOnce(t *testing.T, db *store.DB, l *store.Leader, overlook int) int {
	t.Helper()
	s, err := db.Snapshot(t.Context(), scope)
	require.NoError(t, err)
	p := scheduler.MakePlan(s)
	require.Greater(t, len(p.Assignments), overlook)
	p.Assignments = p.Assignments[overlook:]
	_, err = l.Apply(t.Context(), p)
	require.NoError(t, err)
	return len(p.Assignments)
}

// TestShadow compares our plans with a scheduler that does the same, and then
// with one that also gives hosts nobody would expect.
func TestShadow(t *testing.T) {
	db := openLab(t)
	l := lead(t, db)
	const overlooked = 3
	given := 0
	var last ops.Agreement
	err := ops.Shadow(t.Context(), ops.Shard{DB: admin.New(db), Scope: scope}, "", time.Millisecond, 3, func(a ops.Agreement) error {
		last = a
		switch a.Ticks {
		case 1:
			given = scheduleOnce(t, db, l, overlooked)
		case 2:
			require.Equal(t, ops.Agreement{Ticks: 2, Given: given, Agreed: given, SameHost: given, Open: overlooked, Policy: scheduler.PolicyExact}, a)
			// One entry that has to wait gets a host behind everybody's back.
			_, err := db.SQL().Exec("UPDATE afe_host_queue_entries SET active = 1, host_id = (SELECT MAX(id) FROM afe_hosts WHERE leased = 0) WHERE id = (SELECT MAX(id) FROM afe_host_queue_entries WHERE active = 0)")
			require.NoError(t, err)
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, given+1, last.Given)
	require.Equal(t, given, last.Agreed)
	require.Equal(t, 1, last.Unexpected)
	require.Less(t, last.Agreed, last.Given)
}

func TestPlanReportChangesNothing(t *testing.T) {
	db := openLab(t)
	ctx := context.Background()
	first, err := ops.MakePlanReport(ctx, ops.Shard{DB: admin.New(db), Scope: scope}, "", ops.PlanFilter{})
	require.NoError(t, err)
	require.NotEmpty(t, first.Assignments)
	require.NotEmpty(t, first.Waiting)
	again, err := ops.MakePlanReport(ctx, ops.Shard{DB: admin.New(db), Scope: scope}, "", ops.PlanFilter{})
	require.NoError(t, err)
	for i := range again.Plan.Assignments {
		// Time passes; nothing else does.
		again.Plan.Assignments[i].QueuedSeconds = first.Plan.Assignments[i].QueuedSeconds
	}
	require.Equal(t, first, again)
}

// TestPlanNamesWhoGetsTheHosts: the entries that get what another waits for are listed, and
// after the tick those that have it, but not all of many.
func TestPlanNamesWhoGetsTheHosts(t *testing.T) {
	db := openLab(t)
	const listed = 20
	reported := func() ops.PlanReport {
		r, err := ops.MakePlanReport(t.Context(), ops.Shard{DB: admin.New(db), Scope: scope}, "", ops.PlanFilter{})
		require.NoError(t, err)
		return r
	}
	r := reported()
	gets := map[int64]bool{}
	for _, a := range r.Assignments {
		gets[a.Entry] = true
	}
	named := 0
	for _, w := range r.Waiting {
		if w.GivenAway > 0 {
			require.Len(t, w.GivenTo, min(listed, w.GivenAway), "%+v", w)
		}
		for _, id := range w.GivenTo {
			require.True(t, gets[id], "entry %d gets a host", id)
			named++
		}
	}
	require.Positive(t, named)

	scheduleOnce(t, db, lead(t, db), 0)
	most := 0
	for _, w := range reported().Waiting {
		require.LessOrEqual(t, len(w.LeasedTo), min(listed, w.Leased))
		for _, id := range w.LeasedTo {
			require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries WHERE active = 1 AND host_id IS NOT NULL AND id = ?", id))
		}
		if len(w.LeasedTo) > 0 {
			require.Regexp(t, fmt.Sprintf("leased \\(to entr(y|ies) %d, ", w.LeasedTo[0]), w.Reason)
		}
		most = max(most, len(w.LeasedTo))
	}
	require.Positive(t, most)
	require.Len(t, scheduler.Listed(make([]scheduler.EntryID, listed+1)), listed)
}

// TestPlanShowsEndsOfHolds: what a tick does to locks and drains is something to do, and is shown.
func TestPlanShowsEndsOfHolds(t *testing.T) {
	db := openLab(t)
	storetest.Exec(t, db, "UPDATE afe_host_queue_entries SET complete = 1, active = 0, status = 'Completed'")
	storetest.Exec(t, db, "UPDATE afe_special_tasks SET is_complete = 1, is_active = 0")
	storetest.Exec(t, db, "UPDATE afe_hosts SET leased = 0, locked = 0, status = 'Ready'")
	reported := func(filter ops.PlanFilter) ops.PlanReport {
		r, err := ops.MakePlanReport(t.Context(), ops.Shard{DB: admin.New(db), Scope: scope}, "", filter)
		require.NoError(t, err)
		return r
	}
	require.False(t, reported(ops.PlanFilter{}).DoesSomething())
	storetest.Exec(t, db, "UPDATE afe_hosts SET locked = 1, lock_time = '2019-04-01 10:00:00' WHERE id = 1")
	storetest.Exec(t, db, "UPDATE afe_hosts SET leased = 1, status = 'Running' WHERE id = 3")
	storetest.Exec(t, db, "UPDATE afe_host_queue_entries SET complete = 0, active = 1, status = 'Running', host_id = 3 WHERE id = 1")
	storetest.Exec(t, db, "INSERT INTO hostsched_hosts (host_id, lock_until, lock_time) VALUES (1, 1000, '2019-04-01 10:00:00')")
	storetest.Exec(t, db, "INSERT INTO hostsched_hosts (host_id, drain_since) VALUES (2, 1000)")
	storetest.Exec(t, db, "INSERT INTO hostsched_hosts (host_id, drain_since, drain_deadline, drain_abort) VALUES (3, 1000, 2000, 1)")
	r := reported(ops.PlanFilter{})
	job := int64(storetest.Count(t, db, "SELECT job_id FROM afe_host_queue_entries WHERE id = 1"))
	require.Len(t, r.Unlocks, 1)
	require.EqualValues(t, 1, r.Unlocks[0].Host)
	require.Len(t, r.Drained, 1)
	require.EqualValues(t, 2, r.Drained[0].Host)
	require.Equal(t, []ops.PlannedAbort{{Entry: 1, Job: job, Host: 3}}, r.Aborts)
	require.True(t, r.DoesSomething())
	require.Equal(t, r.Aborts, reported(ops.PlanFilter{Job: job}).Aborts)
	require.Empty(t, reported(ops.PlanFilter{Job: job}).Unlocks)
	suite := int64(storetest.Count(t, db, "SELECT COALESCE(parent_job_id, id) FROM afe_jobs WHERE id = ?", job))
	require.Equal(t, r.Aborts, reported(ops.PlanFilter{Suite: suite}).Aborts)
	boards := [][]ops.PlannedAbort{reported(ops.PlanFilter{Job: job, Label: "board:b00"}).Aborts, reported(ops.PlanFilter{Job: job, Label: "board:b01"}).Aborts}
	require.ElementsMatch(t, [][]ops.PlannedAbort{r.Aborts, {}}, boards, "the job needs one of the boards")
}

// TestNoPriority: what stands for NULL is seen by nobody.
func TestNoPriority(t *testing.T) {
	for p, want := range map[ops.Priority]string{scheduler.NoPriority: "null", 0: "0", -3: "-3", 70: "70"} {
		text, err := json.Marshal(p)
		require.NoError(t, err)
		require.Equal(t, want, string(text))
		var again ops.Priority
		require.NoError(t, json.Unmarshal(text, &again))
		require.Equal(t, p, again)
	}
	require.Equal(t, "none", ops.Priority(scheduler.NoPriority).String())
}

// TestPlanEndsWithItsContext: nobody waits for a plan that nobody wants any more.
func TestPlanEndsWithItsContext(t *testing.T) {
	db := openLab(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("interrupt signal received"))
	_, err := ops.MakePlanReport(ctx, ops.Shard{DB: admin.New(db), Scope: scope}, "", ops.PlanFilter{})
	require.Error(t, err)
}

// TestPlanUnderAnotherPolicy: a plan says what it would gain over the one that is
// configured, and the shadow says so at every tick.
func TestPlanUnderAnotherPolicy(t *testing.T) {
	db := openLab(t)
	s := ops.Shard{DB: admin.New(db), Scope: scope}
	exact, err := ops.MakePlanReport(t.Context(), s, "", ops.PlanFilter{})
	require.NoError(t, err)
	require.Equal(t, scheduler.PolicyExact, exact.Policy)
	require.Nil(t, exact.Gain)
	optimal, err := ops.MakePlanReport(t.Context(), s, scheduler.PolicyOptimal, ops.PlanFilter{})
	require.NoError(t, err)
	require.Equal(t, scheduler.PolicyOptimal, optimal.Policy)
	require.Equal(t, scheduler.PolicyExact, optimal.Gain.Configured)
	require.Len(t, exact.Assignments, optimal.Gain.ConfiguredAssigned)
	require.Len(t, optimal.Assignments, optimal.Gain.Assigned)
	require.Positive(t, optimal.Gain.More())
	sum, former := 0, ops.Priority(math.MaxInt64)
	for _, g := range optimal.Gain.ByPriority {
		of := func(r ops.PlanReport) (n int) {
			for _, a := range r.Assignments {
				if a.Priority == g.Priority {
					n++
				}
			}
			return n
		}
		require.Equal(t, of(optimal)-of(exact), g.More)
		require.NotZero(t, g.More)
		require.Less(t, g.Priority, former)
		sum, former = sum+g.More, g.Priority
	}
	require.Equal(t, optimal.Gain.More(), sum)
	one := optimal.Assignments[0].Job
	ofOne, err := ops.MakePlanReport(t.Context(), s, scheduler.PolicyOptimal, ops.PlanFilter{Job: one})
	require.NoError(t, err)
	require.Len(t, ofOne.Assignments, ofOne.Gain.Assigned, "the gain is that of the job, too")
	require.Equal(t, provisions(exact), optimal.Gain.ConfiguredProvisions)
	require.Equal(t, provisions(optimal), optimal.Gain.Provisions)
	ticks := 0
	require.NoError(t, ops.Shadow(t.Context(), s, scheduler.PolicyOptimal, time.Millisecond, 3, func(a ops.Agreement) error {
		ticks++
		require.Equal(t, scheduler.PolicyOptimal, a.Policy)
		require.Equal(t, optimal.Gain.More(), a.More)
		require.InDelta(t, float64(optimal.Gain.More()), a.Mean, 0.001, "nobody schedules, so it stays the same")
		return nil
	}))
	require.Equal(t, 3, ticks)
}

func provisions(r ops.PlanReport) int {
	n := 0
	for _, a := range r.Assignments {
		if slices.Contains(a.Tasks, "Provision") {
			n++
		}
	}
	return n
}
