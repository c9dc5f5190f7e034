package app

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// receiver takes spans as a collector does, by OTLP over HTTP.
type receiver struct {
	*httptest.Server

	mu    sync.Mutex
	spans map[string]received // by name
	many  map[string]int
}

type received struct {
	*otlp.Span
	server string
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{spans: map[string]received{}, many: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		var in collector.ExportTraceServiceRequest
		if err != nil || proto.Unmarshal(body, &in) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		r.take(&in)
		w.Header().Set("Content-Type", "application/x-protobuf")
	})
	r.Server = httptest.NewServer(mux)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) take(in *collector.ExportTraceServiceRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, resource := range in.ResourceSpans {
		server := ""
		for _, a := range resource.Resource.Attributes {
			if a.Key == "service.instance.id" {
				server = a.Value.GetStringValue()
			}
		}
		for _, scope := range resource.ScopeSpans {
			for _, span := range scope.Spans {
				r.spans[span.Name] = received{span, server}
				r.many[span.Name]++
			}
		}
	}
}

// all are the spans by name, and how many of each came.
func (r *receiver) all() (map[string]received, map[string]int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.spans), maps.Clone(r.many)
}

func (r *receiver) has(names ...string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range names {
		if r.many[name] == 0 {
			return false
		}
	}
	return true
}

// emptyLab makes a lab without anything in it.
func emptyLab(t *testing.T) string {
	t.Helper()
	dsn := "sqlite:" + filepath.Join(t.TempDir(), "lab.db")
	db, err := store.Open(t.Context(), sqldb.Config{DSN: dsn, Create: true})
	require.NoError(t, err)
	_, err = schema.Up(t.Context(), db.DB, schema.Options{})
	require.NoError(t, err)
	require.NoError(t, db.Close())
	return dsn
}

// call makes a call of the API, as the administrator that everybody is in these tests.
func call(t *testing.T, a *App, method, path, body string, header ...string) (status int, answer string) {
	t.Helper()
	req := httptest.NewRequest(method, "/api/v1"+path, strings.NewReader(body))
	req.Host = "127.0.0.1"
	req.Header.Set("Content-Type", "application/json")
	if len(header) > 0 {
		req.Header.Set("traceparent", header[0])
	}
	w := httptest.NewRecorder()
	a.server.Handler.ServeHTTP(w, req)
	return w.Code, w.Body.String()
}

func submit(t *testing.T, a *App, body string, header ...string) (id int64) {
	t.Helper()
	status, answer := call(t, a, http.MethodPost, "/jobs", body, header...)
	require.Equal(t, http.StatusCreated, status, answer)
	var out labapi.Submitted
	require.NoError(t, json.Unmarshal([]byte(answer), &out))
	return out.ID
}

// TestTraceOfAJob submits a job with the span of its caller to one replica, lets another one
// take over while the job runs, and finishes it there: a collector gets one trace.
func TestTraceOfAJob(t *testing.T) {
	r := newReceiver(t)
	etcd, dsn := testserver.Etcd(t), emptyLab(t)
	start := func(server string) *App {
		a := newApp(t, "--server", server, "--database-dsn", dsn, "--etcd-endpoints", etcd.Endpoint, "--api-auth", "none", "--tracing-endpoint", r.URL)
		require.NoError(t, a.Start(t.Context()))
		return a
	}
	first := start("lab-1")
	require.Eventually(t, func() bool { return leads(first) && first.lab.Load() != nil }, patience, 10*time.Millisecond)
	second := start("lab-2")
	require.Eventually(t, func() bool { return second.runs.Load() != nil }, patience, 10*time.Millisecond)
	for path, body := range map[string]string{"/users": `{"login":"root"}`, "/hosts": `{"hostname":"h1"}`} {
		status, answer := call(t, first, http.MethodPost, path, body)
		require.Equal(t, http.StatusCreated, status, answer)
	}

	const trace, caller = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	job := submit(t, second, `{"name":"j","owner":"root","hosts":["h1"],"own":"run"}`, "00-"+trace+"-"+caller+"-01")
	root := access.Caller{Login: "root", Role: access.Admin}
	var claimed labapi.OwnClaimed
	require.Eventually(t, func() bool {
		var err error
		claimed, err = first.runs.Load().ClaimOwn(t.Context(), root, job, labapi.OwnClaimInput{ClaimKey: "a key of sixteen characters"})
		require.NoError(t, err)
		return claimed.Claimed != nil
	}, patience, 20*time.Millisecond)
	require.NoError(t, first.Stop(t.Context()))
	require.Eventually(t, func() bool { return leads(second) }, patience, 10*time.Millisecond)
	run, err := second.runs.Load().ByToken(t.Context(), claimed.Claimed.Token)
	require.NoError(t, err)
	_, err = second.runs.Load().Finish(t.Context(), run, labapi.RunFinish{Result: "passed"})
	require.NoError(t, err)

	require.Eventually(t, func() bool { return r.has("submit", "waiting", "assignment", "run", "finish") }, patience, 20*time.Millisecond)
	spans, many := r.all()
	for name, want := range map[string]struct {
		parent []byte
		server string
	}{
		"submit":     {mustHex(t, caller), "lab-2"},
		"waiting":    {spans["submit"].SpanId, "lab-1"},
		"assignment": {spans["submit"].SpanId, "lab-1"},
		"run":        {spans["submit"].SpanId, "lab-2"},
		"finish":     {spans["run"].SpanId, "lab-2"},
	} {
		span := spans[name]
		require.Equal(t, trace, hex.EncodeToString(span.TraceId), name)
		require.Equal(t, want.parent, span.ParentSpanId, name)
		require.Equal(t, want.server, span.server, name)
		require.LessOrEqual(t, span.StartTimeUnixNano, span.EndTimeUnixNano, name)
		require.Equal(t, 1, many[name], name)
	}
	require.Equal(t, "00-"+trace+"-"+hex.EncodeToString(spans["run"].SpanId)+"-01", claimed.Claimed.Manifest.Env["TRACEPARENT"], "what the command is told is the span of its run")
}

func mustHex(t *testing.T, text string) []byte {
	t.Helper()
	out, err := hex.DecodeString(text)
	require.NoError(t, err)
	return out
}

// TestTracesThatNobodyTells: without a collector a caller's trace is handed on as it is, and
// other jobs have none; a trace that its caller does not sample is not told.
func TestTracesThatNobodyTells(t *testing.T) {
	r := newReceiver(t)
	etcd := testserver.Etcd(t)
	const sampled, not = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
	for _, c := range []struct {
		name  string
		flags []string
		told  bool
	}{{"off", nil, false}, {"on", []string{"--tracing-endpoint", r.URL}, true}, {"none of its own", []string{"--tracing-endpoint", r.URL, "--tracing-share", "0"}, false}} {
		t.Run(c.name, func(t *testing.T) {
			a := newApp(t, append([]string{"--server", "lab-1", "--cluster", strings.ReplaceAll(c.name, " ", "-"), "--database-dsn", emptyLab(t), "--etcd-endpoints", etcd.Endpoint, "--api-auth", "none"}, c.flags...)...)
			require.NoError(t, a.Start(t.Context()))
			require.Eventually(t, func() bool { return leads(a) && a.lab.Load() != nil }, patience, 10*time.Millisecond)
			for path, body := range map[string]string{"/users": `{"login":"root"}`, "/hosts": `{"hostname":"h1"}`} {
				status, answer := call(t, a, http.MethodPost, path, body)
				require.Equal(t, http.StatusCreated, status, answer)
			}
			const body = `{"name":"j","owner":"root","hosts":["h1"]}`
			_, before := r.all()
			jobs := []int64{submit(t, a, body, sampled), submit(t, a, body, not), submit(t, a, body), submit(t, a, body, "nonsense")}
			traces, err := a.lab.Load().Traces(t.Context(), jobs)
			require.NoError(t, err)
			if c.flags == nil {
				require.Equal(t, map[int64]string{jobs[0]: sampled, jobs[1]: not}, traces)
			} else {
				require.Len(t, traces, 4)
				require.True(t, strings.HasSuffix(traces[jobs[1]], "-00"), "what its caller does not sample")
				require.Equal(t, c.told, strings.HasSuffix(traces[jobs[2]], "-01"))
			}
			require.NoError(t, a.Stop(t.Context()), "what is left is sent")
			want := map[string]int{"off": 0, "on": 3, "none of its own": 1}[c.name]
			_, after := r.all()
			require.Equal(t, want, after["submit"]-before["submit"])
		})
	}
}

// TestCollectorThatIsAway is in the status and in a metric; nothing waits for it.
func TestCollectorThatIsAway(t *testing.T) {
	a := newApp(t, "--server", "lab-1", "--database-dsn", emptyLab(t), "--etcd-endpoints", testserver.Etcd(t).Endpoint, "--api-auth", "none", "--tracing-endpoint", "http://127.0.0.1:1")
	require.NoError(t, a.Start(t.Context()))
	require.Eventually(t, func() bool { return leads(a) && a.lab.Load() != nil }, patience, 10*time.Millisecond)
	status, answer := call(t, a, http.MethodPost, "/users", `{"login":"root"}`)
	require.Equal(t, http.StatusCreated, status, answer)
	status, answer = call(t, a, http.MethodPost, "/hosts", `{"hostname":"h1"}`)
	require.Equal(t, http.StatusCreated, status, answer)
	submit(t, a, `{"name":"j","owner":"root","hosts":["h1"]}`)
	require.Eventually(t, func() bool { return a.failing.all()[workTracing] != "" }, patience, 20*time.Millisecond)
}
