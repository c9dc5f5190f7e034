package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/web"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

// ClusterStatus is who is there, and who leads what.
type ClusterStatus struct {
	Cluster string         `json:"cluster"`
	Servers []ServerStatus `json:"servers"`
	Shards  []ShardStatus  `json:"shards"`
}

// ServerStatus is a replica that is there.
type ServerStatus struct {
	Server  string `json:"server"`
	Role    string `json:"role"`
	Why     string `json:"why,omitempty"`
	Leads   int    `json:"leads"`
	Weight  int    `json:"weight"`
	Since   string `json:"since"`
	Address string `json:"address"`
	Version string `json:"version"`
	// Avoids are shards it lately failed to lead.
	Avoids map[shard.Name]string `json:"avoids,omitempty"`
	// Error says why it does not answer, empty if it does.
	Error string `json:"error,omitempty"`
}

// ShardStatus is a shard and its leader.
type ShardStatus struct {
	Shard shard.Name `json:"shard"`
	// Leader is empty while nobody leads.
	Leader string `json:"leader"`
	Term   int64  `json:"term"`
	Token  int64  `json:"token"`
	Since  string `json:"since,omitempty"`
	// LastTickAge and LastTick are milliseconds; -1 if the leader does not say.
	LastTickAge int64    `json:"last_tick_age_ms"`
	LastTick    int64    `json:"last_tick_ms"`
	Assignments int64    `json:"assignments"`
	Failovers   int      `json:"failovers"`
	Paused      string   `json:"paused,omitempty"`
	Candidates  []string `json:"candidates"`
	Wanted      string   `json:"wanted,omitempty"`
	Holder      string   `json:"holder"`
	Database    string   `json:"database,omitempty"`
	Labels      []string `json:"labels"`
	Hosts       int      `json:"hosts"`
	Error       string   `json:"error,omitempty"`
}

// replicaTimeout bounds the question to one replica.
const replicaTimeout = 2 * time.Second

// ReadClusterStatus asks etcd, the database and every replica. A replica or a
// shard's database that does not answer is noted; the rest is shown.
func ReadClusterStatus(ctx context.Context, c *config.Config, db *store.DB, client *clientv3.Client) (ClusterStatus, error) {
	out := ClusterStatus{Cluster: c.Cluster, Servers: []ServerStatus{}, Shards: []ShardStatus{}}
	asked, cancel := context.WithTimeout(ctx, replicaTimeout)
	defer cancel()
	view, err := election.Look(asked, client, c.Cluster)
	if err != nil {
		return out, err
	}
	shards, err := admin.New(db).Shards(ctx)
	if err != nil {
		return out, err
	}
	answers := askServers(ctx, view)
	for i, a := range view.Servers {
		st := ServerStatus{Server: a.Server, Role: a.Role, Why: a.Why, Weight: max(1, a.Weight), Since: a.Since, Address: a.Address, Version: a.Version, Avoids: a.Avoids, Error: answers[i].err}
		for _, elected := range view.Shards {
			if elected.Holder() == a.Server {
				st.Leads++
			}
		}
		out.Servers = append(out.Servers, st)
	}
	for _, s := range shards {
		out.Shards = append(out.Shards, shardStatus(ctx, c, db, s, view.Shards[s.Name], answers))
	}
	return out, nil
}

func shardStatus(ctx context.Context, c *config.Config, db *store.DB, s admin.Shard, elected election.ShardElection, answers []answer) ShardStatus {
	st := ShardStatus{Shard: s.Name, LastTickAge: -1, LastTick: -1, Wanted: elected.Wanted, Candidates: []string{}, Database: s.DSN, Labels: s.Labels, Hosts: s.Hosts}
	for i, k := range elected.Candidates {
		if i == 0 && k.State == election.StateLeader {
			st.Leader, st.Token, st.Since = k.Server, k.Token, k.Since
			continue
		}
		st.Candidates = append(st.Candidates, k.Server)
	}
	if err := OnShard(ctx, c, db, s, func(db *store.DB) error { return st.readFence(ctx, db) }); err != nil {
		st.Error = err.Error()
	}
	for _, a := range answers {
		for _, r := range a.status.Shards {
			if a.status.Server != st.Leader || r.Shard != s.Name || r.State != replica.StateLeader {
				continue
			}
			st.Assignments = r.Assignments
			if len(r.Recent) > 0 {
				st.LastTickAge = time.Since(r.LastTick).Milliseconds()
				st.LastTick = r.Recent[len(r.Recent)-1].Milliseconds()
			}
		}
	}
	return st
}

func (st *ShardStatus) readFence(ctx context.Context, db *store.DB) error {
	f, ok, err := db.ReadFence(ctx, st.Shard)
	if err != nil || !ok {
		return err
	}
	st.Term, st.Holder, st.Paused = f.Epoch, f.Holder, f.Paused
	failovers, err := db.Failovers(ctx)
	st.Failovers = failovers[st.Shard]
	return err
}

// OnShard does something in the database of a shard, which may be the main one.
func OnShard(ctx context.Context, c *config.Config, main *store.DB, s admin.Shard, work func(*store.DB) error) error {
	if s.DSN == "" {
		return work(main)
	}
	db, err := OpenShard(ctx, c, s.Name, s.DSN)
	if err != nil {
		return fmt.Errorf("the database of shard %s: %w", s.Name, err)
	}
	return errors.Join(work(db), db.Close())
}

// answer is what a replica said of itself, or why it said nothing.
type answer struct {
	status web.ServerStatus
	err    string
}

func askServers(ctx context.Context, view election.View) []answer {
	out := make([]answer, len(view.Servers))
	var asking sync.WaitGroup
	for i, a := range view.Servers {
		asking.Go(func() {
			status, err := web.ReadStatus(ctx, a.Address, replicaTimeout)
			out[i].status = status
			if err != nil {
				out[i].err = err.Error()
			}
		})
	}
	asking.Wait()
	return out
}

// FindShard returns one of the shards in the database.
func FindShard(ctx context.Context, db *store.DB, name shard.Name) (admin.Shard, error) {
	shards, err := admin.New(db).Shards(ctx)
	if err != nil {
		return admin.Shard{}, err
	}
	i := slices.IndexFunc(shards, func(s admin.Shard) bool { return s.Name == name })
	if i < 0 {
		names := make([]string, len(shards))
		for i, s := range shards {
			names[i] = s.Name.String()
		}
		slices.SortFunc(names, cmp.Compare[string])
		return admin.Shard{}, fmt.Errorf("%w: %s; there are %v", store.ErrNoShard, name, names)
	}
	return shards[i], nil
}

// switchPoll is how often a switchover looks whether it happened.
const switchPoll = 20 * time.Millisecond

// Switchover asks for a shard to be led by a server and waits until it is. It
// returns who led before, and how long it took from the wish to the new leader's
// key.
func Switchover(ctx context.Context, c *config.Config, client *clientv3.Client, name shard.Name, to string) (from string, took time.Duration, err error) {
	view, err := election.Look(ctx, client, c.Cluster)
	if err != nil {
		return "", 0, err
	}
	from = view.Shards[name].Holder()
	if to != election.AnyServer {
		if err := mayTake(view, name, to); err != nil {
			return from, 0, err
		}
	}
	began := time.Now()
	if err := election.Want(ctx, client, c.Cluster, name, to); err != nil {
		return from, 0, fmt.Errorf("ask etcd for the switchover: %w", err)
	}
	if to == election.AnyServer {
		return from, 0, nil
	}
	for {
		view, err := election.Look(ctx, client, c.Cluster)
		if err == nil {
			if k := view.Shards[name].Candidates; len(k) > 0 && k[0].Server == to && k[0].State == election.StateLeader {
				return from, time.Since(began), nil
			}
		}
		select {
		case <-ctx.Done():
			return from, 0, fmt.Errorf("shard %s was not handed over to %s in time; see 'hostsched cluster status'", name, to)
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
