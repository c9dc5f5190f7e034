package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// TestLifetimeMailMetadataAndMetricsFile runs a replica for a short lifetime: it
// ends by itself and well, and everything it had to report has been reported.
func TestLifetimeMailMetadataAndMetricsFile(t *testing.T) {
	dir := t.TempDir()
	dsn := "sqlite:" + filepath.Join(dir, "lab.db")
	db, err := store.Open(t.Context(), sqldb.Config{DSN: dsn, Create: true})
	require.NoError(t, err)
	_, err = schema.Up(t.Context(), db.DB, schema.Options{})
	require.NoError(t, err)
	_, err = simlab.Create(t.Context(), db.SQL(), simlab.Spec{Seed: 1, Hosts: 40, Boards: 2, Suites: 4, Entries: 50})
	require.NoError(t, err)

	smtp := testserver.NewSMTP(t)
	var records atomic.Int64
	bulk := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		n := strings.Count(string(body), "job_time_breakdown")
		records.Add(int64(n))
		taken := strings.TrimSuffix(strings.Repeat(`{"index":{"status":201}},`, n), ",")
		_, _ = fmt.Fprintf(w, `{"errors":false,"items":[%s]}`, taken) // the metrics file tells if this fails
	}))
	t.Cleanup(bulk.Close)
	metricsFile := filepath.Join(dir, "metrics.prom")
	cmd := exec.Command(os.Args[0], "serve", "--listen", "127.0.0.1:0", "--database-dsn", dsn, "--etcd-endpoints", testserver.Etcd(t).Endpoint, "--etcd-ttl", "2s",
		"--lifetime-hours", "0.001", "--metrics-file", metricsFile, "--metadata-url", bulk.URL+"/x/_bulk", "--metadata-interval", "1h",
		"--notify-to", "lab@example.com", "--notify-smtp-host", "127.0.0.1", "--notify-smtp-port", strconv.Itoa(smtp.Port), "--tick-min", "50ms")
	cmd.Env = append(os.Environ(), asProgram+"=1")
	var log strings.Builder
	cmd.Stderr = &log
	require.NoError(t, cmd.Run(), "%s", &log)
	require.Contains(t, log.String(), "the lifetime is over")

	var active int64
	require.NoError(t, db.SQL().QueryRow("SELECT COUNT(*) FROM afe_host_queue_entries WHERE active = 1").Scan(&active))
	require.NoError(t, db.Close())
	require.Positive(t, active)
	require.Equal(t, active, records.Load(), "one record per assignment, flushed at the end")
	require.NotEmpty(t, smtp.Mails())
	require.Contains(t, smtp.Mails()[0], "failover")
	metrics, err := os.ReadFile(metricsFile)
	require.NoError(t, err)
	require.Contains(t, string(metrics), `hostsched_assignments_total{shard="master"} `+strconv.FormatInt(active, 10))
	require.Contains(t, string(metrics), "hostsched_metadata_dropped_total 0")
}
