package main

import (
	"context"
	"time"
)

// The disturbances of a calm run: what a busy machine and a slow network do, and what no
// replica should lose its shards for.
const (
	calmStall     = time.Second
	calmDelay     = 100 * time.Millisecond
	calmMostDelay = 400 * time.Millisecond
)

// calmFaults are all that happens in a calm run.
var calmFaults = []fault{
	{kind: "stall of a replica", weight: 4, light: true, strike: func(_ context.Context, c *chaos) (*broken, error) {
		return c.pause(c.anyReplicas(1), c.between(calmStall/5, calmStall))
	}},
	{kind: "stall of all replicas", weight: 1, light: true, strike: func(_ context.Context, c *chaos) (*broken, error) {
		return c.pause(c.anyReplicas(replicas), c.between(calmStall/5, calmStall))
	}},
	{kind: "etcd slow", weight: 3, light: true, strike: func(_ context.Context, c *chaos) (*broken, error) {
		return c.onLinks(c.replicas, etcdLinks, 2*time.Second, 8*time.Second, slow(c.between(calmDelay, calmMostDelay)))
	}},
	{kind: "network between replicas slow", weight: 3, light: true, strike: func(_ context.Context, c *chaos) (*broken, error) {
		return c.onLinks(c.replicas, peerLink, 2*time.Second, 8*time.Second, slow(c.between(calmDelay, calmMostDelay)))
	}},
	{kind: "database slow", weight: 2, light: true, strike: func(_ context.Context, c *chaos) (*broken, error) {
		return c.onLinks(c.replicas, databaseLink, time.Second, 4*time.Second, slow(c.between(5*time.Millisecond, 50*time.Millisecond)))
	}},
}
