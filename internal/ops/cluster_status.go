package ops

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/web"
	"github.com/hostsched/hostsched/shard"
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
func (l Lab) ReadClusterStatus(ctx context.Context, client *clientv3.Client) (ClusterStatus, error) {
	out := ClusterStatus{Cluster: l.Config.Cluster, Servers: []ServerStatus{}, Shards: []ShardStatus{}}
	asked, cancel := context.WithTimeout(ctx, replicaTimeout)
	defer cancel()
	view, err := election.Look(asked, client, l.Config.Cluster)
	if err != nil {
		return out, err
	}
	shards, err := l.shards(ctx)
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
		out.Shards = append(out.Shards, l.shardStatus(ctx, s, view.Shards[s.Name], answers))
	}
	return out, nil
}

func (l Lab) shardStatus(ctx context.Context, s admin.Shard, elected election.ShardElection, answers []answer) ShardStatus {
	st := ShardStatus{Shard: s.Name, LastTickAge: -1, LastTick: -1, Wanted: elected.Wanted, Candidates: []string{}, Database: s.DSN, Labels: s.Labels, Hosts: s.Hosts}
	for i, k := range elected.Candidates {
		if i == 0 && k.State == election.StateLeader {
			st.Leader, st.Token, st.Since = k.Server, k.Token, k.Since
			continue
		}
		st.Candidates = append(st.Candidates, k.Server)
	}
	if err := l.inDatabase(ctx, s, func(db *admin.Lab) error { return st.readFence(ctx, db) }); err != nil {
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

func (st *ShardStatus) readFence(ctx context.Context, db *admin.Lab) error {
	f, ok, err := db.ReadFence(ctx, st.Shard)
	if err != nil || !ok {
		return err
	}
	st.Term, st.Holder, st.Paused = f.Epoch, f.Holder, f.Paused
	failovers, err := db.Failovers(ctx)
	st.Failovers = failovers[st.Shard]
	return err
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
