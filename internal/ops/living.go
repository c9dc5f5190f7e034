package ops

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

// EtcdID asks etcd for its cluster id, in the form that terms carry.
func EtcdID(ctx context.Context, client *clientv3.Client) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	res, err := client.MemberList(ctx)
	if err != nil {
		return "", fmt.Errorf("ask etcd at %v for its cluster id: %w", client.Endpoints(), err)
	}
	return strconv.FormatUint(res.Header.GetClusterId(), 16), nil
}

// livingLeader returns the server that leads a shard by its key in etcd, empty if none does.
// It asks in the cluster to which the fence belongs, whatever the configuration says.
func (l Lab) livingLeader(ctx context.Context, client *clientv3.Client, f store.Fence) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	view, err := election.Look(ctx, client, cmp.Or(f.ClusterName, l.Config.Cluster))
	if err != nil {
		return "", err
	}
	for _, k := range view.Shards[f.Shard].Candidates {
		if k.State == election.StateLeader {
			return k.Server, nil
		}
	}
	return "", nil
}

// RequireNoLeader refuses to go on while somebody leads a shard in the main database: what
// the leader writes would fail, and its history would be gone.
func (l Lab) RequireNoLeader(ctx context.Context, client *clientv3.Client) error {
	running, err := l.Main.RunningTerms(ctx)
	if err != nil {
		return err
	}
	var id string
	var unknown error
	if len(running) > 0 {
		id, unknown = EtcdID(ctx, client)
	}
	for _, name := range slices.Sorted(maps.Keys(running)) {
		if err := l.requireNoLeader(ctx, client, running[name], id, unknown); err != nil {
			return err
		}
	}
	return nil
}

// requireNoLeader asks etcd about a term that the history does not know the end of. A leader
// that was killed has not recorded it, but its key is gone.
func (l Lab) requireNoLeader(ctx context.Context, client *clientv3.Client, f store.Fence, etcdID string, unknown error) error {
	leader := ""
	switch {
	case unknown != nil:
	case f.Cluster != etcdID:
		unknown = fmt.Errorf("the etcd at %v is cluster %s, and the shard was led under %s", client.Endpoints(), etcdID, f.Cluster)
	default:
		leader, unknown = l.livingLeader(ctx, client, f)
	}
	if unknown != nil {
		return fmt.Errorf("%w: shard %s in %s was led by %s last, and etcd does not say whether it still is: %w; stop the replicas, and say --force if they are stopped", admin.ErrInput, f.Shard, l.Main.Target(), f.Holder, unknown)
	}
	if leader != "" {
		return fmt.Errorf("%w: server %s leads shard %s in %s; stop the replicas first, or say --force to do it all the same", admin.ErrInput, leader, f.Shard, l.Main.Target())
	}
	return nil
}

// requireAdoptable refuses to adopt a fence that its leader holds under the same etcd: the
// term would end for nothing.
func (l Lab) requireAdoptable(ctx context.Context, client *clientv3.Client, s Shard, etcdID string) error {
	f, there, err := s.DB.ReadFence(ctx, s.Name)
	if err != nil || !there || f.Cluster != etcdID {
		return err
	}
	leader, err := l.livingLeader(ctx, client, f)
	if err != nil || leader == "" {
		return err
	}
	return fmt.Errorf("%w: the fence of shard %s belongs to etcd cluster %s already, and server %s leads it there; there is nothing to adopt, and its term would end: say --force if that is meant", admin.ErrInput, s.Name, etcdID, leader)
}
