package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// agentFaults concern agents, their shims, and what those run.
var agentFaults = []fault{
	{kind: "kill -9 agent", weight: 5, light: true, strike: restartAgent(syscall.SIGKILL, 100*time.Millisecond, 3*time.Second)},
	{kind: "agent away for long", weight: 2, light: true, strike: restartAgent(syscall.SIGKILL, runsLease, 2*runsLease)},
	{kind: "agent restarted", weight: 3, light: true, strike: restartAgent(syscall.SIGTERM, 0, time.Second)},
	{kind: "agent upgraded", weight: 3, light: true, strike: upgradeAgent},
	{kind: "kill -9 shim", weight: 4, light: true, strike: onProcesses(agents, oneShim, syscall.SIGKILL)},
	{kind: "kill -9 job", weight: 3, light: true, strike: onProcesses(agents, oneJob, syscall.SIGKILL)},
	{kind: "the agent's machine reboots", weight: 3, light: true, strike: rebootAgent},
	{kind: "the agent's disk is full", weight: 3, light: true, strike: fillDisk},
	{kind: "SIGSTOP agent", weight: 3, light: true, strike: pauseProcesses(agents, theRun, time.Second, 2*runsLease)},
	{kind: "SIGSTOP shim", weight: 3, light: true, strike: pauseProcesses(agents, oneShim, time.Second, 2*runsLease)},
	{kind: "SIGSTOP job", weight: 2, light: true, strike: pauseProcesses(agents, oneJob, time.Second, 2*runsLease)},
	{kind: "the agent's machine is suspended", weight: 2, light: true, strike: pauseProcesses(agents, all, time.Second, 2*runsLease)},
	{kind: "agent cut off from the servers", weight: 4, light: true, strike: cutOff(agents, cutBoth, 500*time.Millisecond, 2*runsLease)},
	{kind: "agent hears nothing from the servers", weight: 4, light: true, strike: cutOff(agents, cutAnswers, 500*time.Millisecond, 2*runsLease)},
	{kind: "agent's connections reset", weight: 3, light: true, strike: cutOff(agents, reset, 0, 0)},
	{kind: "agent's connections break", weight: 3, light: true, strike: breakOff(agents)},
}

// fillDisk takes all room that the disk of an agent's spool has.
func fillDisk(_ context.Context, c *chaos) (*broken, error) {
	a, ok := of(c, c.runs.agents, func(a *agent) bool { return a.disk })
	if !ok {
		return nil, nil
	}
	file := filepath.Join(a.spool(), "everything")
	text := make([]byte, 1<<20)
	f, err := os.Create(file)
	for err == nil {
		_, err = f.Write(text)
	}
	if errors.Is(err, syscall.ENOSPC) {
		err = f.Close()
	}
	return &broken{what: a.name, hold: c.between(500*time.Millisecond, 2*runsLease), mend: func(context.Context) error {
		return os.Remove(file)
	}}, err
}

func agents(c *chaos) (out []*party) {
	for _, a := range c.runs.agents {
		out = append(out, a.party)
	}
	return out
}

// oneShim draws one of the shims of an agent.
func oneShim(c *chaos, tree []int) []int {
	return oneOf(c, among(tree[1:], func(args string) bool { return strings.Contains(args, filepath.Join(c.dir, "agent-")) }))
}

// oneJob draws one of the processes that work on hosts.
func oneJob(c *chaos, tree []int) []int { return oneOf(c, theCommand(c, tree)) }

func oneOf(c *chaos, ids []int) []int {
	if id, ok := pick(c, ids); ok {
		return []int{id}
	}
	return nil
}

func (c *chaos) anAgent() *agent {
	a, ok := of(c, c.runs.agents, func(a *agent) bool { return !a.busy })
	if !ok {
		return nil
	}
	a.busy = true
	return a
}

// restartAgent ends an agent, but not its shims, and starts it again.
func restartAgent(s syscall.Signal, low, high time.Duration) strike {
	return func(_ context.Context, c *chaos) (*broken, error) {
		a := c.anAgent()
		if a == nil {
			return nil, nil
		}
		return &broken{what: a.name, hold: c.between(low, high), mend: func(context.Context) error {
			a.busy = false
			return a.start()
		}}, a.end(s)
	}
}

// upgradeAgent starts the agent again from another file.
func upgradeAgent(_ context.Context, c *chaos) (*broken, error) {
	a := c.anAgent()
	if a == nil {
		return nil, nil
	}
	defer func() { a.busy = false }()
	program, err := c.copyProgram(a.name)
	if err != nil {
		return nil, err
	}
	a.program = program
	return &broken{what: a.name}, errors.Join(a.end(syscall.SIGTERM), a.start())
}

// copyProgram copies the program under test, as a new version has another file.
func (c *chaos) copyProgram(name string) (string, error) {
	data, err := os.ReadFile(c.o.program)
	if err != nil {
		return "", err
	}
	path := filepath.Join(c.dir, fmt.Sprintf("hostsched-%s-%d", name, time.Now().UnixMilli()))
	return path, os.WriteFile(path, data, 0o755)
}

// rebootAgent ends all processes of an agent at once, as its machine would.
func rebootAgent(_ context.Context, c *chaos) (*broken, error) {
	a := c.anAgent()
	if a == nil {
		return nil, nil
	}
	err := errors.Join(signalAll(a.tree(), syscall.SIGKILL), a.end(syscall.SIGKILL))
	return &broken{what: a.name, hold: c.between(200*time.Millisecond, 3*time.Second), mend: func(context.Context) error {
		a.busy = false
		return a.start()
	}}, err
}
