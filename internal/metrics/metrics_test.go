package metrics_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/metrics"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

func text(m *metrics.Metrics) string {
	r := httptest.NewRecorder()
	m.Handler().ServeHTTP(r, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return r.Body.String()
}

// events are all that can happen to a shard.
func events(m *metrics.Metrics, name shard.Name, priorities ...int64) {
	var r replica.Report
	for _, p := range priorities {
		r.Result.Applied.Assignments = append(r.Result.Applied.Assignments, scheduler.Assignment{Priority: p, QueuedSeconds: 1})
	}
	m.Serves(name)
	m.Leading(name, 1, time.Second)
	m.Ticked(name, r)
	m.Checked(name, admin.NoFindings())
	m.Failed(name, store.ErrFenced)
	m.Ended(name, nil)
}

// TestAnyName: no name of a shard ends the process.
func TestAnyName(t *testing.T) {
	for _, name := range []shard.Name{"", "l\xe4b", "a\nb", "\x00", "läb", "{shard=\"x\"}"} {
		m := metrics.New(prometheus.NewRegistry())
		events(m, name, 1)
		require.Contains(t, text(m), "hostsched_leader")
	}
}

func TestMetricsOfARemovedShard(t *testing.T) {
	m := metrics.New(prometheus.NewRegistry())
	m.Serves("stays")
	before := text(m)
	events(m, "goes", 1, 2)
	require.NotEqual(t, before, text(m))
	m.Forget("goes")
	require.Equal(t, before, text(m))
}

// TestManyPriorities: jobs with many priorities make no more than a bounded number of
// series, and none is lost.
func TestManyPriorities(t *testing.T) {
	m := metrics.New(prometheus.NewRegistry())
	var all []int64
	for p := range int64(1000) {
		all = append(all, p)
	}
	events(m, "a", all...)
	require.LessOrEqual(t, strings.Count(text(m), "hostsched_queued_seconds_count"), 33)
	require.Contains(t, text(m), `hostsched_queued_seconds_count{priority="other",shard="a"} 968`)
}

// TestWhatOnlyALeaderKnows: when a term ends, its values end with it.
func TestWhatOnlyALeaderKnows(t *testing.T) {
	m := metrics.New(prometheus.NewRegistry())
	for _, name := range []shard.Name{"stays", "over"} {
		m.Leading(name, 7, time.Second)
		m.Ticked(name, replica.Report{Result: store.Result{Applied: scheduler.Plan{
			Waiting: make([]scheduler.Waiting, 3), Problems: make([]scheduler.Problem, 2),
		}}, Contended: 4})
		m.Checked(name, admin.NoFindings())
	}
	m.Ended("over", nil)
	m.Ticked("over", replica.Report{Contended: 4}) // the last tick outlasted the term
	m.Ended("over", nil)
	after := text(m)
	for _, gauge := range []string{"leader", "token", "last_tick_timestamp_seconds", "entries_without_host", "malformed_rows", "locked_rows"} {
		require.Contains(t, after, "hostsched_"+gauge+`{shard="over"} 0`)
		require.NotContains(t, after, "hostsched_"+gauge+`{shard="stays"} 0`)
	}
	require.Regexp(t, `hostsched_inspection_findings{[^}]*shard="stays"}`, after)
	require.NotRegexp(t, `hostsched_inspection_findings{[^}]*shard="over"}`, after)
}

// TestLockedRows: what other clients changed and what they keep locked are different
// things, and a lock that was found again is counted again.
func TestLockedRows(t *testing.T) {
	m := metrics.New(prometheus.NewRegistry())
	m.Serves("a")
	locked := replica.Report{Contended: 3, Result: store.Result{
		Conflicts: make([]scheduler.EntryID, 5), Contended: make([]scheduler.EntryID, 7), Locked: make([]store.LockedRow, 2),
	}}
	m.Ticked("a", locked)
	m.Ticked("a", locked)
	for _, line := range []string{`locked_rows_total{shard="a"} 4`, `locked_rows{shard="a"} 3`, `conflicts_total{shard="a"} 10`} {
		require.Contains(t, text(m), "hostsched_"+line)
	}
	m.Ticked("a", replica.Report{})
	for _, line := range []string{`locked_rows_total{shard="a"} 4`, `locked_rows{shard="a"} 0`} {
		require.Contains(t, text(m), "hostsched_"+line)
	}
}

// TestRunsAndWorkInTheBackground have series before anything was counted.
func TestRunsAndWorkInTheBackground(t *testing.T) {
	m := metrics.New(prometheus.NewRegistry())
	m.Background("sweeps")
	require.Contains(t, text(m), `hostsched_runs_total{kind="job",result="lost"} 0`)
	require.Contains(t, text(m), `hostsched_background_failures_total{work="sweeps"} 0`)
	m.RunClosed("job", "lost")
	m.BackgroundFailed("sweeps")
	require.Contains(t, text(m), `hostsched_runs_total{kind="job",result="lost"} 1`)
	require.Contains(t, text(m), `hostsched_background_failures_total{work="sweeps"} 1`)
}
