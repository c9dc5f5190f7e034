package store

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// evictProcess ends a stopped process that holds the write lock of an SQLite
// file; nothing else frees that lock. Only a process on this machine that was
// registered with the same start time, and that is stopped, is touched.
func evictProcess(pid int64, start string) error {
	if start == "" || pid <= 1 || processStart(int(pid)) != start || !processStopped(int(pid)) {
		return nil
	}
	if err := syscall.Kill(int(pid), syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end the stopped predecessor, process %d, which holds the database locked: %w", pid, err)
	}
	return nil
}

// processStart returns a process's start time in clock ticks since boot, "" if
// it cannot be told.
func processStart(pid int) string { return processField(pid, 21) }

func processStopped(pid int) bool { return processField(pid, 2) == "T" }

// processField reads a field of /proc/PID/stat, counted from 0. The second
// field is the command in brackets, which may contain blanks.
func processField(pid, field int) string {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	_, rest, ok := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) <= field-2 {
		return ""
	}
	return fields[field-2]
}
