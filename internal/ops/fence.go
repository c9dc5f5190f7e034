package ops

import (
	"context"
	"fmt"

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
		return err
	})
	return f, err
}

// AdoptFence lets a cluster lead a shard that another one led. It names the
// database that has the fence.
func (l Lab) AdoptFence(ctx context.Context, arg string, cluster admin.Cluster, by By) (database string, err error) {
	err = l.OnShard(ctx, arg, func(s Shard) error {
		database = s.DB.Target()
		if err := s.DB.AdoptFence(ctx, s.Name, cluster, by.Who, by.Reason); err != nil {
			return err
		}
		return l.record(ctx, s, by, "fence adopt", cluster.String()+": "+by.Reason)
	})
	return database, err
}

// Terms lists the latest terms of a shard.
func (l Lab) Terms(ctx context.Context, arg string, limit int) (terms []store.Term, err error) {
	err = l.OnShard(ctx, arg, func(s Shard) error {
		terms, err = s.DB.Terms(ctx, s.Name, limit)
		return err
	})
	return terms, err
}
