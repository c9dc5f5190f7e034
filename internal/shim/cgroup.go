package shim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// killCgroup kills all processes of a cgroup and removes it. It tells whether it is there yet.
func killCgroup(dir string) bool {
	if dir == "" {
		return false
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return false
	}
	// Whether it worked is seen by looking.
	_ = os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
	for _, below := range subfolders(dir) {
		killCgroup(below) // a job may have made some
	}
	err := os.Remove(dir)
	return err != nil && !errors.Is(err, fs.ErrNotExist)
}

func subfolders(dir string) (out []string) {
	entries, _ := os.ReadDir(dir) // one that is gone has none
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out
}

// openCgroup makes the run's cgroup, in which the kernel starts the steps.
func openCgroup(dir string, attr *syscall.SysProcAttr) (*os.File, error) {
	if dir == "" {
		return nil, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the cgroup of the run: %w", err)
	}
	file, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open the cgroup of the run: %w", err)
	}
	attr.UseCgroupFD, attr.CgroupFD = true, int(file.Fd())
	return file, nil
}

// FindCgroup returns the cgroup below which runs can have their own, empty if the machine has
// none that this process may use. Under systemd it is the unit's own, which needs Delegate.
func FindCgroup() string {
	root := ""
	mounts, _ := os.ReadFile("/proc/self/mounts") // without it there is none
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[2] == "cgroup2" {
			root = fields[1]
		}
	}
	own, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(own)) {
		below, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if ok && root != "" && UsableCgroup(filepath.Join(root, below)) {
			return filepath.Join(root, below)
		}
	}
	return ""
}

// UsableCgroup tries whether cgroups can be made, entered and killed below one.
func UsableCgroup(dir string) bool {
	if unix.Access(filepath.Join(dir, "cgroup.procs"), unix.W_OK) != nil {
		return false
	}
	probe, err := os.MkdirTemp(dir, "hostsched-probe-")
	if err != nil {
		return false
	}
	killable := unix.Access(filepath.Join(probe, "cgroup.kill"), unix.W_OK) == nil
	return os.Remove(probe) == nil && killable
}
