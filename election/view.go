package election

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/shard"
)

// View is what etcd says about a cluster at one moment.
type View struct {
	// Servers are the members of the cluster, by name.
	Servers []Member
	// Shards are the shards that somebody campaigns for or leads.
	Shards map[shard.Name]ShardElection
}

// ShardElection is what etcd says about the leadership of one shard.
type ShardElection struct {
	// Candidates are the keys of the shard, oldest first. The oldest leads, or
	// is about to.
	Candidates []Candidate
	// Wanted is the server of a switchover request, empty if there is none; WantedWhy
	// is the reason that was given with it.
	Wanted, WantedWhy string
}

// Holder returns the server with the oldest key, empty if there is none.
func (c ShardElection) Holder() string {
	if len(c.Candidates) == 0 {
		return ""
	}
	return c.Candidates[0].Server
}

// Candidate is a key of a campaign.
type Candidate struct {
	Record
	Key      string `json:"key"`
	Revision int64  `json:"revision"`
	Lease    int64  `json:"lease"`
}

// Leases returns the leases of all keys of one process.
func (v View) Leases(holder string) []int64 {
	if holder == "" {
		return nil
	}
	found := map[int64]bool{}
	for _, a := range v.Servers {
		if a.Holder == holder {
			found[a.Lease] = true
		}
	}
	for _, c := range v.Shards {
		for _, k := range c.Candidates {
			if k.Holder == holder {
				found[k.Lease] = true
			}
		}
	}
	delete(found, 0)
	return slices.Sorted(maps.Keys(found))
}

// Member is a replica that is a member of the cluster.
type Member struct {
	Presence
	// Lease is different after a restart of the replica.
	Lease int64 `json:"lease"`
}

// ErrFormat is a value in etcd that this version does not understand.
var ErrFormat = errors.New("value format in etcd does not fit")

// AnyServer, given to Want, withdraws a switchover request.
const AnyServer = "any"

// ServersPrefix is where the members of a cluster keep their keys.
func ServersPrefix(cluster string) string { return clusterPrefix(cluster) + "servers/" }

func clusterPrefix(cluster string) string { return "/hostsched/" + cluster + "/" }

// wantedKey holds the server of a switchover request.
func wantedKey(cluster string, name shard.Name) string {
	return ShardsPrefix(cluster) + name.String() + "/wanted"
}

// wantedWhyKey holds the reason of that request. It is a key of its own, because older
// replicas take the whole value of the other one for a server.
func wantedWhyKey(cluster string, name shard.Name) string { return wantedKey(cluster, name) + "_why" }

// viewer builds views from keys.
type viewer struct {
	cluster string
	keys    map[string]*mvccpb.KeyValue
}

func (v *viewer) apply(events []*clientv3.Event) {
	for _, e := range events {
		if e.Type == mvccpb.DELETE {
			delete(v.keys, string(e.Kv.Key))
			continue
		}
		v.keys[string(e.Kv.Key)] = e.Kv
	}
}

// view interprets the keys. A key whose value cannot be read still counts: it keeps
// its position among the candidates, but has no content.
func (v *viewer) view() View {
	out := View{Shards: map[shard.Name]ShardElection{}}
	for key, kv := range v.keys {
		if name, ok := strings.CutPrefix(key, ServersPrefix(v.cluster)); ok {
			a := Member{Lease: kv.Lease}
			if json.Unmarshal(kv.Value, &a.Presence) != nil {
				a.Presence = Presence{}
			}
			a.Server = name
			out.Servers = append(out.Servers, a)
			continue
		}
		rest, ok := strings.CutPrefix(key, ShardsPrefix(v.cluster))
		if !ok {
			continue
		}
		name, what, _ := strings.Cut(rest, "/")
		c := out.Shards[shard.Name(name)]
		switch {
		case what == "wanted":
			c.Wanted = string(kv.Value)
		case what == "wanted_why":
			c.WantedWhy = string(kv.Value)
		case strings.HasPrefix(what, "leader/"):
			k := Candidate{Key: key, Revision: kv.CreateRevision, Lease: kv.Lease}
			if json.Unmarshal(kv.Value, &k.Record) != nil {
				k.Record = Record{}
			}
			c.Candidates = append(c.Candidates, k)
		}
		out.Shards[shard.Name(name)] = c
	}
	slices.SortFunc(out.Servers, func(a, b Member) int { return strings.Compare(a.Server, b.Server) })
	for _, c := range out.Shards {
		slices.SortFunc(c.Candidates, func(a, b Candidate) int { return cmp.Compare(a.Revision, b.Revision) })
	}
	return out
}

// Look returns the present view.
func Look(ctx context.Context, client *clientv3.Client, cluster string) (View, error) {
	v, _, err := look(ctx, client, cluster)
	if err != nil {
		return View{}, err
	}
	return v.view(), nil
}

func look(ctx context.Context, client *clientv3.Client, cluster string) (*viewer, int64, error) {
	res, err := client.Get(ctx, clusterPrefix(cluster), clientv3.WithPrefix())
	if err != nil {
		return nil, 0, fmt.Errorf("read %s in etcd at %s: %w", clusterPrefix(cluster), strings.Join(client.Endpoints(), ", "), err)
	}
	v := &viewer{cluster: cluster, keys: map[string]*mvccpb.KeyValue{}}
	for _, kv := range res.Kvs {
		v.keys[string(kv.Key)] = kv
	}
	return v, res.Header.Revision, nil
}

// watchPause is the pause before an interrupted watch begins again.
const watchPause = 200 * time.Millisecond

// watch calls each with the view, first at the beginning and then whenever it
// changes, until ctx ends. While etcd does not answer there are no calls.
func watch(ctx context.Context, client *clientv3.Client, cluster string, each func(View)) {
	for ctx.Err() == nil {
		watchOnce(ctx, client, cluster, each)
		select {
		case <-ctx.Done():
		case <-time.After(watchPause):
		}
	}
}

func watchOnce(ctx context.Context, client *clientv3.Client, cluster string, each func(View)) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	asked, done := context.WithTimeout(ctx, dialTimeout)
	v, revision, err := look(asked, client, cluster)
	done()
	if err != nil {
		return
	}
	each(v.view())
	for res := range client.Watch(ctx, clusterPrefix(cluster), clientv3.WithPrefix(), clientv3.WithRev(revision+1)) {
		if res.Err() != nil {
			return
		}
		v.apply(res.Events)
		each(v.view())
	}
}

// Want requests that a server leads a shard, and says why. The request is valid while
// that replica runs, because the key belongs to the lease of its membership.
// AnyServer withdraws the request.
func Want(ctx context.Context, client *clientv3.Client, cluster string, name shard.Name, server, why string) error {
	key, whyKey := wantedKey(cluster, name), wantedWhyKey(cluster, name)
	if server == AnyServer {
		_, err := client.Txn(ctx).Then(clientv3.OpDelete(key), clientv3.OpDelete(whyKey)).Commit()
		return err
	}
	res, err := client.Get(ctx, ServersPrefix(cluster)+server)
	if err != nil {
		return err
	}
	if len(res.Kvs) == 0 {
		return notThere(cluster, server)
	}
	lease := clientv3.WithLease(clientv3.LeaseID(res.Kvs[0].Lease))
	_, err = client.Txn(ctx).Then(clientv3.OpPut(key, server, lease), clientv3.OpPut(whyKey, why, lease)).Commit()
	return err
}

// Withdraw ends a switchover request unless it was replaced by another one.
func Withdraw(ctx context.Context, client *clientv3.Client, cluster string, name shard.Name, server string) error {
	key := wantedKey(cluster, name)
	_, err := client.Txn(ctx).If(clientv3.Compare(clientv3.Value(key), "=", server)).
		Then(clientv3.OpDelete(key), clientv3.OpDelete(wantedWhyKey(cluster, name))).Commit()
	return err
}

func notThere(cluster, server string) error {
	return fmt.Errorf("server %s is not running: it has no key under %s", server, ServersPrefix(cluster))
}
