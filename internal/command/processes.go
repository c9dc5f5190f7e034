package command

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
)

// process is a line of /proc/PID/stat.
type process struct {
	pid, parent, group int
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
	// After the name come the state, the parent and the group.
	fields := bytes.Fields(line[end+1:])
	if len(fields) < 3 {
		return p, false
	}
	p.dead = bytes.ContainsAny(fields[0], "ZX")
	var errs [3]error
	p.pid, errs[0] = strconv.Atoi(string(pid))
	p.parent, errs[1] = strconv.Atoi(string(fields[1]))
	p.group, errs[2] = strconv.Atoi(string(fields[2]))
	return p, errors.Join(errs[:]...) == nil
}
