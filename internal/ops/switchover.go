package ops

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store/admin"
)

const (
	// switchPoll is how often a switchover looks whether it happened.
	switchPoll = 20 * time.Millisecond
	// etcdTimeout bounds each question to etcd, and etcdPatience how long a
	// switchover waits for an etcd that does not answer.
	etcdTimeout  = 2 * time.Second
	etcdPatience = 4 * time.Second
	// cleanUpTimeout bounds the withdrawal of a request and the record of it.
	cleanUpTimeout = 3 * time.Second
)

// Handover is what became of a switchover request.
type Handover struct {
	Shard shard.Name
	// From is the server that led before, empty if nobody did, and To the one that leads now.
	From, To string
	// Unchanged tells that the request held already and that server led, or for any server that
	// no request held.
	Unchanged bool
	// Took is the time from the request to the new leader's key.
	Took time.Duration
}

// ErrNotHandedOver means that a shard was not handed over, although it seemed possible.
var ErrNotHandedOver = errors.New("was not handed over")

// ToHeir asks for a shard to be led by the server that would follow its leader.
const ToHeir = ""

// switchover is one request.
type switchover struct {
	Lab
	client *clientv3.Client
	shard  shard.Name
	to     string
	by     By
}

// Switchover asks for a shard to be led by a server, or by its heir, and waits until it is. The request is
// on record as soon as it is made, because it holds while that server lives. If the
// server does not lead in time, the request is withdrawn, and that is on record, too. What would
// change nothing is neither made nor recorded.
func (l Lab) Switchover(ctx context.Context, client *clientv3.Client, arg, to string, by By) (Handover, error) {
	if to != election.AnyServer && to != ToHeir {
		if err := shard.CheckServer(to); err != nil {
			return Handover{}, fmt.Errorf("%w: server %q: %w; no replica can have this name", admin.ErrInput, to, err)
		}
	}
	s, err := l.Find(ctx, arg)
	if err != nil {
		return Handover{}, err
	}
	w := switchover{l, client, s.Name, to, by}
	out := Handover{Shard: s.Name}
	view, err := w.look(ctx)
	if err != nil {
		return out, err
	}
	out.From = view.Shards[s.Name].Holder()
	if to == ToHeir {
		if to, err = heir(view, s.Name); err != nil {
			return out, err
		}
		w.to = to
	}
	out.To = to
	if to != election.AnyServer {
		if err := mayTake(view, s.Name, to); err != nil {
			return out, err
		}
	}
	if out.Unchanged = w.holds(view); out.Unchanged {
		return out, nil
	}
	began := time.Now()
	if err := w.request(ctx, out.From); err != nil || to == election.AnyServer {
		return out, err
	}
	if err := w.waitForLeader(ctx); err != nil {
		return out, errors.Join(err, w.giveUp(ctx, err))
	}
	out.Took = time.Since(began)
	return out, nil
}

func (w switchover) look(ctx context.Context) (election.View, error) {
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	return election.Look(ctx, w.client, w.Config.Cluster)
}

// holds tells whether the request would change nothing. A server that leads without a request is
// still given one: placement may prefer another server.
func (w switchover) holds(view election.View) bool {
	wanted := view.Shards[w.shard].Wanted
	if w.to == election.AnyServer {
		return wanted == ""
	}
	return wanted == w.to && leads(view, w.shard, w.to)
}

// request makes the request and records it, both or none.
func (w switchover) request(ctx context.Context, from string) error {
	bound, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	why := strings.TrimSpace(w.by.Reason + " (" + w.by.Who + ")")
	if err := election.Want(bound, w.client, w.Config.Cluster, w.shard, w.to, why); err != nil {
		return fmt.Errorf("ask etcd for the switchover: %w", err)
	}
	what := fmt.Sprintf("from %s to %s", cmp.Or(from, "-"), w.to)
	if from == w.to {
		what = from + " leads and is to keep it"
	}
	err := w.audit(ctx, strings.TrimSpace(what+" "+w.by.Reason))
	if err != nil && w.to != election.AnyServer {
		return errors.Join(err, w.withdraw(ctx))
	}
	return err
}

func (w switchover) audit(ctx context.Context, detail string) error {
	return w.Main.AuditShard(ctx, w.by.Who, admin.ActionSwitchover, w.shard, detail)
}

// giveUp withdraws the request and records what became of it, also if ctx has ended.
func (w switchover) giveUp(ctx context.Context, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	outcome := "withdrawn"
	err := w.withdraw(ctx)
	if err != nil {
		outcome = "could not be withdrawn"
	}
	return errors.Join(err, w.audit(ctx, fmt.Sprintf("the request for %s was given up and %s: %v", w.to, outcome, why)))
}

func (w switchover) withdraw(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), etcdTimeout)
	defer cancel()
	err := election.Withdraw(ctx, w.client, w.Config.Cluster, w.shard, w.to)
	if err == nil {
		return nil
	}
	return fmt.Errorf("the request holds, because it could not be withdrawn: %w; withdraw it with 'hostsched shard switchover %s --to %s'", err, w.shard, election.AnyServer)
}

// waitForLeader waits until the server leads the shard. It ends early if that cannot be
// any more.
func (w switchover) waitForLeader(ctx context.Context) error {
	answered := time.Now()
	for {
		view, err := w.look(ctx)
		switch {
		case err == nil && leads(view, w.shard, w.to):
			return nil
		case err == nil:
			answered = time.Now()
			err = mayTake(view, w.shard, w.to)
			if err != nil {
				return fmt.Errorf("shard %s %w to %s: %s", w.shard, ErrNotHandedOver, w.to, strings.TrimPrefix(err.Error(), admin.ErrInput.Error()+": "))
			}
		case ctx.Err() == nil && time.Since(answered) > etcdPatience:
			return fmt.Errorf("shard %s %w to %s, because etcd stopped answering: %w", w.shard, ErrNotHandedOver, w.to, err)
		}
		select {
		case <-ctx.Done():
			return w.tooLate(ctx, view)
		case <-time.After(switchPoll):
		}
	}
}

func leads(view election.View, name shard.Name, server string) bool {
	k := view.Shards[name].Candidates
	return len(k) > 0 && k[0].Server == server && k[0].State == election.StateLeader
}

// tooLate says how far the hand-over has come.
func (w switchover) tooLate(ctx context.Context, view election.View) error {
	holder := view.Shards[w.shard].Holder()
	state := "nobody has it"
	if holder != "" {
		state = "server " + holder + " still has it; see 'hostsched cluster status'"
	}
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("interrupted before shard %s was handed over to %s: %s", w.shard, w.to, state)
	}
	return fmt.Errorf("shard %s %w to %s in time: %s", w.shard, ErrNotHandedOver, w.to, state)
}

// heir is the server that would follow the leader of a shard, of those that may take it.
func heir(view election.View, name shard.Name) (string, error) {
	var able []shard.Server
	for _, m := range view.Servers {
		if mayTake(view, name, m.Server) != nil || m.Only != "" && m.Only != name {
			continue
		}
		able = append(able, shard.Server{Name: m.Server, Weight: m.Weight, LostAll: slices.Contains(m.Lost, name)})
	}
	to := shard.Heir(able, shard.Leadership{Shard: name, Holder: view.Shards[name].Holder()})
	if to == "" {
		return "", fmt.Errorf("%w: no other server may lead shard %s; see 'hostsched cluster status'", admin.ErrInput, name)
	}
	return to, nil
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
	case target.Database != "":
		return fmt.Errorf("%w: server %s cannot lead for the moment: %s; try again later", admin.ErrInput, to, target.Database)
	case target.Avoids[name] != "":
		return fmt.Errorf("%w: server %s failed to lead shard %s and avoids it until %v after the last failure; try again later, or mend this: %s", admin.ErrInput, to, name, election.AvoidFor, target.Avoids[name])
	}
	return nil
}
