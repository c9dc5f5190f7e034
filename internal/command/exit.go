package command

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The exit statuses of programs that run commands, as env, timeout and docker run have them.
const (
	StatusTimeout       = 124
	StatusFailed        = 125 // whoever runs the command failed
	StatusNotExecutable = 126
	StatusNotFound      = 127
	// statusSignal is added to the number of the signal that ended a command.
	statusSignal = 128
)

// OneRequest is for how long further signals that ask a program to end belong to the first:
// timeout(1), for one, sends its signal to the process and then to the process's group.
const OneRequest = time.Second

// Errors of a command that cannot be started.
var (
	// ErrNotFound means that there is no such program.
	ErrNotFound = errors.New("command not found")
	// ErrNotExecutable means that there is one, which cannot be executed.
	ErrNotExecutable = errors.New("command cannot be executed")
)

// Status is the exit status that says why a command could not be started.
func Status(err error) int {
	switch {
	case errors.Is(err, ErrNotFound):
		return StatusNotFound
	case errors.Is(err, ErrNotExecutable):
		return StatusNotExecutable
	}
	return StatusFailed
}

// Exit is how a command ended.
type Exit struct {
	// Code is the exit code, unless Signal ended the command.
	Code   int
	Signal syscall.Signal
	// Left means that some process of the command could not be ended.
	Left bool
}

// Status is what a shell says of it.
func (e Exit) Status() int {
	if e.Signal != 0 {
		return statusSignal + int(e.Signal)
	}
	return e.Code
}

// find is the path of a program, as execvp finds it: by PATH unless its name has a slash.
func find(name string) (string, error) {
	path, err := exec.LookPath(name)
	switch {
	case err == nil || errors.Is(err, exec.ErrDot):
		return path, nil
	case !strings.Contains(name, "/") && inPath(name), errors.Is(err, fs.ErrPermission):
		return "", fmt.Errorf("%w: %s is no executable file; make it one with chmod +x", ErrNotExecutable, name)
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return "", fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	return "", fmt.Errorf("%w: %s: %w", ErrNotExecutable, name, err)
}

// inPath tells whether a folder of PATH has a file of this name, although nobody may execute
// it.
func inPath(name string) bool {
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Mode().IsRegular() {
			return true
		}
	}
	return false
}

// startError says why the kernel did not execute a file that is there.
func startError(path string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("%w: the interpreter in the first line of %s is not there", ErrNotFound, path)
	case errors.Is(err, syscall.ENOEXEC):
		return fmt.Errorf("%w: %s is no program of this machine, and as a script its first line lacks #! and the interpreter", ErrNotExecutable, path)
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOMEM):
		return fmt.Errorf("start %s: %w", path, err)
	}
	return fmt.Errorf("%w: %s: %w", ErrNotExecutable, path, err)
}
