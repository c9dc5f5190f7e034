package command

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// process is a line of /proc/PID/stat.
type process struct {
	pid, parent, group, session int
	// dead means that nobody has asked how it ended; nothing of it runs.
	dead bool
}

// processes are all of this machine.
func processes() []process {
	files, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is a good one
	out := make([]process, 0, len(files))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		if p, ok := parseStat(text); ok {
			out = append(out, p)
		}
	}
	return out
}

// parseStat reads a line. The name of the program may have anything in it, also parentheses
// and spaces.
func parseStat(line []byte) (p process, ok bool) {
	pid, _, found := bytes.Cut(line, []byte(" ("))
	end := bytes.LastIndexByte(line, ')')
	if !found || end < 0 {
		return p, false
	}
	// After the name come the state, the parent, the group and the session.
	fields := bytes.Fields(line[end+1:])
	if len(fields) < 4 {
		return p, false
	}
	p.dead = bytes.ContainsAny(fields[0], "ZX")
	var errs [4]error
	p.pid, errs[0] = strconv.Atoi(string(pid))
	p.parent, errs[1] = strconv.Atoi(string(fields[1]))
	p.group, errs[2] = strconv.Atoi(string(fields[2]))
	p.session, errs[3] = strconv.Atoi(string(fields[3]))
	return p, errors.Join(errs[:]...) == nil
}

// KillMarked kills all processes of a group, and all of this user's whose environment has a
// line, and tells whether there were any. It is for whoever did not start them.
func KillMarked(group int, line string) (found bool) {
	for _, p := range processes() {
		if p.dead || p.pid == os.Getpid() || p.group != group && !marked(p.pid, line) {
			continue
		}
		found = true
		_ = unix.Kill(p.pid, unix.SIGKILL) // it may have ended by now
	}
	return found
}

// marked tells whether a process began with a line of its environment. Those of other users
// show nothing.
func marked(pid int, line string) bool {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	return err == nil && slices.Contains(strings.Split(string(env), "\x00"), line)
}
