package child

import (
	"os/exec"
	"runtime"
	"syscall"
)

// Start starts a command that the kernel kills when this process ends. The
// channel gets the result of its Wait and is closed. Other attributes in
// cmd.SysProcAttr are kept.
func Start(cmd *exec.Cmd) (<-chan error, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	exited := make(chan error, 1)
	started := make(chan error)
	go func() {
		// The kernel goes by the thread that started the child, so the thread
		// must live as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(exited)
		err := cmd.Start()
		started <- err
		if err == nil {
			exited <- cmd.Wait()
		}
	}()
	return exited, <-started
}
