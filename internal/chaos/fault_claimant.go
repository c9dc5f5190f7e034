package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"
)

// claimantFaults concern the processes of `hostsched run`, what they start, and their way to
// the servers. No shard may stand still for them.
var claimantFaults = []fault{
	{kind: "kill -9 run", weight: 4, light: true, strike: onProcesses(people, theRun, syscall.SIGKILL)},
	{kind: "kill -9 command", weight: 3, light: true, strike: onProcesses(people, theCommand, syscall.SIGKILL)},
	{kind: "kill -9 guard", weight: 3, light: true, strike: onProcesses(people, theGuard, syscall.SIGKILL)},
	{kind: "the claimant's machine dies", weight: 3, light: true, strike: onProcesses(people, all, syscall.SIGKILL)},
	{kind: "SIGINT run", weight: 3, light: true, strike: onProcesses(people, theRun, syscall.SIGINT)},
	{kind: "SIGTERM run", weight: 2, light: true, strike: onProcesses(people, theRun, syscall.SIGTERM)},
	{kind: "SIGSTOP run", weight: 3, light: true, strike: pauseProcesses(people, theRun, time.Second, 2*runsLease)},
	{kind: "SIGSTOP guard", weight: 2, light: true, strike: pauseProcesses(people, theGuard, time.Second, 2*runsLease)},
	{kind: "SIGSTOP command", weight: 3, light: true, strike: pauseProcesses(people, theCommand, time.Second, 2*runsLease)},
	{kind: "the claimant's machine is suspended", weight: 2, light: true, strike: pauseProcesses(people, all, time.Second, 2*runsLease)},
	{kind: "the claimant's machine is suspended for long", weight: 1, light: true, strike: pauseProcesses(people, all, lossAfter, lossAfter+runsLease)},
	{kind: "claimant cut off from the servers", weight: 4, light: true, strike: cutOff(people, cutBoth, 500*time.Millisecond, 2*runsLease)},
	{kind: "claimant hears nothing from the servers", weight: 4, light: true, strike: cutOff(people, cutAnswers, 500*time.Millisecond, 2*runsLease)},
	{kind: "claimant's connections reset", weight: 3, light: true, strike: cutOff(people, reset, 0, 0)},
	{kind: "claimant's connections break", weight: 3, light: true, strike: breakOff(people)},
}

// runCatalogue are the faults of -runs.
var runCatalogue = slices.Concat(claimantFaults, agentFaults, outageFaults, replicaFaults, memberFaults, linkFaults, databaseFaults)

// part chooses among the processes of a party, of which the first one calls the servers.
type part func(c *chaos, tree []int) []int

func theRun(_ *chaos, tree []int) []int { return tree[:1] }

func all(_ *chaos, tree []int) []int { return tree }

// theCommand is the work on hosts.
func theCommand(c *chaos, tree []int) []int {
	return among(tree, func(args string) bool { return strings.HasPrefix(args, c.runs.self) })
}

// theGuard is the program anew that watches over the command.
func theGuard(c *chaos, tree []int) []int {
	return among(tree[1:], func(args string) bool { return strings.HasPrefix(args, c.o.program) })
}

func among(tree []int, wanted func(args string) bool) []int {
	found := processesOf(wanted)
	return slices.DeleteFunc(slices.Clone(tree), func(id int) bool { return !slices.Contains(found, id) })
}

// working draws a party that has processes, and those that are meant.
func (c *chaos) working(from []*party, which part) (p *party, ids []int) {
	p, ok := of(c, from, func(p *party) bool { return !p.busy })
	if !ok {
		return nil, nil
	}
	tree := p.tree()
	if len(tree) == 0 {
		return nil, nil
	}
	return p, which(c, tree)
}

// parties are those that run commands themselves, or the agents.
type parties func(c *chaos) []*party

func people(c *chaos) (out []*party) {
	for _, cl := range c.runs.claimants {
		out = append(out, cl.party)
	}
	return out
}

type strike = func(context.Context, *chaos) (*broken, error)

// onProcesses sends a signal to processes of a party.
func onProcesses(who parties, which part, s syscall.Signal) strike {
	return func(_ context.Context, c *chaos) (*broken, error) {
		p, ids := c.working(who(c), which)
		if len(ids) == 0 {
			return nil, nil
		}
		return &broken{what: fmt.Sprintf("%s, %d processes", p.name, len(ids))}, signalAll(ids, s)
	}
}

// pauseProcesses stops processes of a party for a while.
func pauseProcesses(who parties, which part, low, high time.Duration) strike {
	return func(_ context.Context, c *chaos) (*broken, error) {
		p, ids := c.working(who(c), which)
		if len(ids) == 0 {
			return nil, nil
		}
		p.busy = true
		return &broken{what: fmt.Sprintf("%s, %d processes", p.name, len(ids)), hold: c.between(low, high), mend: func(context.Context) error {
			p.busy = false
			return signalAll(ids, syscall.SIGCONT)
		}}, signalAll(ids, syscall.SIGSTOP)
	}
}

// cutOff disturbs the links of a party to all servers.
func cutOff(who parties, d disturb, low, high time.Duration) strike {
	return func(_ context.Context, c *chaos) (*broken, error) {
		p, ok := pick(c, who(c))
		if !ok {
			return nil, nil
		}
		for _, l := range p.links {
			d.breaks(l, c.journal)
		}
		return &broken{what: p.name, hold: c.between(low, high), mend: func(context.Context) error {
			for _, l := range p.links {
				d.mends(l, c.journal)
			}
			return nil
		}}, nil
	}
}

func breakOff(who parties) strike {
	return func(ctx context.Context, c *chaos) (*broken, error) {
		return cutOff(who, limited(50+c.rng.IntN(2000)), time.Second, 4*time.Second)(ctx, c)
	}
}
