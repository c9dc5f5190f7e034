package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		again := time.NewTicker(oneRequest / 10)
		defer again.Stop()
		for {
			select {
			case err := <-ended:
				require.Error(t, err)
				require.Equal(t, syscall.SIGTERM, cmd.ProcessState.Sys().(syscall.WaitStatus).Signal())
				require.Greater(t, time.Since(begun), oneRequest/2)
				return
			case <-again.C:
				_ = cmd.Process.Signal(syscall.SIGTERM) // The process may have ended meanwhile.
			}
		}
	})
}
