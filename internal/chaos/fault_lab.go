package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/shard"
)

// labFaults are what people do with commands, at bad moments.
var labFaults = []fault{
	{kind: "switchover", weight: 4, light: true, strike: switchOver},
	{kind: "pause", weight: 3, light: true, strike: pauseShard},
	{kind: "role taken away", weight: 3, strike: takeRole},
	{kind: "fence adopted", weight: 1, strike: func(ctx context.Context, c *chaos) (*broken, error) {
		name, _ := pick(c, shards())
		return &broken{what: name.String()}, c.command(ctx, "fence", "adopt", name.String(), "--reason", "chaos", "--force", "--yes")
	}},
	{kind: "cluster status", weight: 2, light: true, strike: func(ctx context.Context, c *chaos) (*broken, error) {
		return &broken{what: "asked"}, c.command(ctx, "cluster", "status", "-o", "json")
	}},
	{kind: "label moved", weight: 4, light: true, strike: func(ctx context.Context, c *chaos) (*broken, error) {
		name, _ := pick(c, shards())
		label := board(c.rng.IntN(labSpec.Boards))
		return &broken{what: label + " to " + name.String()}, c.moveLabel(ctx, label, name)
	}},
	{kind: "label moved on before its hosts", weight: 2, light: true, strike: moveOn},
	{kind: "shard added and removed", weight: 2, light: true, strike: addAndRemove},
}

// commandTimeout bounds a command that does not bound itself.
const commandTimeout = 10 * time.Second

// command runs a command of hostsched, past all links. What it prints is of
// interest if it fails.
func (c *chaos) command(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.o.program, args...)
	cmd.Env = append(os.Environ(), "HOSTSCHED_DATABASE_DSN="+c.dsn, "HOSTSCHED_ETCD_ENDPOINTS="+strings.Join(c.client.Endpoints(), ","), "HOSTSCHED_CLUSTER="+clusterName)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("hostsched %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

func switchOver(ctx context.Context, c *chaos) (*broken, error) {
	name, _ := pick(c, shards())
	to, ok := of(c, c.replicas, func(r *replica) bool { return !r.busy && !r.down && c.watch.led()[name].replica != r })
	if !ok {
		return nil, nil
	}
	return &broken{what: name.String() + " to " + to.name, hold: c.between(0, 2*time.Second), use: byCommand, mend: func(ctx context.Context) error {
		return c.attempt(c.command(ctx, "shard", "switchover", name.String(), "--to", election.AnyServer, "--yes"))
	}}, c.command(ctx, "shard", "switchover", name.String(), "--to", to.name, "--timeout", "5s", "--yes")
}

// attempt notes an error of what need not succeed beside other faults.
func (c *chaos) attempt(err error) error {
	if err != nil {
		c.journal.say("%v", err)
	}
	return nil
}

// pauseShard pauses a shard, which must not write meanwhile.
func pauseShard(ctx context.Context, c *chaos) (*broken, error) {
	name, ok := of(c, shards(), func(s shard.Name) bool { return !c.paused[s] })
	if !ok {
		return nil, nil
	}
	err := c.command(ctx, "shard", "pause", name.String(), "--reason", "chaos", "--yes")
	c.paused[name] = true
	since := time.Now()
	return &broken{what: name.String(), hold: c.between(500*time.Millisecond, 3*time.Second), use: byCommand, mend: func(ctx context.Context) error {
		if err == nil {
			c.lookForTakes(ctx, name, since)
		}
		c.paused[name] = false
		return c.insist(ctx, "shard", "resume", name.String(), "--reason", "chaos", "--yes")
	}}, err
}

// lookForTakes looks whether a shard has assigned anything since it was paused. Its
// leaders may write: each new one records its term.
func (c *chaos) lookForTakes(ctx context.Context, name shard.Name, since time.Time) {
	n, err := c.number(ctx, "SELECT COUNT(*) FROM chaos_events WHERE event = 'take' AND shard = ? AND at > ?", name.String(), since.UnixMicro())
	if err != nil {
		c.journal.say("look whether the paused shard %s assigned anything: %v", name, err)
	}
	if n > 0 {
		c.wrong("shard %s assigned %d hosts while it was paused", name, n)
	}
}

// insist repeats a command until it works: what a fault changed must be undone
// even if other faults make that hard.
func (c *chaos) insist(ctx context.Context, args ...string) error {
	for {
		err := c.command(ctx, args...)
		if err == nil || ctx.Err() != nil {
			return err
		}
		sleep(ctx, time.Second)
	}
}

func takeRole(ctx context.Context, c *chaos) (*broken, error) {
	r, _ := pick(c, c.replicas)
	return &broken{what: r.name, hold: c.between(500*time.Millisecond, 4*time.Second), use: byCommand, mend: func(ctx context.Context) error {
		return c.insist(ctx, "server", "role", r.name, "--add", "host_scheduler", "--yes")
	}}, c.command(ctx, "server", "role", r.name, "--remove", "host_scheduler", "--reason", "chaos", "--yes")
}

func (c *chaos) moveLabel(ctx context.Context, label string, to shard.Name) error {
	return c.command(ctx, "shard", "assign-label", to.String(), label, "--reason", "chaos", "--yes")
}

// moveOn moves a label from shard to shard before the hosts have followed.
func moveOn(ctx context.Context, c *chaos) (*broken, error) {
	label := board(c.rng.IntN(labSpec.Boards))
	var path []string
	for range 2 + c.rng.IntN(3) {
		to, _ := pick(c, shards())
		if err := c.moveLabel(ctx, label, to); err != nil {
			return nil, err
		}
		path = append(path, to.String())
	}
	return &broken{what: label + " to " + strings.Join(path, ", ")}, nil
}

// addAndRemove adds a shard, gives it a board and removes it before the hosts may
// have come. What belongs to it goes back to the master.
func addAndRemove(ctx context.Context, c *chaos) (*broken, error) {
	c.res.added++
	name := fmt.Sprintf("brief-%d", c.res.added)
	label := board(c.rng.IntN(labSpec.Boards))
	if err := c.command(ctx, "shard", "add", name, "--yes"); err != nil {
		return nil, err
	}
	c.brief = append(c.brief, name)
	return &broken{what: name + " with " + label, hold: c.between(0, 3*time.Second), use: byCommand, mend: func(ctx context.Context) error {
		return c.attempt(c.command(ctx, "shard", "remove", name, "--timeout", "3s", "--reason", "chaos", "--yes"))
	}}, c.moveLabel(ctx, label, shard.Name(name))
}
