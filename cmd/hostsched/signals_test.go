package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
)

// TestSecondSignalEndsAtOnce stops a replica whose records nobody takes: the
// first signal hands over and then waits for the records, the second does not.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	dsn := storetest.SQLiteFile(t)
	db := storetest.NewLab(t, dsn)
	_, err := simlab.Create(t.Context(), db.SQL(), simlab.Spec{Seed: 1, Hosts: 40, Boards: 2, Suites: 4, Entries: 50})
	require.NoError(t, err)

	asked, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	bulk := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request) {
		once.Do(func() { close(asked) })
		<-answer
	}))
	t.Cleanup(bulk.Close)
	t.Cleanup(func() { close(answer) })

	cmd := exec.Command(os.Args[0], "serve", "--listen", "127.0.0.1:0", "--database-dsn", dsn, "--etcd-endpoints", testserver.Etcd(t).Endpoint, "--etcd-ttl", "2s",
		"--metadata-url", bulk.URL+"/x/_bulk", "--metadata-interval", "1h")
	cmd.Env = append(os.Environ(), asProgram+"=1")
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool {
		var active int
		return db.SQL().QueryRow("SELECT COUNT(*) FROM afe_host_queue_entries WHERE active = 1").Scan(&active) == nil && active > 0
	}, patience, 10*time.Millisecond, "there is something to report")
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-asked:
	case <-time.After(patience):
		t.Error("the records are not sent")
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	var exit *exec.ExitError
	require.ErrorAs(t, cmd.Wait(), &exit)
	status := exit.Sys().(syscall.WaitStatus)
	require.True(t, status.Signaled())
	require.Equal(t, syscall.SIGINT, status.Signal())
}
