package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"
)

// replicaFaults concern the processes of replicas.
var replicaFaults = []fault{
	{kind: "kill -9 replica", weight: 6, strike: func(_ context.Context, c *chaos) (*broken, error) { return c.kill(c.anyReplicas(1)) }},
	{kind: "kill -9 leader", weight: 8, strike: func(ctx context.Context, c *chaos) (*broken, error) { return c.kill(c.leadingReplica()) }},
	{kind: "kill -9 two", weight: 3, strike: func(_ context.Context, c *chaos) (*broken, error) { return c.kill(c.anyReplicas(2)) }},
	{kind: "SIGSTOP short", weight: 5, light: true, strike: func(_ context.Context, c *chaos) (*broken, error) {
		return c.pause(c.anyReplicas(1), c.between(200*time.Millisecond, leaseTTL/2))
	}},
	{kind: "SIGSTOP leader", weight: 6, strike: func(_ context.Context, c *chaos) (*broken, error) {
		return c.pause(c.leadingReplica(), c.between(leaseTTL+time.Second, 3*leaseTTL))
	}},
	{kind: "SIGSTOP all", weight: 2, outage: true, strike: func(_ context.Context, c *chaos) (*broken, error) {
		return c.pause(c.anyReplicas(replicas), c.between(leaseTTL/2, 2*leaseTTL))
	}},
	{kind: "SIGTERM", weight: 3, strike: func(_ context.Context, c *chaos) (*broken, error) { return c.terminate(c.anyReplicas(1)) }},
	{kind: "rolling restart", weight: 1, strike: func(_ context.Context, c *chaos) (*broken, error) { return c.rollingRestart() }},
}

// anyReplicas draws n replicas that no other fault concerns.
func (c *chaos) anyReplicas(n int) []*replica {
	var out []*replica
	for range n {
		r, ok := of(c, c.replicas, func(r *replica) bool { return !r.busy && !r.down })
		if !ok {
			break
		}
		r.busy = true
		out = append(out, r)
	}
	return out
}

// leadingReplica draws a shard and returns its leader.
func (c *chaos) leadingReplica() []*replica {
	name, _ := pick(c, shards())
	r := c.watch.led()[name].replica
	if r == nil || r.busy || r.down {
		return nil
	}
	r.busy = true
	return []*replica{r}
}

func names(rs []*replica) string {
	var out []string
	for _, r := range rs {
		out = append(out, r.name)
	}
	return strings.Join(out, ", ")
}

// onReplicas breaks each of some replicas, and mends each after the time.
func onReplicas(rs []*replica, hold time.Duration, breaks, mends func(*replica) error) (*broken, error) {
	if len(rs) == 0 {
		return nil, nil
	}
	var err error
	for _, r := range rs {
		err = errors.Join(err, breaks(r))
	}
	return &broken{what: names(rs), hold: hold, mend: func(context.Context) error {
		var err error
		for _, r := range rs {
			r.busy = false
			err = errors.Join(err, mends(r))
		}
		return err
	}}, err
}

func (c *chaos) kill(rs []*replica) (*broken, error) {
	for _, r := range rs {
		c.noteLost(r)
	}
	return onReplicas(rs, c.between(500*time.Millisecond, 3*time.Second), (*replica).kill, (*replica).start)
}

// noteLost remembers what a replica led at the moment it was killed, unless another
// fault hinders the takeover, too.
func (c *chaos) noteLost(r *replica) {
	if c.watch.hindered() {
		return
	}
	now := time.Now().UnixMicro()
	for name, l := range c.watch.led() {
		if l.replica == r {
			c.res.lost = append(c.res.lost, lostTerm{name, l.epoch, now})
		}
	}
}

func (c *chaos) pause(rs []*replica, hold time.Duration) (*broken, error) {
	return onReplicas(rs, hold, func(r *replica) error { return r.signal(syscall.SIGSTOP) }, func(r *replica) error { return r.signal(syscall.SIGCONT) })
}

func (c *chaos) terminate(rs []*replica) (*broken, error) {
	return onReplicas(rs, c.between(200*time.Millisecond, 2*time.Second), (*replica).terminate, (*replica).start)
}

// rollingRestart restarts one replica after the other, each without waiting for
// the one before to lead again.
func (c *chaos) rollingRestart() (*broken, error) {
	rs := c.anyReplicas(replicas)
	again := func(r *replica) error { return errors.Join(r.terminate(), r.start()) }
	return onReplicas(rs, 0, again, func(r *replica) error {
		if r.ended() {
			return fmt.Errorf("%s ended when it was started again: %w", r.name, r.exit.Err())
		}
		return nil
	})
}
