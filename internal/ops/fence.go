package ops

import (
	"context"
	"fmt"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

// Fence reads who may write to a shard.
func (l Lab) Fence(ctx context.Context, arg string) (f store.Fence, err error) {
	err = l.OnShard(ctx, arg, func(s Shard) error {
		var ok bool
		f, ok, err = s.DB.ReadFence(ctx, s.Name)
		if err == nil && !ok {
			err = fmt.Errorf("shard %s never had a leader in %s", s.Name, s.DB.Target())
		}
		if err != nil {
			return err
		}
		f.Contradictions, err = s.DB.Contradictions(ctx, s.Name)
		return err
	})
	return f, err
}

// Adoption is what became of a fence that was adopted.
type Adoption struct {
	// Database has the fence.
	Database string
	// Before and Now are the clusters that it belonged to and belongs to.
	Before, Now admin.Cluster
	Shard       shard.Name
	// Token is the one that it had.
	Token int64
}

// AdoptFence lets the cluster of the configuration lead a shard that another one led, and
// makes rows agree that contradict each other. force does so even if its leader lives and
// the rows agree.
func (l Lab) AdoptFence(ctx context.Context, client *clientv3.Client, arg string, force bool, by By) (out Adoption, err error) {
	before, err := l.Fence(ctx, arg) // before etcd is asked
	if err != nil {
		return out, err
	}
	id, err := EtcdID(ctx, client)
	if err != nil {
		return out, err
	}
	out = Adoption{Before: admin.Cluster{Etcd: before.Cluster, Name: before.ClusterName}, Now: admin.Cluster{Etcd: id, Name: l.Config.Cluster}, Shard: before.Shard, Token: before.Token}
	err = l.OnShard(ctx, arg, func(s Shard) error {
		out.Database = s.DB.Target()
		if !force && len(before.Contradictions) == 0 {
			if err := l.requireAdoptable(ctx, client, s, id); err != nil {
				return err
			}
		}
		if err := s.DB.AdoptFence(ctx, s.Name, out.Now, by.Who, by.Reason); err != nil {
			return err
		}
		return l.record(ctx, s, by, admin.ActionAdopt, out.Now.String()+": "+by.Reason)
	})
	return out, err
}

// Terms lists the latest terms of a shard, also of one that was removed.
func (l Lab) Terms(ctx context.Context, arg string, limit int) (terms []store.Term, err error) {
	if terms, err = l.formerTerms(ctx, arg, limit); err == nil && len(terms) == 0 {
		err = l.OnShard(ctx, arg, func(s Shard) error {
			terms, err = s.DB.Terms(ctx, s.Name, limit)
			return err
		})
	}
	for i := range terms {
		terms[i].Cause = shard.OneLine(terms[i].Cause)
	}
	return terms, err
}

// formerTerms lists the terms of a shard that is served no longer. Its row is gone, but its
// history stays in the database that it was led in.
func (l Lab) formerTerms(ctx context.Context, arg string, limit int) ([]store.Term, error) {
	name, err := l.Name(arg)
	if err != nil || !l.Config.Shared() {
		return nil, err
	}
	bare, err := isBare(ctx, l.Main)
	if err != nil || bare {
		return nil, err
	}
	there, err := l.ShardNames(ctx)
	if err != nil || slices.Contains(there, name.String()) {
		return nil, err
	}
	return l.Main.Terms(ctx, name, limit)
}
