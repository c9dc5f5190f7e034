package command

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// processes are all of this machine.
func processes() []procfs.ProcStat {
	all, _ := procfs.AllProcs() // none where the kernel shows none
	out := make([]procfs.ProcStat, 0, len(all))
	for _, p := range all {
		if stat, err := p.Stat(); err == nil {
			out = append(out, stat)
		} // else it has ended
	}
	return out
}

// dead tells of a process that nobody has asked how it ended; nothing of it runs.
func dead(p procfs.ProcStat) bool { return p.State == "Z" || p.State == "X" }

// KillMarked kills all processes of a group, and all of this user's whose environment has a
// line, and tells whether there were any. It is for whoever did not start them, and knows no
// group if that is 0, to which the kernel's own belong.
func KillMarked(group int, line string) (found bool) {
	for _, p := range processes() {
		inGroup := group != 0 && p.PGRP == group
		if dead(p) || p.PID == os.Getpid() || !inGroup && !Marked(p.PID, line) {
			continue
		}
		found = true
		_ = unix.Kill(p.PID, unix.SIGKILL) // it may have ended by now
	}
	return found
}

// Marked tells whether a process began with a line of its environment. Those of other users
// show nothing.
func Marked(pid int, line string) bool {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	return err == nil && slices.Contains(strings.Split(string(env), "\x00"), line)
}
