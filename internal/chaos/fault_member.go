package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/internal/testserver"
)

type member = testserver.EtcdMember

// memberFaults concern the members of etcd, as processes and towards each other. As
// long as two are well, no shard may stand still.
var memberFaults = []fault{
	{kind: "etcd member kill -9", weight: 4, strike: func(_ context.Context, c *chaos) (*broken, error) { return c.killMembers(c.anyMembers(1)) }},
	{kind: "etcd leader kill -9", weight: 4, strike: func(ctx context.Context, c *chaos) (*broken, error) { return c.killMembers(c.leadingMember(ctx)) }},
	{kind: "etcd quorum lost", weight: 2, outage: true, strike: func(_ context.Context, c *chaos) (*broken, error) { return c.killMembers(c.anyMembers(2)) }},
	{kind: "etcd all killed", weight: 1, outage: true, strike: func(_ context.Context, c *chaos) (*broken, error) { return c.killMembers(c.anyMembers(members)) }},
	{kind: "etcd member SIGSTOP", weight: 4, strike: func(_ context.Context, c *chaos) (*broken, error) {
		return c.onMembers(c.anyMembers(1), (*member).Stop, (*member).Cont)
	}},
	{kind: "etcd leader SIGSTOP", weight: 2, strike: func(ctx context.Context, c *chaos) (*broken, error) {
		return c.onMembers(c.leadingMember(ctx), (*member).Stop, (*member).Cont)
	}},
	{kind: "etcd member cut off from peers", weight: 4, strike: func(_ context.Context, c *chaos) (*broken, error) { return c.cutPeers(c.anyMembers(1)) }},
	{kind: "etcd leader cut off from peers", weight: 3, strike: func(ctx context.Context, c *chaos) (*broken, error) { return c.cutPeers(c.leadingMember(ctx)) }},
	{kind: "etcd member cut off from all", weight: 3, strike: func(_ context.Context, c *chaos) (*broken, error) { return c.cutOff(c.anyMembers(1)) }},
	{kind: "etcd peers slow", weight: 2, light: true, strike: func(_ context.Context, c *chaos) (*broken, error) { return c.slowPeers(c.anyMembers(1)) }},
	{kind: "etcd move-leader", weight: 2, light: true, strike: moveLeader},
	{kind: "etcd compact and defrag", weight: 2, light: true, strike: compact},
}

// anyMembers draws n members that no other fault concerns.
func (c *chaos) anyMembers(n int) []*member {
	var out []*member
	for range n {
		m, ok := of(c, c.etcd.Members, func(m *member) bool { return !c.busy[m] })
		if !ok {
			break
		}
		c.busy[m] = true
		out = append(out, m)
	}
	return out
}

func (c *chaos) leadingMember(ctx context.Context) []*member {
	m, err := c.etcd.Leader(ctx)
	if err != nil || c.busy[m] {
		return nil
	}
	c.busy[m] = true
	return []*member{m}
}

// onMembers breaks each of some members, and mends each after a while.
func (c *chaos) onMembers(ms []*member, breaks, mends func(*member) error) (*broken, error) {
	if len(ms) == 0 {
		return nil, nil
	}
	var err error
	var what []string
	for _, m := range ms {
		err = errors.Join(err, breaks(m))
		what = append(what, m.Name)
	}
	return &broken{what: strings.Join(what, ", "), hold: c.between(time.Second, 6*time.Second), mend: func(context.Context) error {
		var err error
		for _, m := range ms {
			c.busy[m] = false
			err = errors.Join(err, mends(m))
		}
		return err
	}}, err
}

func (c *chaos) killMembers(ms []*member) (*broken, error) {
	return c.onMembers(ms, (*member).Kill, (*member).Start)
}

func (c *chaos) cutPeers(ms []*member) (*broken, error) {
	return c.onMembers(ms,
		func(m *member) error { m.CutPeers(c.journal); return nil },
		func(m *member) error { m.HealPeers(c.journal); return nil })
}

// cutOff cuts a member off from its peers and from all replicas.
func (c *chaos) cutOff(ms []*member) (*broken, error) {
	return c.onMembers(ms,
		func(m *member) error {
			m.CutPeers(c.journal)
			for _, l := range c.linksTo(m) {
				l.Cut(c.journal)
			}
			return nil
		},
		func(m *member) error {
			m.HealPeers(c.journal)
			for _, l := range c.linksTo(m) {
				l.Heal(c.journal)
			}
			return nil
		})
}

// linksTo are the links of all replicas to a member.
func (c *chaos) linksTo(m *member) []*testserver.Link {
	var out []*testserver.Link
	for i, other := range c.etcd.Members {
		for _, r := range c.replicas {
			if other == m {
				out = append(out, r.etcd[i])
			}
		}
	}
	return out
}

func (c *chaos) slowPeers(ms []*member) (*broken, error) {
	by := c.between(20*time.Millisecond, 200*time.Millisecond)
	return c.onMembers(ms,
		func(m *member) error { m.SlowPeers(c.journal, by); return nil },
		func(m *member) error { m.SlowPeers(c.journal, 0); return nil })
}

func moveLeader(ctx context.Context, c *chaos) (*broken, error) {
	leading := c.leadingMember(ctx)
	if leading == nil {
		return nil, nil
	}
	c.busy[leading[0]] = false // it is over at once
	to, ok := of(c, c.etcd.Members, func(m *member) bool { return m != leading[0] && !c.busy[m] })
	if !ok {
		return nil, nil
	}
	client, err := leading[0].Client()
	if err != nil {
		return nil, err
	}
	_, err = client.MoveLeader(ctx, to.ID())
	return &broken{what: fmt.Sprintf("from %s to %s", leading[0].Name, to.Name)}, errors.Join(err, client.Close())
}

func compact(ctx context.Context, c *chaos) (*broken, error) {
	m, ok := of(c, c.etcd.Members, func(m *member) bool { return !c.busy[m] })
	if !ok {
		return nil, nil
	}
	res, err := c.client.Get(ctx, "revision")
	if err != nil {
		return nil, err
	}
	if _, err := c.client.Compact(ctx, res.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		return nil, err
	}
	_, err = c.client.Defragment(ctx, "http://"+m.Addr)
	return &broken{what: m.Name}, err
}
