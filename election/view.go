package election

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

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
	// Ignored are keys among those of the candidates that are nobody's.
	Ignored []Ignored
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

// Leases returns the leases of all keys of one process: those of its campaigns first, and
// that of its key as a member, if it has one, last.
func (v View) Leases(holder string) []int64 {
	if holder == "" {
		return nil
	}
	found := map[int64]bool{}
	for _, c := range v.Shards {
		for _, k := range c.Candidates {
			if k.Holder == holder {
				found[k.Lease] = true
			}
		}
	}
	delete(found, 0)
	out := slices.Sorted(maps.Keys(found))
	for _, a := range v.Servers {
		if a.Holder == holder && a.Lease != 0 && !found[a.Lease] {
			out = append(out, a.Lease)
		}
	}
	return out
}

// Member is a replica that is a member of the cluster.
type Member struct {
	Presence
	// Lease is different after a restart of the replica.
	Lease int64 `json:"lease"`
	// Revision is etcd's when the key appeared. Tokens of terms that the replica won under
	// an earlier lease are lower, and those of later terms are higher, unless it won within the
	// fraction of a second that its key may come after its first campaign.
	Revision int64 `json:"-"`
}

// ErrFormat is a value in etcd that this version does not understand.
var ErrFormat = errors.New("value format in etcd does not fit")

// AnyServer, given to Want, withdraws a switchover request.
const AnyServer = "any"

// ServersPrefix is where the members of a cluster keep their keys.
func ServersPrefix(cluster string) string { return ClusterPrefix(cluster) + "servers/" }

// ClusterPrefix begins all keys of a cluster.
func ClusterPrefix(cluster string) string { return "/hostsched/" + cluster + "/" }

// wantedKey holds the server of a switchover request.
func wantedKey(cluster string, name shard.Name) string {
	return ShardsPrefix(cluster) + name.String() + "/wanted"
}

// wantedWhyKey holds the reason of that request. It is a key of its own, because older
// replicas take the whole value of the other one for a server.
func wantedWhyKey(cluster string, name shard.Name) string { return wantedKey(cluster, name) + "_why" }

// viewOf interprets the keys of a cluster.
func viewOf(cluster string, kvs map[string]*mvccpb.KeyValue) View {
	out := View{Shards: map[shard.Name]ShardElection{}}
	for key, kv := range kvs {
		if name, ok := strings.CutPrefix(key, ServersPrefix(cluster)); ok {
			a := Member{Lease: kv.Lease, Revision: kv.CreateRevision, Presence: readPresence(kv)}
			a.Server = name
			out.Servers = append(out.Servers, a)
			continue
		}
		rest, ok := strings.CutPrefix(key, ShardsPrefix(cluster))
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
			c.add(kv)
		}
		out.Shards[shard.Name(name)] = c
	}
	slices.SortFunc(out.Servers, func(a, b Member) int { return strings.Compare(a.Server, b.Server) })
	for name, c := range out.Shards {
		c.sort()
		out.Shards[name] = c
	}
	return out
}

// has tells whether a server is a member.
func (v View) has(server string) bool {
	return slices.ContainsFunc(v.Servers, func(m Member) bool { return m.Server == server })
}

// readPresence reads the key of a server; it is empty if the value is none of ours.
func readPresence(kv *mvccpb.KeyValue) (p Presence) {
	if json.Unmarshal(kv.Value, &p) != nil {
		return Presence{}
	}
	return p
}

// Look returns the present view.
func Look(ctx context.Context, client *clientv3.Client, cluster string) (View, error) {
	k, err := look(ctx, client, ClusterPrefix(cluster), lookHedge)
	if err != nil {
		return View{}, fmt.Errorf("read %s in etcd at %s: %w", ClusterPrefix(cluster), strings.Join(client.Endpoints(), ", "), err)
	}
	return viewOf(cluster, k.kvs), nil
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
