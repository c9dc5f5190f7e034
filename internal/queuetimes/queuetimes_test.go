package queuetimes_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
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

// sink is a _bulk endpoint.
type sink struct {
	mu       sync.Mutex
	records  []queuetimes.Record
	requests int
	code     int
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	if s.code != 0 {
		w.WriteHeader(s.code)
		return
	}
	lines := bufio.NewScanner(r.Body)
	for n := 0; lines.Scan(); n++ {
		if n%2 == 0 {
			continue // the action
		}
		var rec queuetimes.Record
		if json.Unmarshal(lines.Bytes(), &rec) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.records = append(s.records, rec)
	}
}

func report(n int) replica.Report {
	var r replica.Report
	r.Result = store.Result{}
	for i := range n {
		r.Result.Applied.Assignments = append(r.Result.Applied.Assignments, scheduler.Assignment{Entry: scheduler.EntryID(i + 1), Job: 7, Hostname: "h", Priority: 40, QueuedSeconds: 12})
	}
	return r
}

func run(t *testing.T, s *sink, interval time.Duration) (r *queuetimes.Reporter, stop func()) {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	r = queuetimes.New(queuetimes.Config{URL: server.URL + "/hostsched/_bulk", Interval: interval}, hclog.NewNullLogger())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	return r, func() {
		cancel()
		<-done
	}
}

func TestBatchesAndFlush(t *testing.T) {
	s := &sink{}
	r, stop := run(t, s, time.Hour)
	r.Ticked("master", report(1200))
	require.Eventually(t, func() bool { return r.Sent() == 1000 }, 10*time.Second, time.Millisecond, "two full batches")
	stop()
	require.EqualValues(t, 1200, r.Sent(), "the rest is sent at the end")
	require.Len(t, s.records, 1200)
	require.Equal(t, 3, s.requests)
	require.EqualValues(t, 12, s.records[0].QueuedSeconds)
	require.Zero(t, r.Dropped())
}

func TestRefusedAndOverflowingRecordsAreCounted(t *testing.T) {
	s := &sink{code: http.StatusServiceUnavailable}
	r, stop := run(t, s, 5*time.Millisecond)
	r.Ticked("master", report(10))
	require.Eventually(t, func() bool { return r.Dropped() == 10 }, 10*time.Second, time.Millisecond)
	stop()
	// Nobody collects any more: the queue fills up and the rest is dropped.
	began := time.Now()
	r.Ticked("master", report(10_005))
	require.Less(t, time.Since(began), time.Second)
	require.EqualValues(t, 15, r.Dropped())
}
