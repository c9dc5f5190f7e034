package dev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/hostsched/hostsched/internal/child"
	"github.com/hostsched/hostsched/internal/web"
)

// process is one replica or agent as a process of its own.
type process struct {
	name   string
	listen string // of a replica
	args   []string
	logTo  string

	mu      sync.Mutex
	cmd     *exec.Cmd
	exited  <-chan struct{} // the exit code of a killed process is of no interest
	stopped bool            // by SIGSTOP
}

// stopTimeout bounds how long a replica may take to hand over and end, and an agent to end its
// runs.
const stopTimeout = 10 * time.Second

// start begins the process.
func (p *process) start() error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(exe, p.args...)
	// A process group of its own: Ctrl-C is for the supervisor, which then stops
	// the replicas in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	exit, err := child.StartLogging(cmd, p.logTo)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd, p.exited, p.stopped = cmd, exit.Done(), false
	return nil
}

func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

func (p *process) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// signal sends a signal. SIGKILL is waited for.
func (p *process) signal(s syscall.Signal) error {
	p.mu.Lock()
	cmd, exited := p.cmd, p.exited
	p.stopped = s == syscall.SIGSTOP
	p.mu.Unlock()
	if err := cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %v to %s: %w", s, p.name, err)
	}
	if s == syscall.SIGKILL {
		<-exited
	}
	return nil
}

// wait waits until the process has ended.
func (p *process) wait(ctx context.Context) {
	p.mu.Lock()
	exited := p.exited
	p.mu.Unlock()
	select {
	case <-exited:
	case <-ctx.Done():
	}
}

// stop ends the process in an orderly way, or else by force.
func (p *process) stop() error {
	if !p.running() {
		return nil
	}
	err := errors.Join(p.signal(syscall.SIGCONT), p.signal(syscall.SIGTERM))
	select {
	case <-p.exited:
		return err
	case <-time.After(stopTimeout):
		return errors.Join(err, fmt.Errorf("%s did not stop within %v; see %s", p.name, stopTimeout, p.logTo), p.signal(syscall.SIGKILL))
	}
}

// status asks the replica about itself.
func (p *process) status(ctx context.Context) (web.ServerStatus, error) {
	return web.Client{}.ReadStatus(ctx, p.listen, time.Second)
}

// newProcess prepares a replica; it is not started yet.
func (d *dev) newProcess(i int, listen string) *process {
	name := fmt.Sprintf("replica-%d", i)
	return &process{
		name: name, listen: listen, logTo: d.file(name + ".log"),
		args: []string{
			"serve", "--server", name, "--listen", listen, "--cluster", clusterName,
			"--etcd-endpoints", d.etcd.Endpoint, "--etcd-ttl", d.opts.TTL.String(),
			"--database-dsn", d.dsn(), "--tick-min", d.opts.MinTick.String(), "--log-level", "debug",
			// The lab is simulated, and the address a loopback one.
			"--api-auth", "none", "--runner", d.runner(), "--runs-lease", runsLease.String(),
		},
	}
}

// runsLease is short, so that nothing lives on for long if everything is killed at once.
const runsLease = 30 * time.Second

// runner is who runs jobs: the simulator does what monitor_db would.
func (d *dev) runner() string {
	if d.opts.Agents == 0 {
		return "autotest"
	}
	return "agents"
}
