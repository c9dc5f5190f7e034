package app

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/metrics"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
)

// startApp starts a server on a database, with an etcd of its own.
func startApp(t *testing.T, dsn string, args ...string) *App {
	t.Helper()
	args = append([]string{"--server", "lab-1", "--database-dsn", dsn, "--etcd-endpoints", testserver.Etcd(t).Endpoint}, args...)
	a, err := New(Options{Config: load(t, args...), Listen: "127.0.0.1:0"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Stop(context.WithoutCancel(t.Context()))) })
	require.NoError(t, a.Start(t.Context()))
	return a
}

// ledLab is the lab of a server once that leads it, with a user.
func ledLab(t *testing.T, a *App) (*lab.Lab, access.Caller) {
	t.Helper()
	require.Eventually(t, func() bool { return leads(a) && a.lab.Load() != nil }, patience, 10*time.Millisecond)
	l, root := a.lab.Load(), access.Caller{Login: "root", Role: access.Admin}
	_, err := l.AddUser(t.Context(), root, "root")
	require.NoError(t, err)
	return l, root
}

// TestWhoeverLeadsSweeps: a job whose host no agent serves is prepared by the sweeps, unless
// Autotest runs the jobs.
func TestWhoeverLeadsSweeps(t *testing.T) {
	for _, runner := range []string{"auto", "autotest"} {
		t.Run(runner, func(t *testing.T) {
			l, root := ledLab(t, startApp(t, newLab(t), "--runner", runner))
			_, _, err := l.AddHost(t.Context(), root, labapi.HostInput{Hostname: "host1"})
			require.NoError(t, err)
			job, _, err := l.SubmitJob(t.Context(), lab.Submission{Who: root, MaxPriority: 100}, labapi.JobSpec{Name: "a job", Hosts: []string{"host1"}})
			require.NoError(t, err)
			entry := func() labapi.Entry {
				j, err := l.Job(t.Context(), job.ID)
				require.NoError(t, err)
				return j.Entries[0]
			}
			require.Eventually(t, func() bool { return entry().Active }, patience, 10*time.Millisecond)
			if runner == "auto" {
				require.Eventually(t, func() bool { return entry().Status == "Starting" }, patience, 10*time.Millisecond)
				return
			}
			testserver.Throughout(t, func() bool { return entry().Status == "Queued" }, 3*sweepEvery, 50*time.Millisecond)
		})
	}
}

// TestHostOfAnAgentThatNeverCalled is given to nobody, and another one is.
func TestHostOfAnAgentThatNeverCalled(t *testing.T) {
	l, root := ledLab(t, startApp(t, newLab(t)))
	_, _, err := l.AddHost(t.Context(), root, labapi.HostInput{Hostname: "host1", Labels: []string{"pool:x"}})
	require.NoError(t, err)
	_, err = l.AddAgent(t.Context(), root, labapi.AgentInput{Name: "agent", Hosts: []string{"host1"}})
	require.NoError(t, err)
	job, _, err := l.SubmitJob(t.Context(), lab.Submission{Who: root, MaxPriority: 100}, labapi.JobSpec{Name: "a job", Labels: []string{"pool:x"}})
	require.NoError(t, err)
	host := func() string {
		j, err := l.Job(t.Context(), job.ID)
		require.NoError(t, err)
		return j.Entries[0].Host
	}
	testserver.Throughout(t, func() bool { return host() == "" }, time.Second, 50*time.Millisecond)
	why, err := l.ExplainJob(t.Context(), job.ID)
	require.NoError(t, err)
	require.Contains(t, why.Text, "1 without an agent that takes anything (host1 (agent agent: it has never called))")
	_, _, err = l.AddHost(t.Context(), root, labapi.HostInput{Hostname: "host2", Labels: []string{"pool:x"}})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return host() == "host2" }, patience, 10*time.Millisecond)
}

// TestSweepsThatFail are in the status and in a metric for as long as they fail.
func TestSweepsThatFail(t *testing.T) {
	dsn := newLab(t)
	db := storetest.Open(t, dsn)
	storetest.Exec(t, db, "ALTER TABLE hostsched_own_jobs RENAME TO elsewhere")
	a := startApp(t, dsn)
	require.Eventually(t, func() bool { return a.failing.all()[workSweeps] != "" }, patience, 10*time.Millisecond)
	page := func(path string) string {
		w := httptest.NewRecorder()
		a.server.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Body.String()
	}
	require.Contains(t, page("/v1/status"), `"sweeps":"cannot look after runs`)
	require.Regexp(t, `hostsched_background_failures_total{work="sweeps"} [1-9]`, page("/metrics"))
	storetest.Exec(t, db, "ALTER TABLE elsewhere RENAME TO hostsched_own_jobs")
	require.Eventually(t, func() bool { return len(a.failing.all()) == 0 }, patience, 10*time.Millisecond)
	require.NotContains(t, page("/v1/status"), "failing")
	now, err := countLab(t.Context(), a)
	require.NoError(t, err)
	require.Contains(t, now.Agents, labapi.AgentOnline)
	require.Contains(t, now.Holds, metrics.Hold{Kind: "lock"})
	require.True(t, now.Guard)
	for _, line := range []string{`hostsched_role{role="primary"} 1`, "hostsched_etcd_up 1", "hostsched_database_up 1", `hostsched_paused{shard="master"} 0`} {
		require.Contains(t, page("/metrics"), line)
	}
}
