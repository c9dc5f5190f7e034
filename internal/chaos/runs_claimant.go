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
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/procfs"

	"github.com/hostsched/hostsched/internal/child"
	"github.com/hostsched/hostsched/internal/testserver"
)

// party is somebody who claims runs: it has processes, and links of its own to the replicas.
type party struct {
	name    string
	links   []*link
	servers []string
	// busy means that a fault concerns it.
	busy bool
	// tree are its processes, the first one is that which calls the servers; nil if it has none.
	tree func() []int
}

func (c *chaos) newParty(name string) (*party, error) {
	p := &party{name: name}
	for _, r := range c.replicas {
		l, err := testserver.OpenLink(r.listen)
		if err != nil {
			return nil, err
		}
		p.links = append(p.links, l)
		p.servers = append(p.servers, "http://"+l.Addr)
	}
	return p, nil
}

func (p *party) closeLinks() {
	for _, l := range p.links {
		l.Close()
	}
}

// claimant is somebody who runs commands on hosts with `hostsched run`, one after the other.
type claimant struct {
	*party
	rng *rand.Rand
	env []string
	log string

	mu  sync.Mutex
	cmd *exec.Cmd // nil if nothing runs
}

// commandPatience is how long one `hostsched run` may take: it waits for a host, whose last
// run may have been lost.
const commandPatience = 3 * time.Minute

// betweenCommands is how long a claimant rests, afterFailure if hostsched itself failed, as it
// does while the servers can do nothing.
const (
	betweenCommands = 200 * time.Millisecond
	afterFailure    = 2 * time.Second
)

// failedItself is the status of a `hostsched run` whose command never came to be.
const failedItself = "125"

func (c *chaos) newClaimant(n int) (*claimant, error) {
	p, err := c.newParty("claimant-" + strconv.Itoa(n))
	if err != nil {
		return nil, err
	}
	cl := &claimant{party: p, rng: rand.New(rand.NewPCG(c.o.seed, uint64(n)+1)), log: filepath.Join(c.dir, p.name+".log")}
	cl.tree = func() []int {
		if pid := cl.pid(); pid != 0 {
			return treeOf(pid)
		}
		return nil
	}
	cl.env = append(os.Environ(), "HOSTSCHED_SERVER="+strings.Join(p.servers, ","), "HOSTSCHED_TOKEN="+c.runs.token)
	return cl, nil
}

// work runs commands until ctx ends, and then waits for the last one.
func (cl *claimant) work(ctx context.Context, c *chaos) error {
	defer cl.closeLinks()
	for ctx.Err() == nil {
		how, err := cl.once(c)
		if err != nil {
			return err
		}
		c.runs.mu.Lock()
		c.runs.ends[how]++
		c.runs.mu.Unlock()
		if how == failedItself {
			sleep(ctx, afterFailure)
		}
		sleep(ctx, betweenCommands)
	}
	return nil
}

// once runs one command and tells how it ended.
func (cl *claimant) once(c *chaos) (how string, err error) {
	hold := time.Duration(cl.rng.IntN(4000)) * time.Millisecond
	args := []string{"run", "-l", board(cl.rng.IntN(runsSpec.Boards)), "--wait-timeout", "2m"}
	if cl.rng.IntN(8) == 0 {
		args = append(args, "--count", "2")
	}
	// Nobody fences hosts without agent: the witness does, as a lab's power switch would.
	args = append(args, "--", c.runs.self, "-witness", c.runs.dir, "-hold", hold.String(), "-fence")
	cmd := exec.Command(c.o.program, args...)
	cmd.Env = cl.env
	exit, err := child.StartLogging(cmd, cl.log)
	if err != nil {
		return "", err
	}
	cl.set(cmd)
	defer cl.set(nil)
	select {
	case <-exit.Done():
	case <-time.After(commandPatience):
		c.wrong("%s: hostsched %s has not ended after %v", cl.name, strings.Join(args[:4], " "), commandPatience)
		return "never", errors.Join(cmd.Process.Kill(), cmd.Process.Signal(syscall.SIGCONT))
	}
	return endOf(cmd), nil
}

func endOf(cmd *exec.Cmd) string {
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return status.Signal().String()
	}
	return strconv.Itoa(cmd.ProcessState.ExitCode())
}

func (cl *claimant) set(cmd *exec.Cmd) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.cmd = cmd
}

// pid is that of the running command, 0 if there is none.
func (cl *claimant) pid() int {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.cmd == nil {
		return 0
	}
	return cl.cmd.Process.Pid
}

// processesOf are the ids of the processes whose arguments are wanted.
func processesOf(wanted func(args string) bool) (ids []int) {
	all, _ := procfs.AllProcs() // none where the kernel shows none
	for _, p := range all {
		if args, err := p.CmdLine(); err == nil && wanted(strings.Join(args, " ")) {
			ids = append(ids, p.PID)
		}
	}
	return ids
}

// treeOf are processes and all that they and their descendants started, as far as those still
// have a parent among them.
func treeOf(roots ...int) []int {
	parents := map[int][]int{}
	all, _ := procfs.AllProcs() // none where the kernel shows none
	for _, p := range all {
		if stat, err := p.Stat(); err == nil {
			parents[stat.PPID] = append(parents[stat.PPID], p.PID)
		}
	}
	tree := slices.Clone(roots)
	for at := 0; at < len(tree); at++ {
		tree = append(tree, parents[tree[at]]...)
	}
	return tree
}

// signalAll sends a signal to processes, which may have ended meanwhile.
func signalAll(ids []int, s syscall.Signal) error {
	var errs []error
	for _, id := range ids {
		if err := syscall.Kill(id, s); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, fmt.Errorf("send %v to process %d: %w", s, id, err))
		}
	}
	return errors.Join(errs...)
}
