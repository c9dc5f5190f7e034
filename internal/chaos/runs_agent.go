package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/child"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
)

const (
	hostsPerAgent = 8
	// servedLabel is carried by the hosts that agents serve; jobs for agents ask for it.
	servedLabel = "served"
	// openJobs is how many jobs for agents wait or run.
	openJobs = 8
)

// agent is a `hostsched agent` process with its shims, which outlive it.
type agent struct {
	*party
	program, config, log string
	dir                  string
	// disk means that the spool has a disk of its own, which only root can give it.
	disk bool
	// replaced means that another agent had its name for a while, so that it ends.
	replaced bool

	mu   sync.Mutex
	cmd  *exec.Cmd
	exit *child.Exit
}

// caller is who does things in the lab.
var caller = access.Caller{Login: "alice", Role: access.Admin}

// newAgent enters an agent and writes its file.
func (c *chaos) newAgent(ctx context.Context, n int) (*agent, error) {
	p, err := c.newParty(fmt.Sprintf("agent-%d", n))
	if err != nil {
		return nil, err
	}
	a := &agent{party: p, program: c.o.program, dir: filepath.Join(c.dir, p.name), log: filepath.Join(c.dir, p.name+".log")}
	a.config = filepath.Join(a.dir, "agent.yaml")
	a.tree = a.processes
	if err := os.MkdirAll(a.spool(), 0o700); err != nil {
		return nil, err
	}
	a.disk = syscall.Mount("tmpfs", a.spool(), "tmpfs", 0, spoolSize) == nil
	hosts, err := c.serve(ctx, n)
	if err != nil {
		return nil, err
	}
	added, err := c.runs.lab.AddAgent(ctx, caller, labapi.AgentInput{Name: p.name, Hosts: hosts})
	if err != nil {
		return nil, err
	}
	join := filepath.Join(a.dir, "join-token")
	work := func(hold time.Duration) []string {
		return []string{c.runs.self, "-witness", c.runs.dir, "-fence", "-hold", hold.String()}
	}
	const short, long = 100 * time.Millisecond, 300 * time.Millisecond
	text, err := yaml.Marshal(map[string]any{
		"name": p.name, "servers": p.servers, "join_token_file": join, "token_file": filepath.Join(a.dir, "token"), "spool": a.spool(), "capacity": hostsPerAgent,
		"drivers": []map[string]any{{"driver": "exec", "tasks": map[string][]string{
			"fence": work(0), "verify": work(short), "cleanup": work(short), "reset": work(long), "provision": work(long), "repair": work(long),
		}}},
	})
	return a, errors.Join(err, os.WriteFile(join, []byte(added.Join.Token), 0o600), os.WriteFile(a.config, text, 0o600))
}

// spoolSize is more than an agent wants to have free.
const spoolSize = "size=160m"

func (a *agent) spool() string { return filepath.Join(a.dir, "spool") }

// stopAgents ends agents for good, with all that they left if something went wrong.
func (c *chaos) stopAgents() (err error) {
	if c.runs == nil {
		return nil
	}
	for _, a := range c.runs.agents {
		left := processesOf(func(args string) bool { return strings.Contains(args, a.dir) })
		err = errors.Join(err, a.end(syscall.SIGTERM), signalAll(left, syscall.SIGKILL))
		a.closeLinks()
		if a.disk {
			err = errors.Join(err, syscall.Unmount(a.spool(), syscall.MNT_DETACH))
		}
	}
	return err
}

// serve chooses the hosts of an agent, and lets them carry the label.
func (c *chaos) serve(ctx context.Context, n int) (hosts []string, err error) {
	l := c.runs.lab
	page, err := l.Hosts(ctx, lab.HostFilter{}, "", runsSpec.Hosts)
	if err != nil {
		return nil, err
	}
	for _, h := range page.Items[(n-1)*hostsPerAgent : n*hostsPerAgent] {
		hosts = append(hosts, h.Hostname)
		if _, _, err := l.PatchHost(ctx, caller, h.Hostname, "*", labapi.HostPatch{AddLabels: []string{servedLabel}}); err != nil {
			return nil, err
		}
	}
	return hosts, nil
}

func (a *agent) start() error {
	cmd := exec.Command(a.program, "agent", "--config", a.config)
	exit, err := child.StartLogging(cmd, a.log)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cmd, a.exit = cmd, exit
	return err
}

// end sends a signal to the agent alone and waits for its end.
func (a *agent) end(s syscall.Signal) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-a.exit.Done():
		return nil
	case <-time.After(endTimeout):
		return errors.Join(fmt.Errorf("%w: %s did not end within %v of %v", errViolated, a.name, endTimeout, s), a.cmd.Process.Kill())
	}
}

// ended is the status with which the agent has ended, -1 if it has not.
func (a *agent) ended() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-a.exit.Done():
		return a.cmd.ProcessState.ExitCode()
	default:
		return -1
	}
}

// processes are the agent, its shims and what those run.
func (a *agent) processes() []int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cmd == nil {
		return nil
	}
	shims := processesOf(func(args string) bool { return strings.Contains(args, a.spool()) })
	return slices.Compact(append([]int{a.cmd.Process.Pid}, treeOf(shims...)...))
}

// submit keeps jobs for agents in the queue until ctx ends. A submission may fail while the
// database is disturbed.
func (c *chaos) submit(ctx context.Context) error {
	l := c.runs.lab
	rng := rand.New(rand.NewPCG(c.o.seed, 0))
	for ; ctx.Err() == nil; sleep(ctx, pace.Step) {
		open, err := c.number(ctx, "SELECT COUNT(*) FROM afe_host_queue_entries q JOIN afe_jobs j ON j.id = q.job_id WHERE q.complete = 0 AND j.name = 'chaos'")
		if err != nil || open >= openJobs {
			continue
		}
		bound, cancel := context.WithTimeout(ctx, stepTimeout)
		_, _, _ = l.SubmitJob(bound, lab.Submission{Who: caller, MaxPriority: 100}, c.jobForAgents(rng))
		cancel()
	}
	return nil
}

// jobForAgents is a job of which one in four may be tried again, and one in four says a lot.
func (c *chaos) jobForAgents(rng *rand.Rand) labapi.JobSpec {
	const share, muchSaid = 4, 3000
	reset, tries, lines := rng.IntN(2) == 0, 1, 0
	if rng.IntN(share) == 0 {
		tries = 2
	}
	if rng.IntN(share) == 0 {
		lines = rng.IntN(muchSaid)
	}
	spec := labapi.JobSpec{
		Name: "chaos", Labels: []string{servedLabel}, Reset: &reset,
		Script: fmt.Sprintf("exec %s -witness %s -hold %dms -tries %d -lines %d", c.runs.self, c.runs.dir, rng.IntN(4000), tries, lines),
	}
	if tries > 1 {
		spec.Retry = &labapi.RetrySpec{Infra: tries - 1}
	}
	return spec
}
