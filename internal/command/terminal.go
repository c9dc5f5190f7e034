package command

import (
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// Terminal is the one that this process was started on. A command in a group of its own has
// not the keys of it, until it asks for them: then the kernel stops it, and somebody gives
// them to it, as a shell does. So Ctrl-C goes to this process as long as the command reads
// nothing, and to the command once it does.
type Terminal struct{ file *os.File }

// OpenTerminal returns nil if there is no terminal.
func OpenTerminal() *Terminal {
	file, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	return &Terminal{file}
}

// Close ends the use of the terminal, with the keys where they were at first.
func (t *Terminal) Close() error { return t.file.Close() }

// foreground is the group that has the keys, 0 if the terminal is gone.
func (t *Terminal) foreground() int {
	group, err := unix.IoctlGetInt(int(t.file.Fd()), unix.TIOCGPGRP)
	if err != nil {
		return 0
	}
	return group
}

// give gives the keys to a group. The kernel would stop who does it without having them,
// unless SIGTTOU is ignored.
func (t *Terminal) give(group int) bool {
	signal.Ignore(syscall.SIGTTOU)
	defer signal.Reset(syscall.SIGTTOU)
	return unix.IoctlSetPointerInt(int(t.file.Fd()), unix.TIOCSPGRP, group) == nil
}

// Attend goes on where the kernel stopped a command: it gets the keys if it asked for them, or
// else this process stops as well, as somebody who pressed Ctrl-Z wants, and goes on with the
// command when it is continued. mayGoOn is asked before that. Who stopped the command by any
// other signal continues it himself.
func (t *Terminal) Attend(p *Process, sig syscall.Signal, mayGoOn func() bool) {
	asks := sig == syscall.SIGTTIN || sig == syscall.SIGTTOU
	if !asks && sig != syscall.SIGTSTP {
		return
	}
	if asks && t.foreground() == unix.Getpgrp() && t.give(p.Pid()) {
		p.Signal(syscall.SIGCONT)
		return
	}
	had := t.takeFrom(p)
	suspend()
	if !mayGoOn() {
		return
	}
	if had && t.foreground() == unix.Getpgrp() {
		t.give(p.Pid())
	}
	p.Signal(syscall.SIGCONT)
}

// TakeBack takes the keys back from a command that ended with them.
func (t *Terminal) TakeBack(p *Process) { t.takeFrom(p) }

func (t *Terminal) takeFrom(p *Process) (had bool) {
	return t.foreground() == p.Pid() && t.give(unix.Getpgrp())
}

// suspendSettles is how long the kernel may take to stop this process.
const suspendSettles = 50 * time.Millisecond

// suspend stops this process with its group, as Ctrl-Z does, and returns when it goes on: at
// once where no shell could continue it. Programs in Go cannot stop themselves by SIGTSTP,
// with which the kernel would find that out.
func suspend() {
	if orphaned(processes(), unix.Getpgrp()) {
		return
	}
	_ = unix.Kill(0, unix.SIGSTOP) // this process may signal its own group
	time.Sleep(suspendSettles)
}

// orphaned tells whether no process of a group has a parent that could continue the group: one
// in the same session, in another group.
func orphaned(all []procfs.ProcStat, group int) bool {
	byPid := map[int]procfs.ProcStat{}
	for _, p := range all {
		byPid[p.PID] = p
	}
	return !slices.ContainsFunc(all, func(p procfs.ProcStat) bool {
		parent, known := byPid[p.PPID]
		return p.PGRP == group && known && parent.Session == p.Session && parent.PGRP != group
	})
}
