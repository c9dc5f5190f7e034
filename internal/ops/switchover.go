package ops

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store/admin"
)

// switchPoll is how often a switchover looks whether it happened.
const switchPoll = 20 * time.Millisecond

// Handover is what became of a switchover request.
type Handover struct {
	Shard shard.Name
	// From is the server that led before, empty if nobody did.
	From string
	// Took is the time from the request to the new leader's key.
	Took time.Duration
}

// Switchover asks for a shard to be led by a server and waits until it is. The
// request is on record as soon as it is made, because it holds even if nobody
// waits for it.
func (l Lab) Switchover(ctx context.Context, client *clientv3.Client, arg, to string, by By) (Handover, error) {
	s, err := l.Find(ctx, arg)
	if err != nil {
		return Handover{}, err
	}
	out := Handover{Shard: s.Name}
	view, err := election.Look(ctx, client, l.Config.Cluster)
	if err != nil {
		return out, err
	}
	out.From = view.Shards[s.Name].Holder()
	if to != election.AnyServer {
		if err := mayTake(view, s.Name, to); err != nil {
			return out, err
		}
	}
	began := time.Now()
	if err := election.Want(ctx, client, l.Config.Cluster, s.Name, to); err != nil {
		return out, fmt.Errorf("ask etcd for the switchover: %w", err)
	}
	detail := strings.TrimSpace(fmt.Sprintf("from %s to %s %s", cmp.Or(out.From, "-"), to, by.Reason))
	if err := l.Main.Audit(ctx, by.Who, "shard switchover", s.Name.String(), detail); err != nil || to == election.AnyServer {
		return out, err
	}
	err = l.waitForLeader(ctx, client, s.Name, to)
	out.Took = time.Since(began)
	return out, err
}

// waitForLeader waits until a server leads a shard.
func (l Lab) waitForLeader(ctx context.Context, client *clientv3.Client, name shard.Name, server string) error {
	for {
		view, err := election.Look(ctx, client, l.Config.Cluster)
		if err == nil {
			if k := view.Shards[name].Candidates; len(k) > 0 && k[0].Server == server && k[0].State == election.StateLeader {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("shard %s was not handed over to %s in time, but the request holds; see 'hostsched cluster status', and withdraw it with 'hostsched shard switchover %s --to %s'", name, server, name, election.AnyServer)
		case <-time.After(switchPoll):
		}
	}
}

// mayTake refuses a server that would not be given the shard.
func mayTake(view election.View, name shard.Name, to string) error {
	primaries := false
	var target *election.Member
	for i, a := range view.Servers {
		primaries = primaries || a.Role == election.RolePrimary
		if a.Server == to {
			target = &view.Servers[i]
		}
	}
	switch {
	case target == nil:
		return fmt.Errorf("%w: server %s is not running; see 'hostsched cluster status'", admin.ErrInput, to)
	case target.Role == election.RoleNone:
		return fmt.Errorf("%w: server %s may not lead: %s", admin.ErrInput, to, target.Why)
	case target.Role == election.RoleBackup && primaries:
		return fmt.Errorf("%w: server %s is a backup, and primaries are there", admin.ErrInput, to)
	case target.Avoids[name] != "":
		return fmt.Errorf("%w: server %s just failed to lead shard %s: %s", admin.ErrInput, to, name, target.Avoids[name])
	}
	return nil
}
