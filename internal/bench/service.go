package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/hostsched/hostsched/internal/child"
	"github.com/hostsched/hostsched/internal/embedetcd"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/web"
)

// installation is an etcd and some `hostsched serve` processes on a lab.
type installation struct {
	l       *testLab
	etcd    *embedetcd.Server
	dir     string
	servers []*serverProcess
	// args are further arguments of all replicas.
	args []string
}

// serverProcess is one replica.
type serverProcess struct {
	in           *installation
	name, listen string
	cmd          *exec.Cmd
	exit         *child.Exit
}

const (
	leaseTTL = 2 * time.Second
	// patience bounds every wait for a process.
	patience = 2 * time.Minute
	look     = 5 * time.Millisecond
)

// simulated are the arguments of replicas whose jobs the simulator runs, and which take
// everybody for an administrator.
var simulated = []string{"--api-auth", "none", "--runner", "autotest"}

// install starts etcd and so many replicas on a lab. Without other arguments it is simulated.
func (l *testLab) install(replicas int, args ...string) (*installation, error) {
	if _, err := os.Stat(l.b.program); err != nil {
		return nil, fmt.Errorf("the program under test: %w; `make build` makes it", err)
	}
	if len(args) == 0 {
		args = simulated
	}
	in := &installation{l: l, dir: filepath.Join(l.b.dir, l.name), args: args}
	if err := in.start(replicas); err != nil {
		return nil, errors.Join(err, in.stop())
	}
	return in, nil
}

func (in *installation) start(replicas int) (err error) {
	if err := os.Mkdir(in.dir, 0o755); err != nil {
		return err
	}
	if in.etcd, err = embedetcd.Start(filepath.Join(in.dir, "etcd")); err != nil {
		return err
	}
	for i := range replicas {
		addr, err := embedetcd.FreeAddr()
		if err != nil {
			return err
		}
		s := &serverProcess{in: in, name: "replica-" + strconv.Itoa(i+1), listen: addr}
		in.servers = append(in.servers, s)
		if err := s.start(); err != nil {
			return err
		}
	}
	return nil
}

// stop ends everything.
func (in *installation) stop() error {
	var err error
	for _, s := range in.servers {
		err = errors.Join(err, s.end(syscall.SIGTERM))
	}
	if in.etcd != nil {
		in.etcd.Stop()
	}
	return err
}

func (s *serverProcess) start() error {
	s.cmd = exec.Command(s.in.l.b.program, append([]string{"serve", "--server", s.name, "--listen", s.listen, "--cluster", "bench",
		"--etcd-endpoints", s.in.etcd.Endpoint, "--etcd-ttl", leaseTTL.String(), "--log-level", "warn"}, s.in.args...)...)
	// The DSN has a password field, so it goes by the environment.
	s.cmd.Env = append(os.Environ(), "HOSTSCHED_DATABASE_DSN="+s.in.l.dsn)
	var err error
	s.exit, err = child.StartLogging(s.cmd, filepath.Join(s.in.dir, s.name+".log"))
	return err
}

// end sends a signal and waits for the end of the process.
func (s *serverProcess) end(sig syscall.Signal) error {
	if s.exit == nil {
		return nil
	}
	return end(s.cmd.Process, s.exit, sig)
}

func end(p *os.Process, exit *child.Exit, sig syscall.Signal) error {
	if err := p.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-exit.Done():
		return nil
	case <-time.After(patience):
		return errors.Join(fmt.Errorf("process %d does not end", p.Pid), p.Kill())
	}
}

func (s *serverProcess) status(ctx context.Context) (replica.Status, bool) {
	st, err := web.Client{}.ReadStatus(ctx, s.listen, time.Second)
	if err != nil || len(st.Shards) != 1 {
		return replica.Status{}, false
	}
	return st.Shards[0], true
}

// leader waits until a replica leads and satisfies a condition.
func (in *installation) leader(ctx context.Context, what string, holds func(replica.Status) bool) (*serverProcess, replica.Status, error) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(look) {
		for _, s := range in.servers {
			if st, ok := s.status(ctx); ok && st.State == replica.StateLeader && holds(st) {
				return s, st, nil
			}
		}
	}
	return nil, replica.Status{}, errors.Join(fmt.Errorf("waited in vain for a leader: %s", what), in.logs())
}

// followers waits until all replicas but one stand ready to take over.
func (in *installation) followers(ctx context.Context) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(look) {
		ready := 0
		for _, s := range in.servers {
			if st, ok := s.status(ctx); ok && st.State == replica.StateCandidate {
				ready++
			}
		}
		if ready == len(in.servers)-1 {
			return nil
		}
	}
	return errors.Join(errors.New("waited in vain for followers"), in.logs())
}

// logs are what the replicas said, as an error.
func (in *installation) logs() error {
	var err error
	for _, s := range in.servers {
		log, rerr := os.ReadFile(filepath.Join(in.dir, s.name+".log"))
		err = errors.Join(err, rerr, fmt.Errorf("%s: %s", s.name, log[max(0, len(log)-2000):]))
	}
	return err
}

// memory reads a line of the process's memory, in MiB.
func (s *serverProcess) memory(line string) (float64, error) {
	return memoryOf(s.cmd.Process.Pid, line)
}

// footprint measures a leader's memory, and what another client notices of it.
func (b *bench) footprint(ctx context.Context, f *Figures) error {
	err := b.with(ctx, 0, 0, func(l *testLab) error {
		in, err := l.install(1)
		if err != nil {
			return err
		}
		f.RSSIdle, err = in.restingMemory(ctx)
		return errors.Join(err, in.stop())
	})
	if err != nil {
		return err
	}
	return b.with(ctx, f.Hosts, f.Entries, func(l *testLab) error { return l.busyMemory(ctx, f) })
}

// restingTicks are enough for everything to have happened once.
const restingTicks = 5

func (in *installation) restingMemory(ctx context.Context) (float64, error) {
	s, _, err := in.leader(ctx, "ticks in an empty lab", func(st replica.Status) bool { return st.Ticks >= restingTicks })
	if err != nil {
		return 0, err
	}
	return s.memory("VmRSS")
}

// busyMemory has a leader do a full tick and some steady ones, with the probe
// beside it.
func (l *testLab) busyMemory(ctx context.Context, f *Figures) error {
	p := l.newProbe()
	if err := p.run(ctx, probeTime, func(context.Context) error { return nil }); err != nil {
		return err
	}
	f.Probe.Without50, f.Probe.Without99, f.Probe.WithoutMax = p.percentiles()
	p = l.newProbe()
	in, err := l.install(1)
	if err != nil {
		return err
	}
	var leader *serverProcess
	err = p.run(ctx, probeTime, func(ctx context.Context) (err error) {
		leader, _, err = in.leader(ctx, "the full tick", func(st replica.Status) bool { return st.Assignments >= int64(f.Assigned)*9/10 })
		return err
	})
	if err == nil {
		f.Probe.With50, f.Probe.With99, f.Probe.WithMax = p.percentiles()
		f.Probe.Operations = len(p.took)
		err = l.steadyTicks(ctx, in)
	}
	if err == nil {
		f.RSS, err = leader.memory("VmHWM")
		f.RSS -= f.RSSIdle
	}
	return errors.Join(err, in.stop())
}

// steadyTicks lets a leader tick through some changes.
func (l *testLab) steadyTicks(ctx context.Context, in *installation) error {
	for range steadyRounds {
		if err := l.stir(ctx); err != nil {
			return err
		}
		_, before, err := in.leader(ctx, "any tick", func(replica.Status) bool { return true })
		if err != nil {
			return err
		}
		if _, _, err := in.leader(ctx, "the next ticks", func(st replica.Status) bool { return st.Ticks >= before.Ticks+restingTicks }); err != nil {
			return err
		}
	}
	return nil
}
