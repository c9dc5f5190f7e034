package command_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/command"
)

// TestMain is also the program that adopts: what it starts is its only child.
func TestMain(m *testing.M) {
	if os.Getenv("COMMAND_TEST_ADOPT") == "" {
		os.Exit(m.Run())
	}
	if err := command.Adopt(); err != nil {
		panic(err)
	}
	p, err := command.Start(command.Spec{Args: os.Args[1:], Stdout: os.Stdout, Adopted: true})
	if err != nil {
		panic(err)
	}
	<-p.Done()
	os.Exit(p.Exit().Status())
}

// bound is how long anything here may take on a busy machine.
const bound = 20 * time.Second

func start(t *testing.T, spec command.Spec) *command.Process {
	t.Helper()
	p, err := command.Start(spec)
	require.NoError(t, err)
	t.Cleanup(p.Kill)
	return p
}

func ended(t *testing.T, p *command.Process) command.Exit {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(bound):
		require.Fail(t, "the command did not end")
	}
	return p.Exit()
}

// talking is a shell script that was started, and the lines that it says.
func talking(t *testing.T, script string) (*command.Process, *bufio.Scanner) {
	t.Helper()
	out, in, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, out.Close()) })
	p := start(t, command.Spec{Args: []string{"sh", "-c", script}, Stdout: in})
	require.NoError(t, in.Close())
	require.NoError(t, out.SetReadDeadline(time.Now().Add(bound)))
	return p, bufio.NewScanner(out)
}

func says(t *testing.T, lines *bufio.Scanner) string {
	t.Helper()
	require.True(t, lines.Scan(), "the command says nothing")
	return lines.Text()
}

// gone waits until a process that nobody else knows has ended.
func gone(t *testing.T, pid string) {
	t.Helper()
	require.Eventually(t, func() bool {
		text, err := os.ReadFile("/proc/" + pid + "/stat")
		return err != nil || strings.Contains(string(text), ") Z ")
	}, bound, time.Millisecond, "process %s lives on", pid)
}

func TestExitStatus(t *testing.T) {
	for script, want := range map[string]int{
		"true": 0, "exit 1": 1, "exit 63": 63, "exit 124": 124, "exit 200": 200, "exit 255": 255,
		"kill -TERM $$": 143, "kill -KILL $$": 137, "kill -INT $$": 130, "kill -SEGV $$": 139,
	} {
		p := start(t, command.Spec{Args: []string{"sh", "-c", script}})
		require.Equal(t, want, ended(t, p).Status(), script)
		require.False(t, p.Exit().Left)
	}
}

func TestWhatCannotBeStarted(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for _, c := range []struct {
		name, text string
		mode       os.FileMode
		status     int
		says       string
	}{
		{"plain", "#!/bin/sh\n", 0o644, 126, "chmod"},
		{"noheader", "true\n", 0o755, 126, "#!"},
		{"nointerpreter", "#!/no/such/interpreter\n", 0o755, 127, "interpreter"},
		{"absent", "", 0, 127, "not found"},
	} {
		path := filepath.Join(dir, c.name)
		if c.mode != 0 {
			require.NoError(t, os.WriteFile(path, []byte(c.text), c.mode))
		}
		for _, name := range []string{path, c.name} {
			_, err := command.Start(command.Spec{Args: []string{name}})
			require.Error(t, err)
			require.Equal(t, c.status, command.Status(err), "%s: %v", name, err)
			require.Contains(t, err.Error(), c.says)
		}
	}
	for path, status := range map[string]int{dir: 126, dir + "/plain/x": 127, "": 127} {
		_, err := command.Start(command.Spec{Args: []string{path}})
		require.Equal(t, status, command.Status(err), "%q: %v", path, err)
	}
	_, err := command.Start(command.Spec{Args: []string{"true", strings.Repeat("x", 4<<20)}})
	require.Equal(t, 126, command.Status(err), "%v", err)
}

func TestStreamsAreTheCallersOwn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out")
	out, err := os.Create(file)
	require.NoError(t, err)
	in, err := os.Open("/proc/self/exe")
	require.NoError(t, err)
	p := start(t, command.Spec{Args: []string{"sh", "-c", "cat; readlink /proc/$$/fd/1 >&2"}, Stdin: in, Stdout: out, Stderr: out})
	require.Zero(t, ended(t, p).Status())
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	self, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	require.Equal(t, string(self)+file+"\n", string(text))
}

func TestSignalsReachTheWholeGroup(t *testing.T) {
	p, lines := talking(t, "sleep 1000 & echo $!; wait")
	child := says(t, lines)
	p.Signal(syscall.SIGTERM)
	require.Equal(t, 143, ended(t, p).Status())
	gone(t, child)
	p.Signal(syscall.SIGTERM) // of nobody
}

func TestWhatIgnoresSignalsIsKilledAfterTheGrace(t *testing.T) {
	p, lines := talking(t, "trap '' TERM INT HUP; echo ready; while :; do sleep 0.01; done")
	require.Equal(t, "ready", says(t, lines))
	began := time.Now()
	p.End(100 * time.Millisecond)
	require.GreaterOrEqual(t, time.Since(began), 100*time.Millisecond)
	require.Equal(t, 137, p.Exit().Status())
}

// The command begins no other one: a shell that is just doing that waits for it (vfork), and is
// not stopped as long as that one is.
func TestWhatWasStoppedCanObey(t *testing.T) {
	p, lines := talking(t, "trap 'exit 7' TERM; echo ready; while :; do :; done")
	require.Equal(t, "ready", says(t, lines))
	p.Signal(syscall.SIGSTOP)
	require.Equal(t, syscall.SIGSTOP, <-p.Stopped())
	p.End(bound)
	require.Equal(t, 7, p.Exit().Status())
}

func TestNothingOfTheGroupIsLeftBehind(t *testing.T) {
	p, lines := talking(t, "trap '' TERM; sleep 1000 & echo $!; exit 3")
	child := says(t, lines)
	require.Equal(t, 3, ended(t, p).Status())
	gone(t, child)
}

// adopter is a process that runs a script and adopts what the script leaves behind.
func adopter(t *testing.T, script string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "sh", "-c", script)
	cmd.Env = append(os.Environ(), "COMMAND_TEST_ADOPT=1")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	return cmd, bufio.NewScanner(out)
}

func TestDaemonsAreAdoptedAndEnded(t *testing.T) {
	// The daemon has a session of its own, and a child that has one, too.
	cmd, lines := adopter(t, "setsid sh -c 'setsid sleep 1000 & echo $!; echo $$; exec sleep 1000' & sleep 0.3; exit 4")
	daemons := []string{says(t, lines), says(t, lines)}
	require.Equal(t, 4, exitCode(cmd.Wait()))
	for _, pid := range daemons {
		gone(t, pid)
	}
}

func TestTheCommandEndsWithItsParent(t *testing.T) {
	cmd, lines := adopter(t, "echo $$; exec sleep 1000")
	pid := says(t, lines)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	gone(t, pid)
}

func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

func TestPidIsThatOfTheGroup(t *testing.T) {
	p, lines := talking(t, "echo $$; ps -o pgid= -p $$")
	require.Equal(t, strconv.Itoa(p.Pid()), says(t, lines))
	require.Equal(t, fmt.Sprint(p.Pid()), strings.TrimSpace(says(t, lines)))
	require.Zero(t, ended(t, p).Status())
}
