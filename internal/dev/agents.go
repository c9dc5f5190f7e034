package dev

import (
	"context"
	_ "embed" // the commands of the simulated hosts
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sync/errgroup"

	"github.com/hostsched/hostsched/internal/agent"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
	"github.com/hostsched/hostsched/internal/simlab"
)

var (
	//go:embed simulated/host.sh
	hostScript []byte
	//go:embed simulated/test.sh
	testScript string
)

const (
	// deskLabel is of the hosts that the simulation leaves alone, for who tries the lab:
	// the queue for the others never ends.
	deskLabel = "pool:desk"
	deskHosts = 2
	// agentRuns bounds how many runs one agent has at the same time: each has processes.
	agentRuns = 25
	// startBound is how long the replicas may take until they answer.
	startBound = time.Minute
)

// startAgents adds what agents need to the lab, as its administrator would, and starts them.
func (d *dev) startAgents(ctx context.Context) error {
	if d.opts.Agents == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startBound)
	defer cancel()
	// What is submitted without a name is this user's.
	if err := d.post(ctx, "/users", labapi.UserInput{Login: lab.FirstAdmin}, nil); err != nil {
		return err
	}
	for i := range deskHosts {
		host := labapi.HostInput{Hostname: fmt.Sprintf("desk-%d", i+1), Labels: []string{deskLabel}}
		if err := d.post(ctx, "/hosts", host, nil); err != nil {
			return err
		}
	}
	if err := os.WriteFile(d.hostCommand(), hostScript, 0o755); err != nil { //nolint:gosec // it is a program
		return fmt.Errorf("write the command of the simulated hosts: %w", err)
	}
	hosts, err := simlab.Hostnames(ctx, d.db.SQL())
	if err != nil {
		return err
	}
	for i := range d.opts.Agents {
		var own []string
		for n := i; n < len(hosts); n += d.opts.Agents {
			own = append(own, hosts[n])
		}
		if err := d.startAgent(ctx, fmt.Sprintf("agent-%d", i+1), own); err != nil {
			return err
		}
	}
	d.progress("started %d agents, whose hosts are driven by %s", d.opts.Agents, d.hostCommand())
	return nil
}

func (d *dev) hostCommand() string { return filepath.Join(d.opts.DataDir, "simulated-host") }

// post makes a change of the lab, as soon as a replica answers.
func (d *dev) post(ctx context.Context, path string, in, out any) error {
	for {
		err := d.api.Do(ctx, labclient.Call{Method: http.MethodPost, Path: path, Body: in}, out)
		if !errors.Is(err, labclient.ErrAway) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(observeEvery / 5):
		}
	}
}

func (d *dev) startAgent(ctx context.Context, name string, hosts []string) error {
	var added labapi.AgentAdded
	if err := d.post(ctx, "/agents", labapi.AgentInput{Name: name, Hosts: hosts}, &added); err != nil {
		return err
	}
	cfg, err := d.agentConfig(name, added.Join.Token, len(hosts))
	if err != nil {
		return fmt.Errorf("configure %s: %w", name, err)
	}
	p := &process{name: name, logTo: d.file(name + ".log"), args: []string{"agent", "--config", cfg}}
	d.agents = append(d.agents, p)
	return p.start()
}

func (d *dev) file(name string) string { return filepath.Join(d.opts.DataDir, name) }

// agentConfig writes the file of an agent and its join token.
func (d *dev) agentConfig(name, token string, hosts int) (string, error) {
	// Commands begin in the folders of their runs.
	hostCommand, err := filepath.Abs(d.hostCommand())
	if err != nil {
		return "", err
	}
	tasks := map[string][]string{}
	for _, task := range []string{"verify", "cleanup", "reset", "provision", "repair"} {
		tasks[task] = []string{"sh", hostCommand, task, "{host}", "{run}"}
	}
	join := d.file(name + ".join")
	text, err := yaml.Marshal(agent.Config{
		Name: name, Servers: d.addresses(), JoinTokenFile: join, TokenFile: d.file(name + ".token"), Spool: d.file(name),
		Capacity: min(hosts, agentRuns), TaskTimeout: time.Minute, Drivers: []agent.Driver{{Kind: "exec", Tasks: tasks}},
	})
	if err != nil {
		return "", err
	}
	cfg := d.file(name + ".yaml")
	return cfg, errors.Join(os.WriteFile(join, []byte(token+"\n"), 0o600), os.WriteFile(cfg, text, 0o600))
}

// stopAgents ends the runs and then the agents, which end their runs only if the servers say
// so.
func (d *dev) stopAgents() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var g errgroup.Group
	for _, p := range d.agents {
		g.Go(func() error {
			if !p.running() {
				return nil
			}
			err := d.post(ctx, labclient.Path("agents", p.name, "stop"), labapi.AgentWish{Reason: "the simulated lab ends"}, nil)
			if err == nil {
				p.wait(ctx)
			}
			return errors.Join(err, p.stop())
		})
	}
	return g.Wait()
}
