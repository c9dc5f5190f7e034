package child

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// Exit is the end of a process, which may be yet to come.
type Exit struct {
	done chan struct{}
	err  error
}

// Done is closed when the process has ended.
func (e *Exit) Done() <-chan struct{} { return e.done }

// Err is the result of the command's Wait. It is valid once Done is closed.
func (e *Exit) Err() error { return e.err }

// StartLogging is Start for a command whose output is appended to a file.
func StartLogging(cmd *exec.Cmd, file string) (*Exit, error) {
	log, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = log, log
	exit, err := Start(cmd)
	return exit, errors.Join(err, log.Close())
}

// Start starts a command that the kernel kills when this process ends. Other
// attributes in cmd.SysProcAttr are kept.
func Start(cmd *exec.Cmd) (*Exit, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	exit := &Exit{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel goes by the thread that started the child, so the thread
		// must live as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(exit.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			exit.err = cmd.Wait()
		}
	}()
	return exit, <-started
}
