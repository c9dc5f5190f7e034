package testserver

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/child"
)

// Disk is a small file system that a test can fill.
type Disk struct {
	// Dir is its folder. It leads through the process that keeps the file system, so any
	// process of the same user can use it, unless it resolves links in names of files.
	Dir string

	// Point is the folder for processes that entered.
	Point  string
	keeper int
}

// NewDisk makes a disk of so many megabytes, in memory. It is mounted in a namespace of a
// process that does nothing else, so no rights are needed, and it goes with that process.
func NewDisk(t testing.TB, megabytes int) *Disk {
	t.Helper()
	// Not t.TempDir: its path may be too long for a socket.
	point, err := os.MkdirTemp("", "hostsched-disk-")
	require.NoError(t, err)
	keeper := exec.Command("sh", "-c", `mount -t tmpfs -o size="$0"m tmpfs "$1" && echo mounted && exec cat`, strconv.Itoa(megabytes), point)
	keeper.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	keeper.Stderr = os.Stderr
	input, err := keeper.StdinPipe()
	require.NoError(t, err)
	output, err := keeper.StdoutPipe()
	require.NoError(t, err)
	exit, err := child.Start(keeper)
	require.NoError(t, err, "mount a file system in memory in a namespace of its own")
	t.Cleanup(func() {
		require.NoError(t, input.Close())
		<-exit.Done()
		require.NoError(t, os.Remove(point))
	})
	said, err := bufio.NewReader(output).ReadString('\n')
	require.NoError(t, err, "mount a file system in memory in a namespace of its own")
	require.Equal(t, "mounted\n", said)
	return &Disk{filepath.Join("/proc", strconv.Itoa(keeper.Process.Pid), "root", point), point, keeper.Process.Pid}
}

// Enter makes a command run in the keeper's namespaces, in which this user is called root.
func (d *Disk) Enter(cmd *exec.Cmd) *exec.Cmd {
	// Who enters a namespace of users does not end with its parent any more: see child.Start.
	prefix := []string{"--target", strconv.Itoa(d.keeper), "--user", "--mount", "--", "setpriv", "--pdeathsig", "KILL", "--"}
	return exec.Command("nsenter", slices.Concat(prefix, cmd.Args)...)
}

func (d *Disk) ballast() string { return filepath.Join(d.Dir, "ballast") }

// Fill takes all the room that is left, also what was freed since it was called last.
func (d *Disk) Fill(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile(d.ballast(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	_, err = io.Copy(f, endless{})
	require.ErrorIs(t, err, syscall.ENOSPC, fmt.Sprintf("fill %s", d.Dir))
	require.NoError(t, f.Close())
}

// Free gives back what Fill took.
func (d *Disk) Free(t testing.TB) {
	t.Helper()
	if err := os.Remove(d.ballast()); !errors.Is(err, os.ErrNotExist) {
		require.NoError(t, err)
	}
}

// endless is read for ever.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// StartOn is [StartAnother] with the data of the server on a disk.
func StartOn(t testing.TB, d *Disk, options ...string) *Server {
	t.Helper()
	return startAnother(t, func(kind Kind, dir string) (*Server, error) {
		data := "data"
		s, err := prepare(kind, dir, slices.Concat([]string{"--user=root", "--datadir=" + filepath.Join(d.Point, data)}, options)...)
		if err != nil {
			return nil, err
		}
		if err := os.CopyFS(filepath.Join(d.Dir, data), os.DirFS(s.data())); err != nil {
			return nil, err
		}
		s.cmd = d.Enter(s.cmd)
		return s, s.run()
	})
}
