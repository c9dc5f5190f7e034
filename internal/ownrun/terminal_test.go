package ownrun_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hostsched/hostsched/internal/command"
)

// terminal is what a person types on, and sees.
type terminal struct {
	t    *testing.T
	keys *os.File
	mu   sync.Mutex
	seen bytes.Buffer
}

// onTerminal starts a program as a login does: it leads a session of its own on the terminal.
func (s *servers) onTerminal(t *testing.T, args ...string) (*terminal, *exec.Cmd) {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	tty, err := os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "OWNRUN_TEST_SERVER="+s.URL, fmt.Sprint("OWNRUN_TEST_LEASE=", s.lease), "PS1=$ ")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, cmd.Start())
	require.NoError(t, tty.Close())
	term := &terminal{t: t, keys: keys}
	go term.read()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		require.NoError(t, keys.Close())
	})
	return term, cmd
}

func (term *terminal) read() {
	buf := make([]byte, 4096)
	for {
		n, err := term.keys.Read(buf)
		term.mu.Lock()
		term.seen.Write(buf[:n])
		term.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (term *terminal) types(keys string) {
	term.t.Helper()
	_, err := term.keys.WriteString(keys)
	require.NoError(term.t, err)
}

// shows waits for a text, and forgets what was before it.
func (term *terminal) shows(text string) {
	term.t.Helper()
	require.Eventually(term.t, func() bool { return term.has(text) }, bound, time.Millisecond, "the terminal does not show %q", text)
}

func (term *terminal) has(text string) bool {
	term.mu.Lock()
	defer term.mu.Unlock()
	at := bytes.Index(term.seen.Bytes(), []byte(text))
	if at >= 0 {
		term.seen.Next(at + len(text))
	}
	return at >= 0
}

// leaves waits until a group has not the keys any more.
func (term *terminal) leaves(group int) {
	term.t.Helper()
	require.Eventually(term.t, func() bool {
		now, err := unix.IoctlGetInt(int(term.keys.Fd()), unix.TIOCGPGRP)
		return err == nil && now != group
	}, bound, time.Millisecond, "group %d keeps the terminal", group)
}

// stops presses Ctrl-Z until the shell says that a command was stopped. Once is not enough
// after fg: the shell gives the keys away before it continues the command, and the kernel
// drops a stop that is pending when a process is continued.
func (term *terminal) stops() {
	term.t.Helper()
	last := time.Time{}
	require.Eventually(term.t, func() bool {
		if time.Since(last) > time.Second {
			term.types(ctrlZ)
			last = time.Now()
		}
		return term.has("Stopped")
	}, bound, time.Millisecond, "the terminal does not show that the command was stopped")
}

const (
	ctrlC = "\x03"
	ctrlZ = "\x1a"
)

func exitOf(cmd *exec.Cmd) int {
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode()
}

func TestACommandThatReadsHasTheKeys(t *testing.T) {
	s := newServers(t, time.Minute)
	term, cmd := s.onTerminal(t, "/proc/self/exe", "sh", "-c", "trap '' INT; echo ready; read x; echo got-$x; read y; echo $y-too; exit 6")
	term.shows("ready")
	term.types("one\n")
	term.shows("got-one")
	for range 3 { // more often than would kill it
		term.types(ctrlC)
		term.shows("^C")
	}
	term.types("two\n")
	term.shows("two-too")
	require.Equal(t, 6, exitOf(cmd))
	s.finish(t)
}

func TestACommandThatDoesNotReadIsInterrupted(t *testing.T) {
	s := newServers(t, time.Minute)
	term, cmd := s.onTerminal(t, "/proc/self/exe", "sh", "-c", "trap 'echo caught' INT; echo ready; while :; do sleep 0.01; done")
	term.shows("ready")
	term.types(ctrlC)
	term.shows("caught")
	exit := make(chan int)
	go func() { exit <- exitOf(cmd) }()
	again := time.NewTicker(command.OneRequest / 10)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			term.types(ctrlC) // those that come at once belong to the first
			continue
		case code := <-exit:
			require.Equal(t, 137, code)
		}
		break
	}
	s.finish(t)
}

func TestJobControlOfAShell(t *testing.T) {
	s := newServers(t, time.Minute)
	term, shell := s.onTerminal(t, "bash", "--norc", "--noprofile", "-i")
	term.shows("$ ")
	exe, err := os.Executable()
	require.NoError(t, err)
	for name, first := range map[string]string{
		// It waits without other processes: a shell that just starts one cannot be stopped.
		"it reads nothing": "read x <gate",
		"it reads":         "read x; echo got-$x; read y",
	} {
		t.Log(name)
		term.types("cd " + t.TempDir() + "; mkfifo gate; " + exe + " sh -c 'echo rea''dy; " + first + "; exit 4'\n")
		term.shows("ready")
		if name == "it reads" {
			term.types("one\n")
			term.shows("got-one")
		}
		term.types(ctrlZ)
		term.shows("Stopped")
		term.types("fg\n")
		term.leaves(shell.Process.Pid)
		term.stops()
		term.types("bg\n")
		if name == "it reads" {
			term.shows("$ ")
			term.types("echo the shell has the ke''ys\n")
			term.shows("the shell has the keys")
			term.types("fg\n")
			term.leaves(shell.Process.Pid)
			term.types("two\n")
		} else {
			term.types("echo >gate; wait %1; ")
		}
		term.types("echo status-$?-is\n")
		term.shows("status-4-is")
	}
	require.Len(t, s.finished, 2)
}
