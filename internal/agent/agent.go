package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hostsched/hostsched/internal/agentclient"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
	"github.com/hostsched/hostsched/internal/shim"
)

// Agent serves the hosts that an administrator gave it.
type Agent struct {
	Version string
	Log     *slog.Logger
	// Shim and SSH are the arguments that make this program a shim, and the ssh of a step.
	Shim, SSH []string

	cfg     *Config
	spool   *spool
	boot    string
	session string
	// address is what people know the agent's machine by.
	address string
	cgroup  string
	// changed wakes the sync that waits, if it told the servers less than they should know.
	changed chan struct{}
	// stopping means that the agent ends when its last run does. Only serve uses it.
	stopping bool
	// following are the goroutines of runs.
	following sync.WaitGroup
	// left means that the latest answer had offers that could not be taken.
	left bool
	// rested is when memory was given back, zero if anything was done since.
	rested time.Time

	mu     sync.Mutex
	client *agentclient.Client
	// lease is how long claims last, as the servers last said.
	lease time.Duration
	runs  map[int64]*run
	// busy are the hosts that the agent works on, also those of claims that are not answered.
	busy map[string]bool
	// claiming counts the claims that are not answered.
	claiming int
	// joined is the join token that was tried last.
	joined string
}

// New prepares an agent. Nothing is written before Run.
func New(cfg *Config) *Agent {
	return &Agent{cfg: cfg, Log: slog.Default(), changed: make(chan struct{}, 1), lease: firstLease, runs: map[int64]*run{}, busy: map[string]bool{}}
}

// firstLease holds until the servers say how long leases are.
const firstLease = 2 * time.Second

// Run serves until the context ends, when its runs go on without it, or the servers want it to
// end.
func (a *Agent) Run(ctx context.Context) (err error) {
	client, err := agentclient.New(labclient.Config{Servers: a.cfg.Servers, CAFile: a.cfg.CAFile})
	if err != nil {
		return err
	}
	if a.boot, err = shim.BootID(); err != nil {
		return err
	}
	if a.spool, err = openSpool(a.cfg.Spool); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.spool.close()) }()
	id, err := a.spool.identify()
	if err != nil {
		a.Log.Warn("the spool cannot be told from others; runs that were lost with this process end with their leases", "err", err)
	}
	a.session = labapi.NewSession(id, rand.Text())
	a.address, _ = os.Hostname() // nobody needs it to go on
	a.findCgroup()
	if a.client, err = a.enter(ctx, client); err != nil {
		return err
	}
	// Runs end when nobody follows them, so the goroutines end last.
	following, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer a.following.Wait()
	defer leave()
	if err := a.adopt(following); err != nil {
		return err
	}
	return a.serve(ctx, following)
}

func (a *Agent) findCgroup() {
	switch a.cfg.Cgroup {
	case "off":
	case "auto", "":
		a.cgroup = shim.FindCgroup()
	default:
		a.cgroup = a.cfg.Cgroup
	}
	if a.cgroup == "" {
		a.Log.Info("runs have process groups: this machine has no cgroup that the agent may divide")
	}
}

// newCgroup names the cgroup of a run, empty for none. Agents of other labs may have the same
// cgroup, and runs of the same number.
func (a *Agent) newCgroup(run int64) string {
	if a.cgroup == "" {
		return ""
	}
	return filepath.Join(a.cgroup, fmt.Sprintf("hostsched-run-%d-%s", run, rand.Text()))
}

// adopt goes on with the runs of the agent before, and ends what no run owns.
func (a *Agent) adopt(ctx context.Context) error {
	found, strange, err := a.spool.found()
	if err != nil {
		return err
	}
	for _, f := range strange {
		a.removeStrange(f)
	}
	for f, rec := range found {
		if _, over := f.Result(); rec.Boot != a.boot && !over {
			a.Log.Warn("a run ended with the machine", "run", rec.Claimed.Run)
			a.removeStrange(f)
			continue
		}
		r, err := a.newRun(f, rec)
		if err != nil {
			return err
		}
		a.Log.Info("goes on with a run", "run", r.id)
		a.follow(ctx, r)
	}
	return nil
}

func (a *Agent) removeStrange(f shim.Folder) {
	if !f.Kill() {
		a.Log.Error("processes of a run that is over cannot be killed", "folder", string(f))
		return
	}
	if err := f.Remove(); err != nil {
		a.Log.Error("the folder of a run that is over cannot be removed", "folder", string(f), "err", err)
	}
}

// follow adds a run whose hosts are busy for as long as it is followed.
func (a *Agent) follow(ctx context.Context, r *run) {
	a.mu.Lock()
	a.runs[r.id] = r
	for _, h := range r.rec.Claimed.Hosts {
		a.busy[h.Hostname] = true
	}
	a.mu.Unlock()
	a.following.Go(func() {
		r.follow(ctx)
		a.mu.Lock()
		delete(a.runs, r.id)
		a.mu.Unlock()
		a.free(namesOf(r.rec.Claimed.Hosts))
	})
}

// reserve takes hosts for a claim, if all of them are free and another run is wanted.
func (a *Agent) reserve(hosts []string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.room() <= 0 || slices.ContainsFunc(hosts, func(h string) bool { return a.busy[h] }) {
		return false
	}
	for _, h := range hosts {
		a.busy[h] = true
	}
	a.claiming++
	return true
}

// claimed ends a claim. Its hosts stay busy.
func (a *Agent) claimed() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.claiming--
}

func (a *Agent) free(hosts []string) {
	a.mu.Lock()
	for _, h := range hosts {
		delete(a.busy, h)
	}
	a.mu.Unlock()
	a.wake()
}

func (a *Agent) wake() {
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// room is how many more runs there may be. The caller has the lock.
func (a *Agent) room() int { return a.cfg.Capacity - len(a.runs) - a.claiming }

func (a *Agent) allRuns() []*run {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Collect(maps.Values(a.runs))
}

// calls returns the client with the agent's present token.
func (a *Agent) calls() *agentclient.Client {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.client
}

func (a *Agent) setClient(client *agentclient.Client) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.client = client
}

func (a *Agent) leaseLength() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lease
}

func (a *Agent) setLease(length time.Duration) {
	if length <= 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lease = length
}

// away says once in a while that no server answers.
func (a *Agent) away(what string) func(error, time.Duration) {
	var said time.Time
	return func(err error, pause time.Duration) {
		if time.Since(said) < time.Minute {
			return
		}
		said = time.Now()
		a.Log.Warn("cannot "+what+", and tries again", "err", oneLine(err), "pause", pause.Round(time.Millisecond))
	}
}
