package lab_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// attentionOf are the hosts, agents and jobs of what needs attention, by kind.
func attentionOf(t *testing.T, l *lab.Lab) map[string][]string {
	t.Helper()
	items, err := l.Attention(t.Context())
	require.NoError(t, err)
	out := map[string][]string{}
	for _, a := range items {
		what := a.Host + a.Agent
		if a.Job != 0 {
			what = fmt.Sprint("job ", a.Job)
		}
		require.NotEmpty(t, a.Text)
		out[a.Kind] = append(out[a.Kind], what)
	}
	return out
}

func submit(t *testing.T, l *lab.Lab, spec labapi.JobSpec) int64 {
	t.Helper()
	out, _, err := l.SubmitJob(t.Context(), lab.Submission{Who: root, MaxPriority: 100}, spec)
	require.NoError(t, err)
	return out.ID
}

func addRoot(t *testing.T, l *lab.Lab) {
	t.Helper()
	_, err := l.AddUser(t.Context(), root, "root")
	require.NoError(t, err)
}

// TestAttention: each kind of trouble is named once it is there, and nothing else is.
func TestAttention(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		a := newAgentLab(t, db)
		addRoot(t, a.Lab)
		for _, name := range []string{"h4", "h5"} {
			_, _, err := a.AddHost(t.Context(), root, labapi.HostInput{Hostname: name})
			require.NoError(t, err)
		}
		until := time.Now().Add(time.Hour)
		for name, hold := range map[string]lab.Hold{
			"h3": {Action: labapi.ActionLock, Reason: "new cable", Until: &until}, "h4": {Action: labapi.ActionDrain, Reason: "move", Deadline: &until}, "h5": {Action: labapi.ActionLock, Reason: "for good"},
		} {
			_, _, err := a.HoldHost(t.Context(), root, name, hold)
			require.NoError(t, err)
		}
		require.Empty(t, attentionOf(t, a.Lab))

		past := time.Now().Add(-time.Hour).UnixMilli()
		for _, statement := range []string{
			"INSERT INTO hostsched_host_epochs (host_id, bad_since, bad_reason) SELECT id, 1, '3 failed repairs' FROM afe_hosts WHERE hostname = 'h1'",
			"UPDATE afe_hosts SET status = 'Repair Failed' WHERE hostname = 'h2'",
			fmt.Sprintf("UPDATE hostsched_hosts SET lock_until = %d WHERE lock_until IS NOT NULL", past),
			fmt.Sprintf("UPDATE hostsched_hosts SET drain_deadline = %d WHERE drain_deadline IS NOT NULL", past),
			fmt.Sprintf("UPDATE hostsched_agents SET session = 's', seen = %d", past),
		} {
			storetest.Exec(t, db, statement)
		}
		job := submit(t, a.Lab, labapi.JobSpec{Name: "never", Labels: []string{"board:none"}, Script: "true", AllowUnplaceable: true})
		agents, err := a.Agents(t.Context(), "", 1)
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			return fmt.Sprint(attentionOf(t, a.Lab)) == fmt.Sprint(map[string][]string{
				labapi.AttentionBad: {"h1"}, labapi.AttentionBroken: {"h2"}, labapi.AttentionOverdue: {"h3", "h4"},
				labapi.AttentionUnreachable: {agents.Items[0].Name}, labapi.AttentionNever: {fmt.Sprint("job ", job)},
			})
		}, 10*time.Second, 50*time.Millisecond, "what is there: %v", attentionOf(t, a.Lab))
	})
}

// TestQueue: entries that ask for the same and wait for the same reason are one group, with the
// planner's words and numbers.
func TestQueue(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		l := lab.New(db, whole())
		addRoot(t, l)
		for i := range 3 {
			_, _, err := l.AddHost(t.Context(), root, labapi.HostInput{Hostname: fmt.Sprint("h", i), Labels: []string{"board:a"}})
			require.NoError(t, err)
			_, _, err = l.HoldHost(t.Context(), root, fmt.Sprint("h", i), lab.Hold{Action: labapi.ActionLock, Reason: "x"})
			require.NoError(t, err)
		}
		first := submit(t, l, labapi.JobSpec{Name: "one", Labels: []string{"board:a"}, Script: "true"})
		second := submit(t, l, labapi.JobSpec{Name: "two", Labels: []string{"board:a"}, Count: 2, Script: "true"})
		submit(t, l, labapi.JobSpec{Name: "named", Hosts: []string{"h1"}, Priority: 5, Script: "true"})
		var groups []labapi.RequestGroup
		require.Eventually(t, func() bool {
			var err error
			groups, err = l.Queue(t.Context())
			require.NoError(t, err)
			return len(groups) == 2
		}, 10*time.Second, 50*time.Millisecond)
		require.Equal(t, "h1", groups[0].Host)
		g := groups[1]
		require.Equal(t, []string{"board:a"}, g.Labels)
		require.Equal(t, 3, g.Entries)
		require.Equal(t, []int64{first, second}, g.Jobs)
		require.Equal(t, "root", g.Owner)
		require.Equal(t, 3, g.Matching)
		require.Equal(t, 3, g.Locked)
		require.False(t, g.Never)
		require.Contains(t, g.Reason, "3 locked")
	})
}

// TestHostHealth: the hours of a host tell the gravest that happened in them, and its failures
// are counted beside those of hosts with the same labels.
func TestHostHealth(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		l := lab.New(db, whole())
		addRoot(t, l)
		for i, label := range []string{"a", "a", "b"} {
			_, _, err := l.AddHost(t.Context(), root, labapi.HostInput{Hostname: fmt.Sprint("h", i), Labels: []string{label}})
			require.NoError(t, err)
		}
		ended := func(host, status string, hoursAgo int) {
			at := "datetime('now', '-%d hours')"
			if db.Dialect.Server != sqldb.ServerSQLite {
				at = "NOW() - INTERVAL %d HOUR"
			}
			at = fmt.Sprintf(at, hoursAgo)
			job := submit(t, l, labapi.JobSpec{Name: "one", Labels: []string{"a"}, Script: "true"})
			storetest.Exec(t, db, fmt.Sprintf("UPDATE afe_host_queue_entries SET host_id = (SELECT id FROM afe_hosts WHERE hostname = '%s'), status = '%s', complete = 1, started_on = %s, finished_on = %s WHERE job_id = %d", host, status, at, at, job))
		}
		for _, e := range []struct {
			host, status string
			ago          int
		}{{"h0", "Failed", 30}, {"h0", "Completed", 50}, {"h1", "Completed", 5}, {"h1", "Completed", 6}, {"h2", "Failed", 5}} {
			ended(e.host, e.status, e.ago)
		}
		health, err := l.HostHealth(t.Context(), "h0")
		require.NoError(t, err)
		require.Equal(t, labapi.HealthCounts{Finished: 2, Failed: 1}, health.HealthCounts)
		var states []string
		for _, h := range health.Hours {
			states = append(states, h.State)
		}
		require.Equal(t, []string{labapi.HourPassed, labapi.HourFailed}, states)
		require.Equal(t, []labapi.HealthPeers{{Label: "a", Hosts: 1, HealthCounts: labapi.HealthCounts{Finished: 2}}}, health.Peers)

		_, _, err = l.HoldHost(t.Context(), root, "h0", lab.Hold{Action: labapi.ActionLock, Reason: "x"})
		require.NoError(t, err)
		health, err = l.HostHealth(t.Context(), "h0")
		require.NoError(t, err)
		require.Equal(t, labapi.HourHeld, health.Hours[len(health.Hours)-1].State)
		_, err = l.HostHealth(t.Context(), "none")
		require.ErrorIs(t, err, lab.ErrNotFound)
	})
}
