package main

import (
	"context"
	"time"

	"github.com/hostsched/hostsched/internal/testserver"
)

type link = testserver.Link

// linkFaults concern the links of replicas to etcd and to the database. Only faults
// of all links at once may stop shards.
var linkFaults = []fault{
	{kind: "replica cut off from etcd", weight: 6, strike: func(_ context.Context, c *chaos) (*broken, error) {
		return c.onLinks(c.someReplica(), etcdLinks, 500*time.Millisecond, 8*time.Second, cutBoth)
	}},
	{kind: "replica hears nothing from etcd", weight: 2, strike: func(_ context.Context, c *chaos) (*broken, error) {
		return c.onLinks(c.someReplica(), etcdLinks, 500*time.Millisecond, 6*time.Second, cutAnswers)
	}},
	{kind: "replica cut off from one member", weight: 3, light: true, strike: func(_ context.Context, c *chaos) (*broken, error) {
		at := c.rng.IntN(members)
		return c.onLinks(c.someReplica(), func(r *replica) []*link { return r.etcd[at : at+1] }, time.Second, 6*time.Second, cutBoth)
	}},
	{kind: "etcd slow", weight: 3, light: true, strike: func(_ context.Context, c *chaos) (*broken, error) {
		return c.onLinks(c.replicas, etcdLinks, time.Second, 5*time.Second, slow(c.between(100*time.Millisecond, 400*time.Millisecond)))
	}},
	{kind: "connections to etcd reset", weight: 2, light: true, strike: func(_ context.Context, c *chaos) (*broken, error) {
		return c.onLinks(c.replicas, etcdLinks, 0, 0, reset)
	}},
	{kind: "replica cut off from database", weight: 6, strike: func(_ context.Context, c *chaos) (*broken, error) {
		return c.onLinks(c.someReplica(), databaseLink, 500*time.Millisecond, 8*time.Second, cutBoth)
	}},
	{kind: "replica hears nothing from database", weight: 3, strike: func(_ context.Context, c *chaos) (*broken, error) {
		return c.onLinks(c.someReplica(), databaseLink, 500*time.Millisecond, 6*time.Second, cutAnswers)
	}},
	{kind: "replica cut off from database for long", weight: 1, strike: func(_ context.Context, c *chaos) (*broken, error) {
		return c.onLinks(c.someReplica(), databaseLink, 12*time.Second, 16*time.Second, cutBoth)
	}},
	{kind: "all cut off from database", weight: 2, outage: true, strike: func(_ context.Context, c *chaos) (*broken, error) {
		return c.onLinks(c.replicas, databaseLink, 500*time.Millisecond, 5*time.Second, cutBoth)
	}},
	{kind: "database slow", weight: 4, light: true, strike: func(_ context.Context, c *chaos) (*broken, error) {
		return c.onLinks(c.replicas, databaseLink, time.Second, 4*time.Second, slow(c.between(5*time.Millisecond, 50*time.Millisecond)))
	}},
	{kind: "answers of database in pieces", weight: 2, light: true, strike: func(_ context.Context, c *chaos) (*broken, error) {
		return c.onLinks(c.someReplica(), databaseLink, time.Second, 4*time.Second, sliced(200+c.rng.IntN(1500)))
	}},
	{kind: "connections to database break", weight: 4, strike: func(_ context.Context, c *chaos) (*broken, error) {
		return c.onLinks(c.someReplica(), databaseLink, time.Second, 4*time.Second, limited(100+c.rng.IntN(20_000)))
	}},
	{kind: "connections to database reset", weight: 4, light: true, strike: func(_ context.Context, c *chaos) (*broken, error) {
		return c.onLinks(c.replicas, databaseLink, 0, 0, reset)
	}},
}

func etcdLinks(r *replica) []*link { return r.etcd }

func databaseLink(r *replica) []*link { return []*link{r.db} }

func peerLink(r *replica) []*link { return []*link{r.peers} }

// someReplica draws a replica, also one that another fault concerns.
func (c *chaos) someReplica() []*replica {
	r, _ := pick(c, c.replicas)
	return []*replica{r}
}

// disturb does something to a link and says how that is mended.
type disturb struct{ breaks, mends func(*link, *journal) }

var (
	cutBoth    = disturb{func(l *link, j *journal) { l.Cut(j) }, func(l *link, j *journal) { l.Heal(j) }}
	cutAnswers = disturb{func(l *link, j *journal) { l.Cut(j, testserver.ToClient) }, func(l *link, j *journal) { l.Heal(j) }}
	reset      = disturb{func(l *link, j *journal) { l.Reset(j) }, func(*link, *journal) {}}
)

func slow(by time.Duration) disturb {
	return disturb{func(l *link, j *journal) { l.Slow(j, by) }, func(l *link, j *journal) { l.Slow(j, 0) }}
}

// limited breaks connections in the middle of answers: also of the one to a COMMIT.
func limited(bytes int) disturb {
	return disturb{func(l *link, j *journal) { l.Limit(j, testserver.ToClient, bytes) }, func(l *link, j *journal) { l.Limit(j, testserver.ToClient, 0) }}
}

func sliced(bytes int) disturb {
	return disturb{func(l *link, j *journal) { l.Slice(j, bytes) }, func(l *link, j *journal) { l.Slice(j, 0) }}
}

// onLinks disturbs links of replicas for a while.
func (c *chaos) onLinks(rs []*replica, links func(*replica) []*link, low, high time.Duration, d disturb) (*broken, error) {
	for _, r := range rs {
		for _, l := range links(r) {
			d.breaks(l, c.journal)
		}
	}
	return &broken{what: names(rs), hold: c.between(low, high), mend: func(context.Context) error {
		for _, r := range rs {
			for _, l := range links(r) {
				d.mends(l, c.journal)
			}
		}
		return nil
	}}, nil
}
