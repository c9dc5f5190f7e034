package web_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/certs"
	"github.com/hostsched/hostsched/internal/metrics"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/web"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
)

func get(t *testing.T, s replica.Status, path string) (int, string) {
	t.Helper()
	s.Shard = shard.Master
	m := metrics.New(metrics.NewRegistry())
	m.Serves(shard.Master)
	h := web.Handler(web.Config{
		Server: "s1", Version: "v", Metrics: m.Handler(),
		Status:        func() []replica.Status { return []replica.Status{s} },
		Role:          func() (string, string) { return "primary", "" },
		Waiting:       func() string { return "" },
		Failing:       func() map[string]string { return map[string]string{"sweeps": "cannot look after runs: it is dark"} },
		MetadataFault: func() string { return "400 mapper_parsing_exception" },
		Certificate:   func() *certs.State { return &certs.State{File: "tls.crt", Until: time.Now(), Fault: "it expires soon"} },
		Unheard:       func() map[string]string { return map[string]string{"s2": "it has no TLS"} },
		NotServed:     func() map[shard.Name]string { return map[shard.Name]string{"a/b": "it has a slash"} },
		Recorder: func(shard.Name) map[scheduler.HostID]scheduler.JobID {
			if s.State != replica.StateLeader {
				return nil
			}
			return map[scheduler.HostID]scheduler.JobID{7: 81}
		},
	})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func TestReadiness(t *testing.T) {
	leader := replica.Status{State: replica.StateLeader, Since: time.Now()}
	follower := replica.Status{State: replica.StateCandidate}
	away := replica.Status{State: replica.StateCandidate, NotLeading: &replica.NotLeading{Reason: replica.WaitingForEtcd, Text: "etcd does not answer"}}
	standby := replica.Status{State: replica.StateCandidate, NotLeading: &replica.NotLeading{Reason: replica.AnotherLeads, Text: "server b leads"}}
	slow := replica.Status{State: replica.StateLeader, Since: time.Now(), Phase: replica.PhaseSnapshot, PhaseSince: time.Now().Add(-7 * time.Second)}
	slow.Shard = shard.Master
	outlasting := slow
	outlasting.State, outlasting.OverSince = replica.StateCandidate, slow.PhaseSince
	outlasting.NotLeading = &replica.NotLeading{Reason: replica.TickHangs, Text: outlasting.Slow(time.Now())}
	for _, c := range []struct {
		status replica.Status
		path   string
		code   int
	}{
		{leader, "/readyz", 200},
		{leader, "/readyz?state=leader", 200},
		{leader, "/readyz?state=follower", 503},
		{follower, "/readyz", 200},
		{follower, "/readyz?state=leader", 503},
		{follower, "/readyz?state=follower", 200},
		{follower, "/readyz?state=king", 400},
		{replica.Status{State: replica.StateStarting}, "/readyz", 503},
		{replica.Status{State: replica.StateStarting}, "/readyz", 503},
		{away, "/readyz", 503},
		{standby, "/readyz", 200},
		{slow, "/readyz", 503},
		{outlasting, "/readyz", 503},
		{leader, "/v1/recorder", 200},
		{follower, "/v1/recorder", 503},
		{leader, "/v1/recorder?shard=nope", 404},
		{follower, "/v1/status", 200},
		{follower, "/metrics", 200},
		{follower, "/nowhere", 404},
	} {
		code, body := get(t, c.status, c.path)
		require.Equal(t, c.code, code, "%s as %s: %s", c.path, c.status.State, body)
	}
	_, body := get(t, leader, "/readyz")
	require.JSONEq(t, `{"state":"leader"}`, body)
	_, body = get(t, away, "/readyz")
	require.Contains(t, body, "etcd does not answer")
	_, body = get(t, standby, "/readyz")
	require.JSONEq(t, `{"state":"follower","reason":"server b leads"}`, body)
	for _, path := range []string{"/readyz", "/healthz"} {
		_, body = get(t, slow, path)
		require.Contains(t, body, "the snapshot of shard master has been running since", path)
		_, body = get(t, outlasting, path)
		require.Contains(t, body, "the term of shard master is over since", path)
	}
	_, body = get(t, away, "/v1/status")
	require.Contains(t, body, `"not_leading":{"reason":"waiting_for_etcd","text":"etcd does not answer"}`)
	_, body = get(t, standby, "/v1/recorder")
	require.Contains(t, body, "shard master is not led here: server b leads")
	_, body = get(t, standby, "/v1/status")
	require.NotContains(t, body, "0001-01-01", "a time that never was is left out")
	for want, s := range map[string]replica.Status{
		`"waiting":3`: {State: replica.StateLeader, Waiting: 3}, `"waiting":0`: {State: replica.StateLeader},
		"": {State: replica.StateLeader, Paused: "power work"},
	} {
		_, body = get(t, s, "/v1/status")
		require.Contains(t, body, want)
		require.Equal(t, want == "", !strings.Contains(body, `"waiting"`), "whoever reads no queue does not know")
	}
	_, body = get(t, follower, "/v1/status")
	require.NotContains(t, body, `"waiting"`)
	_, body = get(t, leader, "/v1/status")
	require.Contains(t, body, `"not_served":{"a/b":"it has a slash"}`)
	require.Contains(t, body, `"metadata_fault":"400 mapper_parsing_exception"`)
	require.Contains(t, body, `"fault":"it expires soon"`)
	require.Contains(t, body, `"failing":{"sweeps":"cannot look after runs: it is dark"}`)
	require.Contains(t, body, `"unheard":{"s2":"it has no TLS"}`)
}

func TestHealth(t *testing.T) {
	long := time.Now().Add(-time.Hour)
	for _, c := range []struct {
		status replica.Status
		code   int
	}{
		{replica.Status{State: replica.StateCandidate}, 200},
		{replica.Status{State: replica.StateLeader, Since: time.Now()}, 200},
		{replica.Status{State: replica.StateLeader, Since: long, LastTick: time.Now()}, 200},
		{replica.Status{State: replica.StateLeader, Since: long, LastTick: long}, 500},
		{replica.Status{State: replica.StateCandidate, Since: long, LastTick: long}, 200},
		{replica.Status{State: replica.StateCandidate, OverSince: time.Now(), Since: long, LastTick: long}, 500},
	} {
		code, _ := get(t, c.status, "/healthz")
		require.Equal(t, c.code, code)
	}
}

// TestMetricNames: what dashboards of the original look for is there, and that
// of leadership.
func TestMetricNames(t *testing.T) {
	_, body := get(t, replica.Status{}, "/metrics")
	for _, name := range []string{
		"tick_duration_seconds", "schedule_duration_seconds", "lease_duration_seconds", "release_duration_seconds",
		"assignments_total", "entries_without_host", "ticks_total", "uncaught_errors_total",
		"leader", "token", "fenced_writes_total", "takeover_duration_seconds", "releases_total",
	} {
		require.Contains(t, body, "hostsched_"+name)
	}
}

// A replica that waits for its database serves no shard yet, and is healthy.
func TestWaiting(t *testing.T) {
	h := web.Handler(web.Config{
		Metrics: metrics.New(metrics.NewRegistry()).Handler(),
		Status:  func() []replica.Status { return nil },
		Waiting: func() string { return "database unreachable" },
	})
	for path, code := range map[string]int{"/healthz": 200, "/readyz": 503} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		require.Equal(t, code, w.Code, path)
		require.Contains(t, w.Body.String(), "database unreachable", path)
	}
}

// TestStatusOfAStranger: an answer that is no success is not read as a status.
func TestStatusOfAStranger(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte("{}"))
	}))
	defer s.Close()
	_, err := web.Client{}.ReadStatus(t.Context(), s.Listener.Addr().String(), time.Minute)
	require.ErrorContains(t, err, "404")
}

// TestStatusIsOnOneLine: joined errors are told as one sentence after the other.
func TestStatusIsOnOneLine(t *testing.T) {
	s := replica.Status{State: replica.StateCandidate, LastError: "lease lost\nno answer", NotLeading: &replica.NotLeading{Reason: replica.WaitingForEtcd, Text: "etcd is away\nno answer"}}
	_, page := get(t, s, "/v1/status")
	require.Contains(t, page, `"lease lost; no answer"`)
	require.Contains(t, page, `"etcd is away; no answer"`)
	_, ready := get(t, s, "/readyz")
	require.Contains(t, ready, `"etcd is away; no answer"`)
	require.Contains(t, s.NotLeading.Text, "\n", "what the replica knows stays as it is")
}
