package queuetimes_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/queuetimes"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store"
)

const patience = 10 * time.Second

type document = map[string]any

// elasticsearch is a _bulk endpoint that answers as Elasticsearch does: with a
// verdict for each document, and with 200 whatever these are.
type elasticsearch struct {
	// whole answers a request as a whole if it returns an answer.
	whole func(documents int) (code int, body string)
	// item is the status of a document; 201 if there is no such function.
	item func(document) int

	mu       sync.Mutex
	taken    []document
	requests int
}

func (e *elasticsearch) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.requests++
	var items []any
	wrong := false
	documents := documentsOf(r)
	if e.whole != nil {
		if code, body := e.whole(len(documents)); code != 0 {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body) // the reporter tells if this fails
			return
		}
	}
	for _, d := range documents {
		status := http.StatusCreated
		if e.item != nil {
			status = e.item(d)
		}
		item := map[string]any{"_index": "x", "_id": "Q7z", "status": status}
		switch {
		case d["_type"] != nil:
			status = http.StatusBadRequest
			item["status"], item["error"] = status, map[string]any{"type": "mapper_parsing_exception", "reason": "Field [_type] is a metadata field"}
		case status == http.StatusTooManyRequests:
			item["error"] = map[string]any{"type": "es_rejected_execution_exception", "reason": "rejected execution of coordinating operation"}
		case status >= http.StatusBadRequest:
			item["error"] = map[string]any{"type": "mapper_parsing_exception", "reason": "failed to parse field [duration] in document with id '" + d["hostname"].(string) + "'"}
		default:
			e.taken = append(e.taken, d)
		}
		wrong = wrong || status >= http.StatusBadRequest
		items = append(items, map[string]any{"index": item})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"took": 1, "errors": wrong, "items": items}) // the same
}

// documentsOf reads every second line: the others are actions.
func documentsOf(r *http.Request) (out []document) {
	lines := bufio.NewScanner(r.Body)
	for n := 0; lines.Scan(); n++ {
		var d document
		if err := json.Unmarshal(lines.Bytes(), &d); err == nil && n%2 == 1 {
			out = append(out, d)
		}
	}
	return out
}

func (e *elasticsearch) seen() (taken []document, requests int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.taken, e.requests
}

func report(n int) replica.Report {
	var r replica.Report
	r.Result = store.Result{}
	for i := range n {
		r.Result.Applied.Assignments = append(r.Result.Applied.Assignments, scheduler.Assignment{Entry: scheduler.EntryID(i + 1), Job: 7, Hostname: "h", Priority: 40, QueuedSeconds: 12})
	}
	return r
}

type running struct {
	*queuetimes.Reporter
	stop func()
	log  *bytes.Buffer
}

func run(t *testing.T, endpoint http.Handler, interval time.Duration) running {
	t.Helper()
	server := httptest.NewServer(endpoint)
	t.Cleanup(server.Close)
	out := running{log: &bytes.Buffer{}}
	out.Reporter = queuetimes.New(queuetimes.Config{URL: server.URL + "/hostsched/_bulk", Interval: interval}, hclog.New(&hclog.LoggerOptions{Output: out.log}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		out.Run(ctx)
	}()
	out.stop = func() {
		cancel()
		<-done
	}
	return out
}

func TestBatchesAndFlush(t *testing.T) {
	e := &elasticsearch{}
	r := run(t, e, time.Hour)
	r.Ticked("master", report(1200))
	require.Eventually(t, func() bool { return r.Sent() == 1000 }, patience, time.Millisecond, "two full batches")
	r.stop()
	require.EqualValues(t, 1200, r.Sent(), "the rest is sent at the end")
	require.Len(t, e.taken, 1200)
	require.Equal(t, 3, e.requests)
	require.Equal(t, document{
		"type": "job_time_breakdown", "time_recorded": "0001-01-01T00:00:00Z", "shard": "master", "hqe_id": 1.0, "job_id": 7.0, "hostname": "h", "priority": 40.0, "duration": 12.0,
	}, e.taken[0], "no field has a name that Elasticsearch keeps for itself")
	require.Zero(t, r.Dropped())
	require.Empty(t, r.Fault())
	require.Empty(t, r.log.String())
}

// TestUnknownAgeIsLeftOut: an average over all documents must not count it.
func TestUnknownAgeIsLeftOut(t *testing.T) {
	e := &elasticsearch{}
	r := run(t, e, time.Hour)
	rep := report(2)
	rep.Result.Applied.Assignments[0].QueuedSeconds = -1
	rep.Result.Applied.Assignments[1].QueuedSeconds = 0
	r.Ticked("master", rep)
	r.stop()
	require.NotContains(t, e.taken[0], "duration")
	require.Contains(t, e.taken[1], "duration", "no time at all is a known age")
}

// TestRefusedDocumentsAreCounted: the request is answered with 200, but documents
// are refused. The log says so once, whatever the reason says of each document.
func TestRefusedDocumentsAreCounted(t *testing.T) {
	e := &elasticsearch{item: func(d document) int {
		if int(d["hqe_id"].(float64))%2 == 0 {
			return http.StatusBadRequest
		}
		return http.StatusCreated
	}}
	r := run(t, e, 5*time.Millisecond)
	for n := range int64(3) {
		rep := report(10)
		for i := range rep.Result.Applied.Assignments {
			rep.Result.Applied.Assignments[i].Hostname = strings.Repeat("x", int(n)+1)
		}
		r.Ticked("master", rep)
		require.Eventually(t, func() bool { return r.Dropped() == 5*(n+1) }, patience, time.Millisecond)
	}
	r.stop()
	require.EqualValues(t, 15, r.Sent())
	require.Contains(t, r.Fault(), "failed to parse field [duration]")
	require.Equal(t, 1, strings.Count(r.log.String(), "\n"), r.log)
	require.Contains(t, r.log.String(), "400 mapper_parsing_exception")
}

// TestBusyEndpoint: what is refused for lack of room is sent again, alone, and only
// so often. The fault is over when it is taken.
func TestBusyEndpoint(t *testing.T) {
	for name, whole := range map[string]bool{"some documents": false, "the whole request": true} {
		t.Run(name, func(t *testing.T) {
			busy := 2
			e := &elasticsearch{}
			if whole {
				e.whole = func(int) (int, string) {
					busy--
					if busy >= 0 {
						return http.StatusTooManyRequests, `{"error":{"type":"circuit_breaking_exception"},"status":429}`
					}
					return 0, ""
				}
			} else {
				e.item = func(d document) int {
					if d["hqe_id"] == 3.0 {
						if busy--; busy >= 0 {
							return http.StatusTooManyRequests
						}
					}
					return http.StatusCreated
				}
			}
			r := run(t, e, 5*time.Millisecond)
			r.Ticked("master", report(10))
			require.Eventually(t, func() bool { return r.Sent() == 10 }, patience, time.Millisecond)
			r.stop()
			require.Len(t, e.taken, 10, "nothing twice")
			require.GreaterOrEqual(t, e.requests, 3)
			require.Zero(t, r.Dropped())
			require.Empty(t, r.Fault())
			require.Contains(t, r.log.String(), "429")
		})
	}
	t.Run("always", func(t *testing.T) {
		tries := map[any]int{}
		e := &elasticsearch{item: func(d document) int {
			tries[d["hqe_id"]]++
			return http.StatusTooManyRequests
		}}
		r := run(t, e, 5*time.Millisecond)
		r.Ticked("master", report(10))
		require.Eventually(t, func() bool { return r.Dropped() == 10 }, patience, time.Millisecond)
		r.stop()
		require.Len(t, tries, 10)
		for _, n := range tries {
			require.Equal(t, 5, n)
		}
	})
}

// TestTooLarge: requests become smaller until the endpoint takes them, and stay so.
func TestTooLarge(t *testing.T) {
	e := &elasticsearch{whole: func(n int) (int, string) {
		if n > 100 {
			return http.StatusRequestEntityTooLarge, "<html>413</html>"
		}
		return 0, ""
	}}
	r := run(t, e, time.Hour)
	r.Ticked("master", report(500))
	require.Eventually(t, func() bool { return r.Sent() == 500 }, patience, time.Millisecond)
	_, before := e.seen()
	r.Ticked("master", report(62))
	r.stop()
	require.EqualValues(t, 562, r.Sent())
	_, after := e.seen()
	require.Equal(t, before+1, after)
	require.Zero(t, r.Dropped())

	never := &elasticsearch{whole: func(int) (int, string) { return http.StatusRequestEntityTooLarge, "" }}
	r = run(t, never, time.Hour)
	r.Ticked("master", report(500))
	require.Eventually(t, func() bool { return r.Dropped() == 500 }, patience, time.Millisecond)
	r.stop()
	require.Less(t, never.requests, 50, "it is not asked for each document")
	require.Contains(t, r.log.String(), "413 Request Entity Too Large")
}

// TestAnswersThatSayNothing: a record counts as taken only if the answer says so.
func TestAnswersThatSayNothing(t *testing.T) {
	for name, c := range map[string]struct {
		code  int
		body  string
		taken int
		fault string
	}{
		"a page":                {200, "<html>login</html>", 0, "the answer is not that of a _bulk request"},
		"nothing":               {200, "", 0, "the answer is not that of a _bulk request"},
		"other JSON":            {200, `{"cluster_name":"lab"}`, 0, "does not mention every record"},
		"fewer items":           {200, `{"errors":false,"items":[{"index":{"status":201}},{"create":{"status":200}}]}`, 2, "does not mention every record"},
		"items without content": {200, `{"errors":false,"items":[{},null,{"index":{}},{"index":{"status":201}}]}`, 1, "does not mention every record"},
		"a reason as one text":  {200, `{"errors":true,"items":[{"index":{"status":400,"error":"MapperParsingException[failed]"}}]}`, 0, "MapperParsingException"},
		"refused as a whole":    {400, `{"error":{"type":"illegal_argument_exception","reason":"no index"},"status":400}`, 0, "400 Bad Request"},
		"elsewhere":             {302, "", 0, "302 Found"},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "/login")
				w.WriteHeader(c.code)
				_, _ = io.WriteString(w, c.body) // the reporter tells if this fails
			}), time.Hour)
			r.Ticked("master", report(4))
			r.stop()
			require.EqualValues(t, c.taken, r.Sent())
			require.EqualValues(t, 4-c.taken, r.Dropped())
			require.Contains(t, r.Fault(), c.fault)
			require.Equal(t, 1, strings.Count(r.log.String(), "\n"), r.log)
		})
	}
}

// TestNobodyListens: records wait for an endpoint that is away, and the end does not.
func TestNobodyListens(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	var log bytes.Buffer
	r := queuetimes.New(queuetimes.Config{URL: server.URL + "/x/_bulk", Interval: time.Hour}, hclog.New(&hclog.LoggerOptions{Output: &log}))
	r.Ticked("master", report(3))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.Run(ctx)
	require.EqualValues(t, 3, r.Dropped())
	require.Contains(t, r.Fault(), "the replica ends")
	require.Contains(t, log.String(), "connection refused")
}

func TestOverflowingRecordsAreCounted(t *testing.T) {
	r := run(t, &elasticsearch{}, time.Hour)
	r.stop()
	// Nobody collects any more: the queue fills up and the rest is dropped.
	began := time.Now()
	r.Ticked("master", report(10_005))
	require.Less(t, time.Since(began), time.Second)
	require.EqualValues(t, 5, r.Dropped())
	require.Contains(t, r.log.String(), "the queue is full")
}
