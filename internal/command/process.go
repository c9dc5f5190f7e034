package command

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// Spec says what to start.
type Spec struct {
	// Args are the program and its arguments.
	Args []string
	// Env is the whole environment, that of this process if nil.
	Env []string
	Dir string
	// The command has these very files, so that nothing comes between it and them; the
	// null device where they are nil.
	Stdin, Stdout, Stderr *os.File
	// Attr may have more, such as another user or a cgroup.
	Attr *syscall.SysProcAttr
	// Adopted means that this process called Adopt, and Spared are the children that are not
	// the command's.
	Adopted bool
	Spared  []int
}

// Process is a command that was started.
type Process struct {
	pid     int
	adopted bool
	spared  []int
	stopped chan syscall.Signal
	done    chan struct{}
	exit    Exit
	// mu is held while signals are sent, and gone is set before the process id may belong to
	// somebody else.
	mu   sync.Mutex
	gone bool
}

// Adopt makes this process the parent of whatever loses its parent below it, so that also
// what left its process group is ended with the command. It is for programs that run one
// command: every child that is not spared counts as the command's.
func Adopt() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the parent of orphans: %w", err)
	}
	return nil
}

// Start starts a command in a process group of its own. The kernel kills the command when
// this process ends.
func Start(s Spec) (*Process, error) {
	path, err := find(s.Args[0])
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{Path: path, Args: s.Args, Env: s.Env, Dir: s.Dir, SysProcAttr: &syscall.SysProcAttr{}}
	if s.Attr != nil {
		*cmd.SysProcAttr = *s.Attr
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	// A nil *os.File is no nil io.Writer.
	if s.Stdin != nil {
		cmd.Stdin = s.Stdin
	}
	if s.Stdout != nil {
		cmd.Stdout = s.Stdout
	}
	if s.Stderr != nil {
		cmd.Stderr = s.Stderr
	}
	p := &Process{adopted: s.Adopted, spared: s.Spared, stopped: make(chan syscall.Signal, 1), done: make(chan struct{})}
	started := make(chan error)
	go p.run(cmd, started)
	if err := <-started; err != nil {
		return nil, startError(path, err)
	}
	return p, nil
}

// run starts the command and waits for it in one thread, because the kernel takes the end of
// the thread that started it for the end of its parent.
func (p *Process) run(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Start()
	if err == nil {
		p.pid = cmd.Process.Pid
	}
	started <- err
	if err != nil {
		return
	}
	p.await()
	p.exit = p.reap()
	// Its process was waited for without the help of os/exec.
	_ = cmd.Process.Release()
	close(p.done)
}

// await returns when the command has ended. Until it is reaped nobody else gets its id.
func (p *Process) await() {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, p.pid, &info, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || info.Code != cldStopped && info.Code != cldTrapped {
			return
		}
		var status unix.WaitStatus
		if _, err := unix.Wait4(p.pid, &status, unix.WUNTRACED|unix.WNOHANG, nil); err == nil && status.Stopped() {
			p.tellStopped(status.StopSignal())
		}
	}
}

// Values of si_code.
const (
	cldTrapped = 4
	cldStopped = 5
)

// tellStopped keeps the last signal if nobody listens.
func (p *Process) tellStopped(sig syscall.Signal) {
	select {
	case <-p.stopped:
	default:
	}
	p.stopped <- sig
}

// leftBound is how long killed processes may take to go: one that waits for a device does
// not go before the device answers.
const (
	leftBound = 10 * time.Second
	leftPoll  = 5 * time.Millisecond
)

// reap ends what the command left behind and returns how the command ended.
func (p *Process) reap() Exit {
	p.mu.Lock()
	p.gone = true
	p.mu.Unlock()
	// The group has nobody but the dead command if this finds none.
	_ = unix.Kill(-p.pid, unix.SIGKILL)
	var status unix.WaitStatus
	for {
		if _, err := unix.Wait4(p.pid, &status, 0, nil); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	exit := Exit{Code: status.ExitStatus()}
	if status.Signaled() {
		exit = Exit{Signal: status.Signal()}
	}
	for end := time.Now().Add(leftBound); p.left(); time.Sleep(leftPoll) {
		if time.Now().After(end) {
			exit.Left = true
			break
		}
	}
	return exit
}

// left tells whether anything of the command runs yet, and kills what was adopted.
func (p *Process) left() bool {
	if !p.adopted {
		return !errors.Is(unix.Kill(-p.pid, 0), unix.ESRCH) && slices.ContainsFunc(processes(), func(other procfs.ProcStat) bool {
			return other.PGRP == p.pid && !dead(other)
		})
	}
	left := false
	for _, other := range processes() {
		if other.PPID != os.Getpid() || slices.Contains(p.spared, other.PID) {
			continue
		}
		left = true
		// One that may not be killed, because it is somebody else's by now, is left.
		_ = unix.Kill(other.PID, unix.SIGKILL)
		// It is gone with the next look, or the one after.
		_, _ = unix.Wait4(other.PID, nil, unix.WNOHANG, nil)
	}
	return left
}

// Pid is the id of the command's process and of its group.
func (p *Process) Pid() int { return p.pid }

// Done is closed when the command and all that it left behind have ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit is how the command ended. It is valid once Done is closed.
func (p *Process) Exit() Exit { return p.exit }

// Stopped has the signal that stopped the command, as Ctrl-Z does.
func (p *Process) Stopped() <-chan syscall.Signal { return p.stopped }

// Signal sends a signal to the whole group. Nothing happens if the command has ended.
func (p *Process) Signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.gone {
		// Processes of another user cannot be reached, and nothing helps.
		_ = unix.Kill(-p.pid, sig)
	}
}

// Kill ends the whole group at once.
func (p *Process) Kill() { p.Signal(syscall.SIGKILL) }

// End asks the group to end, kills what has not ended after the grace, and returns when all
// is gone. One that was stopped is continued so that it can obey.
func (p *Process) End(grace time.Duration) {
	p.Signal(syscall.SIGTERM)
	p.Signal(syscall.SIGCONT)
	select {
	case <-p.done:
		return
	case <-time.After(grace):
	}
	p.Kill()
	<-p.done
}
