package ops_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/store/admin"
)

// TestPlanOfSomeJobs: what is left of a plan concerns the job, the suite or the label that
// was asked for, and the reasons add up.
func TestPlanOfSomeJobs(t *testing.T) {
	db := openLab(t)
	s := ops.Shard{DB: admin.New(db), Scope: scope}
	plan := func(f ops.PlanFilter) ops.PlanReport {
		r, err := ops.MakePlanReport(t.Context(), s, "", f)
		require.NoError(t, err)
		entries := 0
		for _, sum := range r.WaitingByReason {
			require.Positive(t, sum.Entries)
			entries += sum.Entries
		}
		require.Len(t, r.Waiting, entries, "every entry that waits has one reason")
		return r
	}
	all := plan(ops.PlanFilter{})
	require.NotEmpty(t, all.Assignments)
	require.NotEmpty(t, all.Waiting)

	job := all.Assignments[0].Job
	one := plan(ops.PlanFilter{Job: job})
	require.NotEmpty(t, one.Assignments)
	for _, a := range one.Assignments {
		require.Equal(t, job, a.Job)
	}
	require.Empty(t, one.Releases)

	suite := all.Assignments[0].Suite
	ofSuite := plan(ops.PlanFilter{Suite: suite})
	require.Less(t, len(ofSuite.Assignments), len(all.Assignments))
	for _, a := range ofSuite.Assignments {
		require.Equal(t, suite, a.Suite)
	}

	labels := map[string]int{}
	for _, label := range []string{"board:b00", "board:b01"} {
		r := plan(ops.PlanFilter{Label: label})
		labels[label] = len(r.Assignments) + len(r.Waiting)
		require.Positive(t, labels[label])
		require.Equal(t, labels[label], storetest.Count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries e JOIN afe_labels l ON l.name = ? WHERE e.meta_host = l.id OR e.job_id IN (SELECT d.job_id FROM afe_jobs_dependency_labels d WHERE d.label_id = l.id)", label))
	}
	require.False(t, plan(ops.PlanFilter{Job: 4711}).DoesSomething())
	_, err := ops.MakePlanReport(t.Context(), s, "", ops.PlanFilter{Label: "board:none"})
	require.ErrorIs(t, err, admin.ErrInput)
}
