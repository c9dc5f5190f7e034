package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// TestPlanWritesNothing: a file is the same after it, to the byte, also one that no server ever
// had open, and one that is no lab.
func TestPlanWritesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "lab.db")
	db, err := store.Open(t.Context(), sqldb.Config{DSN: "sqlite:" + path, Create: true})
	require.NoError(t, err)
	_, err = schema.Up(t.Context(), db.DB, schema.Options{})
	require.NoError(t, err)
	_, err = db.SQL().Exec("PRAGMA journal_mode = DELETE")
	require.NoError(t, err)
	require.NoError(t, db.Close())
	empty := filepath.Join(dir, "empty.db")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for file, want := range map[string]int{path: exitOK, empty: exitPlanError} {
		before, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, os.Chmod(file, 0o400))
		for _, command := range []string{"plan", "check"} {
			var out, errs strings.Builder
			code := run(t.Context(), []string{command, "--database-dsn", "sqlite:" + file}, &out, &errs)
			if command == "plan" {
				require.Equal(t, want, code, errs.String())
			}
		}
		after, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, before, after, file)
	}
}

// TestPlanFollowsTheLeader: a plan is made by the rules of the replica that leads. What somebody
// says otherwise goes before, and is told, and so is that no leader answers.
func TestPlanFollowsTheLeader(t *testing.T) {
	alone := newStandalone(t)
	alone.start(t, "--scheduler-policy", "exact", "--scheduler-aging", "5", "--labels-provision-keys", "image,firmware", "--server", "sched-1")
	alone.leads(t)
	at := []string{"plan", "--data-dir", alone.dir}
	const rules = "policy   exact, with 5 points of priority more for each hour waited\n"
	out := prints(t, exitOK, at...)
	require.True(t, strings.HasPrefix(out, rules), out)
	require.NotContains(t, out, "note ")
	require.Contains(t, prints(t, exitOK, append(at, "--policy", "optimal")...), "under exact, by which server sched-1 decides")

	var r ops.PlanReport
	require.NoError(t, json.Unmarshal([]byte(prints(t, exitOK, append(at, "--scheduler-aging", "3", "-o", "json")...)), &r))
	require.Equal(t, scheduler.PolicyExact, r.Policy)
	require.InDelta(t, 3, r.Aging, 0)
	require.Equal(t, "sched-1", r.Server)
	require.Equal(t, `server sched-1 leads shard master and decides otherwise: scheduler.aging is "3" in the configuration and "5" there`, r.PlanRules.Note)

	configured := append(at, "--scheduler-policy", "optimal", "--policy", "exact")
	out = prints(t, exitOK, configured...)
	require.Contains(t, out, `scheduler.policy is "optimal" in the configuration and "exact" there`)
	require.Contains(t, out, "under optimal, which is configured")
	out = prints(t, exitOK, append(at, "--shadow", "--ticks", "1", "--scheduler-aging", "3")...)
	require.Contains(t, out, "note: server sched-1 leads shard master and decides otherwise: scheduler.aging")

	alone.end(t, syscall.SIGKILL)
	out = prints(t, exitOK, at...)
	require.True(t, strings.HasPrefix(out, "policy   optimal\n"), out)
	require.Contains(t, out, "note     policy, aging and labels are those of the configuration: server sched-1 led shard master last, and does not answer: ")
}

// TestPlanShowsThePolicy: the one that is configured, and what another one would gain.
func TestPlanShowsThePolicy(t *testing.T) {
	lab := newShardsLab(t, "http://127.0.0.1:1")
	_, out, errs := lab.run(t, "plan")
	require.Regexp(t, `^policy   optimal\n`, out, errs)
	require.NotContains(t, out, "gain ")
	_, out, _ = lab.run(t, "plan", "--scheduler-policy", "exact")
	require.Regexp(t, `^policy   exact\n`, out)

	code, out, errs := lab.run(t, "plan", "--policy", "exact")
	require.Equal(t, exitChanges, code, errs)
	require.Regexp(t, `^policy   exact\n`, out)
	require.Regexp(t, `(?m)^gain     [-+]\d+: under exact \d+ entries would get a host \(\d+ of them after Provision\), and \d+ \(\d+\) under optimal, which is configured: \+1 of priority 40, -1 of priority 20$`, out)

	_, out, _ = lab.run(t, "plan", "--policy", "optimal", "--scheduler-policy", "exact", "-o", "json")
	var r ops.PlanReport
	require.NoError(t, json.Unmarshal([]byte(out), &r))
	require.Equal(t, scheduler.PolicyOptimal, r.Policy)
	require.Equal(t, scheduler.PolicyExact, r.Gain.Configured)
	require.GreaterOrEqual(t, r.Gain.More(), 0)
	require.Len(t, r.Assignments, r.Gain.Assigned)

	_, out, errs = lab.run(t, "plan", "--shadow", "--policy", "exact", "--ticks", "1")
	require.Regexp(t, `exact would give hosts to [-+]\d+ entries now, and to [-+]\d+\.\d on average over all ticks`, out, errs)

	code, out, errs = lab.run(t, "plan", "--label", "")
	require.Equal(t, exitPlanError, code)
	require.Empty(t, out)
	require.Contains(t, errs, "--label is empty")

	code, out, errs = lab.run(t, "plan", "--policy", "best")
	require.Equal(t, exitPlanError, code)
	require.Empty(t, out)
	require.Contains(t, errs, `"best" is unknown; it must be one of exact, optimal`)
}
