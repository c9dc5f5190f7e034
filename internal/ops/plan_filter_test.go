package ops_test

import (
	"fmt"
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
}

// TestPlanOfWhatDoesNotExist: nobody takes a mistyped job for one that does not wait.
func TestPlanOfWhatDoesNotExist(t *testing.T) {
	db := openLab(t)
	s := ops.Shard{Shard: admin.Shard{Name: scope.Shard}, DB: admin.New(db), Scope: scope}
	ended := storetest.Count(t, db, "SELECT MAX(id) FROM afe_jobs")
	suite := storetest.Count(t, db, "SELECT MAX(parent_job_id) FROM afe_jobs")
	_, err := db.SQL().Exec("UPDATE afe_host_queue_entries SET complete = 1, status = 'Completed'")
	require.NoError(t, err)
	empty := storetest.Count(t, db, "SELECT MIN(id) FROM afe_jobs WHERE parent_job_id IS NOT NULL AND id NOT IN (SELECT parent_job_id FROM afe_jobs WHERE parent_job_id IS NOT NULL)")
	_, err = db.SQL().Exec("INSERT INTO afe_job_keyvals (job_id, `key`, value) VALUES (?, 'suite_min_duts', '2')", empty)
	require.NoError(t, err)
	_, err = db.SQL().Exec("INSERT INTO afe_labels (name, invalid, only_if_needed) VALUES ('board:unused', 0, 0)")
	require.NoError(t, err)
	for _, c := range []struct {
		filter  ops.PlanFilter
		refused string // empty if it exists, and nothing of it waits
		note    string
	}{
		{ops.PlanFilter{}, "", ""},
		{ops.PlanFilter{Job: int64(ended)}, "", fmt.Sprintf("nothing of job %d waits for a host in shard master", ended)},
		{ops.PlanFilter{Suite: int64(suite)}, "", fmt.Sprintf("nothing of suite %d waits for a host in shard master", suite)},
		{ops.PlanFilter{Label: "board:unused"}, "", "nothing of jobs that depend on board:unused waits for a host in shard master"},
		{ops.PlanFilter{Job: int64(ended), Suite: int64(suite)}, "", fmt.Sprintf("nothing of job %d of suite %d waits for a host in shard master", ended, suite)},
		{ops.PlanFilter{Job: 4711}, "plan for job 4711: there is no such job in ", ""},
		{ops.PlanFilter{Suite: 4711}, "plan for suite 4711: there is no such suite in ", ""},
		{ops.PlanFilter{Suite: int64(ended)}, fmt.Sprintf("plan for suite %d: there is no such suite in ", ended), ""},
		{ops.PlanFilter{Suite: int64(empty)}, "", fmt.Sprintf("nothing of suite %d waits for a host in shard master", empty)},
		{ops.PlanFilter{Label: "board:none"}, `plan for label "board:none": there is no such label in `, ""},
		{ops.PlanFilter{Job: int64(ended), Suite: 4711}, "plan for suite 4711: ", ""},
	} {
		r, err := ops.MakePlanReport(t.Context(), s, "", c.filter)
		if c.refused != "" {
			require.ErrorIs(t, err, ops.ErrNotFound)
			require.ErrorContains(t, err, c.refused)
			require.ErrorContains(t, err, " list' shows those that there are")
			continue
		}
		require.NoError(t, err)
		require.False(t, r.DoesSomething())
		require.Equal(t, c.note, r.Note)
	}
}
