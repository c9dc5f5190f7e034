package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/shard"
)

// keyFaults are what somebody can do to hostsched's keys and leases with etcdctl.
var keyFaults = []fault{
	{kind: "lease of leader revoked", weight: 4, strike: onKey(leaderKey, revoke)},
	{kind: "lease of candidate revoked", weight: 3, strike: onKey(candidateKey, revoke)},
	{kind: "key of leader deleted", weight: 4, strike: onKey(leaderKey, remove)},
	{kind: "key of candidate deleted", weight: 3, strike: onKey(candidateKey, remove)},
	{kind: "key of server deleted", weight: 2, strike: onKey(serverKey, remove)},
	{kind: "all keys deleted", weight: 2, strike: removeAll},
	{kind: "garbage beside the keys", weight: 1, outage: true, strike: garbage},
}

// chooser draws one of hostsched's keys; nil if there is none.
type chooser func(ctx context.Context, c *chaos) (*mvccpb.KeyValue, error)

// onKey does something to a key that is drawn.
func onKey(choose chooser, do func(context.Context, *chaos, *mvccpb.KeyValue) error) func(context.Context, *chaos) (*broken, error) {
	return func(ctx context.Context, c *chaos) (*broken, error) {
		kv, err := choose(ctx, c)
		if kv == nil || err != nil {
			return nil, err
		}
		return &broken{what: string(kv.Key)}, do(ctx, c, kv)
	}
}

func (c *chaos) keys(ctx context.Context, prefix string) ([]*mvccpb.KeyValue, error) {
	res, err := c.client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
	if err != nil {
		return nil, err
	}
	return res.Kvs, nil
}

func (c *chaos) shardKeys(ctx context.Context) ([]*mvccpb.KeyValue, error) {
	name, _ := pick(c, shards())
	return c.keys(ctx, election.LeaderPrefix(clusterName, name))
}

func leaderKey(ctx context.Context, c *chaos) (*mvccpb.KeyValue, error) {
	kvs, err := c.shardKeys(ctx)
	if len(kvs) == 0 {
		return nil, err
	}
	return kvs[0], nil
}

func candidateKey(ctx context.Context, c *chaos) (*mvccpb.KeyValue, error) {
	var all []*mvccpb.KeyValue
	for _, name := range shards() {
		kvs, err := c.keys(ctx, election.LeaderPrefix(clusterName, name))
		if err != nil {
			return nil, err
		}
		all = append(all, kvs[min(1, len(kvs)):]...)
	}
	kv, _ := pick(c, all)
	return kv, nil
}

func serverKey(ctx context.Context, c *chaos) (*mvccpb.KeyValue, error) {
	kvs, err := c.keys(ctx, election.ServersPrefix(clusterName))
	kv, _ := pick(c, kvs)
	return kv, err
}

func revoke(ctx context.Context, c *chaos, kv *mvccpb.KeyValue) error {
	_, err := c.client.Revoke(ctx, clientv3.LeaseID(kv.Lease))
	return err
}

func remove(ctx context.Context, c *chaos, kv *mvccpb.KeyValue) error {
	_, err := c.client.Delete(ctx, string(kv.Key))
	return err
}

func removeAll(ctx context.Context, c *chaos) (*broken, error) {
	prefix := strings.TrimSuffix(election.ServersPrefix(clusterName), "servers/")
	res, err := c.client.Delete(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return nil, err
	}
	return &broken{what: fmt.Sprintf("%d keys", res.Deleted)}, nil
}

// garbage puts keys that are no candidate's beside those that are, in front of
// later ones, and takes them away again.
func garbage(ctx context.Context, c *chaos) (*broken, error) {
	name, _ := pick(c, shards())
	keys := []string{election.LeaderPrefix(clusterName, name) + "garbage", election.ServersPrefix(clusterName) + "garbage", election.ShardsPrefix(clusterName) + string(shard.Master) + "/"}
	for _, key := range keys {
		if _, err := c.client.Put(ctx, key, "{no record"); err != nil {
			return nil, err
		}
	}
	return &broken{what: "shard " + name.String(), hold: c.between(time.Second, 4*time.Second), mend: func(ctx context.Context) error {
		for _, key := range keys {
			if _, err := c.client.Delete(ctx, key); err != nil {
				return err
			}
		}
		return nil
	}}, nil
}
