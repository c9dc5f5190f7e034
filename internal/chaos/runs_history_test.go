package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// TestRunJudgesFindEachViolation: a history of runs in which nothing is wrong is judged so, and
// each judge finds what it is there for.
func TestRunJudgesFindEachViolation(t *testing.T) {
	run := func(id, kind, host, epoch string) []string {
		return []string{
			"INSERT INTO hostsched_runs (id, claim_key, kind, state, token_hash, lease_ms, lease_until, claimed) VALUES (" + id + ", 'k" + id + "', '" + kind + "', 'claimed', 't" + id + "', 1, 1, 1)",
			"INSERT INTO hostsched_run_hosts (run_id, host_id, epoch) VALUES (" + id + ", " + host + ", " + epoch + ")",
		}
	}
	closed := func(id, state string) []string {
		return []string{"UPDATE hostsched_runs SET state = '" + state + "' WHERE id = " + id}
	}
	entry := func(set string) []string {
		return []string{"UPDATE afe_host_queue_entries SET " + set + " WHERE id = 1"}
	}
	c := judgedRuns(t)
	for name, test := range map[string]struct {
		texts [][]string
		want  []string
	}{
		"nothing wrong": {[][]string{
			run("1", "job", "1", "1"), run("2", "job", "2", "1"), closed("1", "done"), run("3", "Reset", "1", "2"), closed("2", "lost"), run("4", "Reset", "2", "2"),
			entry("active = 1, host_id = 1"), entry("status = 'Running'"), entry("status = 'Parsing', active = 0"), entry("status = 'Completed', complete = 1"), entry("deleted = 1"),
		}, nil},
		"two runs at once":           {[][]string{run("1", "job", "1", "1"), run("2", "Reset", "1", "2")}, []string{"1 hosts with two runs at once"}},
		"an epoch that is old":       {[][]string{run("1", "job", "1", "1"), closed("1", "done"), run("2", "job", "1", "1")}, []string{"1 epochs that did not rise"}},
		"a job after a lost run":     {[][]string{run("1", "Reset", "1", "1"), closed("1", "lost"), run("2", "job", "1", "2")}, []string{"1 jobs that ran directly after a lost run"}},
		"a reservation after such":   {[][]string{run("1", "job", "1", "1"), closed("1", "lost"), run("2", "reserve", "1", "2")}, []string{"1 jobs that ran directly after a lost run"}},
		"a lost run that went on":    {[][]string{run("1", "job", "1", "1"), closed("1", "lost"), closed("1", "done")}, []string{"1 closed runs that changed"}},
		"a run of a former epoch":    {[][]string{run("1", "job", "1", "1"), {"INSERT INTO hostsched_host_epochs (host_id, epoch) VALUES (1, 2)"}, closed("1", "done")}, []string{"1 runs that changed under a former epoch"}},
		"one that renews":            {[][]string{run("1", "job", "1", "1"), {"INSERT INTO hostsched_host_epochs (host_id, epoch) VALUES (1, 2)", "UPDATE hostsched_runs SET lease_until = 7"}}, []string{"1 runs that changed under a former epoch"}},
		"nobody's tasks are runs":    {[][]string{run("1", "job", "9", "1"), closed("1", "lost"), run("2", "job", "9", "2")}, nil},
		"a closed run that renewed":  {[][]string{run("1", "job", "1", "1"), closed("1", "done"), {"UPDATE hostsched_runs SET lease_until = 7"}}, []string{"1 closed runs that changed"}},
		"an entry that begins again": {[][]string{entry("status = 'Failed', complete = 1"), entry("status = 'Queued', complete = 0")}, []string{"1 entries that ended twice"}},
		"an entry that fails later":  {[][]string{entry("status = 'Completed', complete = 1"), entry("status = 'Failed'")}, []string{"1 entries that ended twice"}},
		"an idle entry that runs":    {[][]string{entry("status = 'Running', host_id = 1")}, []string{"1 entries whose flags do not follow their status"}},
		"an active one that is done": {[][]string{entry("status = 'Completed', complete = 1, active = 1, host_id = 1")}, []string{"1 entries whose flags do not follow their status"}},
		"an active one without host": {[][]string{entry("active = 1, host_id = NULL")}, []string{"1 entries whose flags do not follow their status"}},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, c.exec(t.Context(), "DELETE FROM hostsched_runs", "DELETE FROM hostsched_run_hosts", "UPDATE afe_host_queue_entries SET "+asEntered+" WHERE id = 1", "DELETE FROM chaos_runs", "DELETE FROM chaos_wrong", "DELETE FROM hostsched_host_epochs"))
			for _, texts := range test.texts {
				require.NoError(t, c.exec(t.Context(), texts...))
			}
			wrong, err := c.judgeRuns(t.Context(), new(RunsReport))
			require.NoError(t, err)
			require.Equal(t, test.want, wrong)
		})
	}
}

// TestRunsAtRest: a lab that has work left is not at rest, and says so.
func TestRunsAtRest(t *testing.T) {
	c := judgedRuns(t)
	left, _, others, err := c.notAtRest(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, left)
	require.NotZero(t, others)
	require.NoError(t, c.exec(t.Context(), "UPDATE afe_host_queue_entries SET complete = 1, active = 0, status = 'Completed'", "UPDATE afe_special_tasks SET is_complete = 1", "UPDATE afe_hosts SET status = 'Ready', leased = 0"))
	left, hosts, others, err := c.notAtRest(t.Context())
	require.NoError(t, err)
	require.Empty(t, left)
	require.Zero(t, hosts+others)
	require.NoError(t, c.exec(t.Context(), "UPDATE afe_hosts SET status = 'Resetting' WHERE id = 1", "UPDATE afe_hosts SET leased = 1 WHERE id = 2"))
	left, hosts, _, err = c.notAtRest(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"1 hosts are neither ready nor broken", "1 hosts are leased for nobody"}, left)
	require.EqualValues(t, 2, hosts)
}

// asEntered is an entry that waits.
const asEntered = "status = 'Queued', active = 0, complete = 0, host_id = NULL"

// judgedRuns is a lab with the history of runs.
func judgedRuns(t *testing.T) *chaos {
	t.Helper()
	db, err := store.Open(t.Context(), sqldb.Config{DSN: testserver.Database(t)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	_, err = schema.Up(t.Context(), db.DB, schema.Options{})
	require.NoError(t, err)
	c := &chaos{db: db, journal: &journal{began: time.Now()}}
	spec := labSpec
	spec.Hosts, spec.Suites, spec.Entries, spec.LeasedAtFirst = 16, 2, 20, false
	c.lab, err = simlab.Create(t.Context(), db.SQL(), spec)
	require.NoError(t, err)
	require.NoError(t, c.exec(t.Context(), runTexts...))
	require.NoError(t, c.exec(t.Context(), "INSERT INTO hostsched_agent_hosts (host_id, agent_id) VALUES (1, 1), (2, 1)"))
	return c
}
