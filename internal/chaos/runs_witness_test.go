package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func env(run, job, hosts, epochs string) func(string) string {
	values := map[string]string{"HOSTSCHED_RUN": run, "HOSTSCHED_JOB": job, "HOSTSCHED_HOSTS": hosts, "HOSTSCHED_EPOCH": epochs}
	return func(name string) string { return values[name] }
}

// TestWitness: witnesses that follow each other find nothing wrong, and those that meet, or
// that come with an old epoch, do.
func TestWitness(t *testing.T) {
	dir := t.TempDir()
	work := func(run, job, hosts, epochs string) error {
		w := witness{dir: dir}
		require.NoError(t, w.fromEnvironment(env(run, job, hosts, epochs)))
		return w.work(t.Context())
	}
	require.NoError(t, work("1", "5", "h1 h2", "1 1"))
	require.NoError(t, work("2", "6", "h1", "2"))
	require.ErrorContains(t, work("1", "5", "h1", "1"), "epoch 2 was there before")
	wrong, err := linesOf(dir, wrongFile)
	require.NoError(t, err)
	require.Len(t, wrong, 1)
	require.NoError(t, work("3", "5", "h2", "2"))
	began, err := linesOf(dir, beganFile)
	require.NoError(t, err)
	require.Equal(t, []string{"5 1 1", "6 2 1", "5 3 1"}, began)
	require.Equal(t, []string{"5"}, begunTwice(began))
	require.Empty(t, begunTwice([]string{"5 1 2", "5 2 2", "6"}), "it may be tried again, once")
	require.Equal(t, []string{"5"}, begunTwice([]string{"5 1 2", "5 2 2", "5 3 2", "5 4 2"}))

	for _, e := range []func(string) string{env("", "5", "h1", "1"), env("1", "5", "", ""), env("1", "5", "h1 h2", "1"), env("1", "5", "h1", "x")} {
		require.Error(t, new(witness).fromEnvironment(e))
	}
}

// TestWitnessOfATask: special tasks have the number of a job, too, and do not begin it.
func TestWitnessOfATask(t *testing.T) {
	w := witness{dir: t.TempDir()}
	require.NoError(t, w.fromEnvironment(env("1", "5", "h1", "1")))
	w.kind = "Reset"
	require.NoError(t, w.work(t.Context()))
	began, err := linesOf(w.dir, beganFile)
	require.NoError(t, err)
	require.Empty(t, began)
}

// TestWitnessMeetsAnother: one that runs is in the way of everybody, one that is stopped is
// ended by a fence.
func TestWitnessMeetsAnother(t *testing.T) {
	if dir := os.Getenv("CHAOS_WITNESS"); dir != "" {
		w := witness{dir: dir, hold: time.Minute}
		require.NoError(t, w.fromEnvironment(env("1", "5", "h1", "1")))
		_ = w.work(t.Context())
		return
	}
	dir := t.TempDir()
	other := exec.Command(os.Args[0], "-test.run=^TestWitnessMeetsAnother$")
	other.Env = append(os.Environ(), "CHAOS_WITNESS="+dir)
	out, err := other.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, other.Start())
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "run 1")

	meet := func(fence bool) error {
		w := witness{dir: dir, fence: fence}
		require.NoError(t, w.fromEnvironment(env("2", "6", "h1", "2")))
		return w.work(t.Context())
	}
	at := fmt.Sprintf("process %d of epoch 1 works there", other.Process.Pid)
	require.ErrorContains(t, meet(false), at)
	require.ErrorContains(t, meet(true), at)
	require.NoError(t, other.Process.Signal(syscall.SIGSTOP))
	require.Eventually(t, func() bool { return stopped(other.Process.Pid) }, 5*time.Second, time.Millisecond)
	require.ErrorContains(t, meet(false), at)
	require.NoError(t, meet(true))
	require.FileExists(t, filepath.Join(dir, "host-h1"))
}
