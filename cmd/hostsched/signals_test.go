package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/command"
	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
)

// asStubborn in the environment makes the test binary a process that is asked to end and
// takes its time.
const asStubborn = "HOSTSCHED_TEST_STUBBORN"

// endStubbornly says when it waits for a signal and when it has come, and ends with its input.
func endStubbornly() {
	ctx, release := untilSignalled(context.Background())
	defer release()
	fmt.Println("ready")
	<-ctx.Done()
	fmt.Println("ending")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// TestSignalsOfOneRequest: who asks by several signals at once, as timeout(1) does, gets an
// orderly end; who asks again gets an end.
func TestSignalsOfOneRequest(t *testing.T) {
	start := func(t *testing.T) (*exec.Cmd, io.Closer) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), asStubborn+"=1")
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		require.True(t, lines.Scan())
		require.Equal(t, "ready", lines.Text())
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		require.True(t, lines.Scan())
		require.Equal(t, "ending", lines.Text())
		return cmd, in
	}
	t.Run("at once", func(t *testing.T) {
		cmd, in := start(t)
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(t, in.Close())
		require.NoError(t, cmd.Wait())
	})
	t.Run("again", func(t *testing.T) {
		cmd, _ := start(t)
		begun := time.Now()
		requireEndedAgain(t, cmd, syscall.SIGTERM)
		require.Greater(t, time.Since(begun), command.OneRequest/2)
	})
}

// requireEndedAgain asks a process that is ending to end, until it does so by the signal.
func requireEndedAgain(t *testing.T, cmd *exec.Cmd, sig syscall.Signal) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	again := time.NewTicker(command.OneRequest / 10)
	defer again.Stop()
	for {
		select {
		case err := <-ended:
			require.Error(t, err)
			require.Equal(t, sig, cmd.ProcessState.Sys().(syscall.WaitStatus).Signal())
			return
		case <-again.C:
			_ = cmd.Process.Signal(sig) // The process may have ended meanwhile.
		}
	}
}

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
	requireEndedAgain(t, cmd, syscall.SIGINT)
}
