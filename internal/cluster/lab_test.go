package cluster_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/cluster"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

const (
	// soon is far longer than anything here should take.
	soon = 20 * time.Second
	// txTimeout is how long a leader waits for a lock, at least.
	txTimeout = 4 * time.Second
	holdOff   = 300 * time.Millisecond
	// handOver is what is promised for a planned hand-over.
	handOver = 500 * time.Millisecond
)

func TestMain(m *testing.M) { testserver.MainWithoutLeaks(m) }

// lab is a database with its hosts and jobs, and an election, for several servers
// in this process.
type lab struct {
	t        *testing.T
	dsn      string
	db       *store.DB
	made     *simlab.Lab
	history  *simlab.History
	election *election.Memory
	servers  []*server
	log      storetest.Log
	// route, if set, says how a server reaches the database of a shard that has its own.
	route func(server, dsn string) string
}

func shardName(i int) shard.Name { return shard.Name(fmt.Sprintf("shard-%d", i+1)) }

// newLab makes a lab with a number of shards besides the master, each with one
// board. When the test ends, nothing must have been assigned twice.
func newLab(t *testing.T, dsn string, shards int) *lab {
	l := &lab{t: t, dsn: dsn, election: election.NewMemory()}
	l.db, l.made = openLab(t, dsn)
	for i := range shards {
		l.exec("INSERT INTO afe_shards (hostname) VALUES (?)", shardName(i).String())
		l.exec("INSERT INTO afe_shards_labels (shard_id, label_id) SELECT s.id, l.id FROM afe_shards s, afe_labels l WHERE s.hostname = ? AND l.name = ?", shardName(i).String(), fmt.Sprintf("board:b%02d", i))
	}
	var err error
	l.history, err = simlab.InstallHistory(t.Context(), l.db.SQL(), strings.HasPrefix(dsn, "sqlite:"))
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(l.log.String())
		}
		n, err := l.history.AssignedTwice(context.Background(), 0)
		require.NoError(t, err)
		require.Zero(t, n, "assigned twice")
	})
	return l
}

func openLab(t *testing.T, dsn string) (*store.DB, *simlab.Lab) {
	t.Helper()
	db := open(t, dsn)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	_, err := schema.Up(t.Context(), db.DB, schema.Options{})
	require.NoError(t, err)
	made, err := simlab.Create(t.Context(), db.SQL(), simlab.Spec{Seed: 1, Hosts: 60, Boards: 6, Suites: 6, Entries: 60})
	require.NoError(t, err)
	return db, made
}

func open(t *testing.T, dsn string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), sqldb.Config{DSN: dsn, TxTimeout: txTimeout, Create: true})
	require.NoError(t, err)
	return db
}

func (l *lab) exec(query string, args ...any) {
	l.t.Helper()
	_, err := l.db.SQL().ExecContext(l.t.Context(), query, args...)
	require.NoError(l.t, err)
}

// rename gives a table another name, so that whoever reads it fails. The server gives up if
// somebody just writes rows that refer to it, and says to try again.
func rename(t *testing.T, db *store.DB, from, to string) {
	t.Helper()
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		_, err := db.SQL().ExecContext(context.Background(), "RENAME TABLE "+from+" TO "+to)
		require.NoError(t, err)
	}, soon, 2*time.Millisecond)
}

func (l *lab) until(what string, holds func() bool) {
	l.t.Helper()
	require.Eventually(l.t, holds, soon, 2*time.Millisecond, what)
}

// addServer adds a row to the servers table that may lead.
func (l *lab) addServer(name, status string) {
	l.exec("INSERT INTO servers (hostname, status) VALUES (?, ?)", name, status)
	l.giveRole(name)
}

func (l *lab) giveRole(name string) {
	l.exec("INSERT INTO server_roles (server_id, role) SELECT id, ? FROM servers WHERE hostname = ?", admin.RoleHostScheduler, name)
}

func (l *lab) takeRole(name string) {
	l.exec("DELETE FROM server_roles WHERE server_id = (SELECT id FROM servers WHERE hostname = ?)", name)
}

// simulate keeps the lab busy until the returned function is called.
func (l *lab) simulate() (stop func()) {
	ctx, cancel := context.WithCancel(l.t.Context())
	ended := make(chan error, 1)
	simulator := simlab.NewSimulator(l.db.SQL(), l.made, simlab.Simulation{
		Step: 20 * time.Millisecond, TaskMin: 10 * time.Millisecond, TaskMax: 50 * time.Millisecond,
		JobMin: 10 * time.Millisecond, JobMax: 100 * time.Millisecond, Queue: 60, SuiteSize: 20,
	})
	go func() { ended <- simulator.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(l.t, <-ended)
	})
	l.t.Cleanup(stop)
	return stop
}

// server is one replica process, as far as a goroutine can be one.
type server struct {
	name       string
	replica    *election.MemoryReplica
	controller *cluster.Controller
	stop       func() // hands everything over
	stopped    bool
}

// start starts a server with its own connections to the database.
func (l *lab) start(name string) *server {
	l.t.Helper()
	r := l.election.Replica(name)
	s := l.startOn(name, r, l.dsn)
	s.replica = r
	return s
}

// startOnly starts a server that gives the whole database to one shard.
func (l *lab) startOnly(name string, only shard.Name) *server {
	l.t.Helper()
	return l.startOn(name, l.election.Replica(name), l.dsn, func(c *cluster.Config) {
		c.Only, c.Replica.Scope = only, store.Scope{Shard: only}
	})
}

// startOn starts a server with an election and a way to the database of its own.
func (l *lab) startOn(name string, elected cluster.Election, dsn string, change ...func(*cluster.Config)) *server {
	l.t.Helper()
	s := &server{name: name}
	db := open(l.t, dsn)
	cfg := cluster.Config{
		Server: name, HoldOff: holdOff,
		Replica: replica.Config{Holder: fmt.Sprintf("%s/%d", name, len(l.servers)), MinTick: 5 * time.Millisecond},
	}
	for _, c := range change {
		c(&cfg)
	}
	s.controller = cluster.New(cfg, elected, cluster.Databases{Main: db, Servers: db, Open: func(ctx context.Context, _ shard.Name, dsn string) (*store.DB, error) {
		return l.openShard(ctx, name, dsn)
	}}, replica.Silent{},
		hclog.New(&hclog.LoggerOptions{Name: name, Output: &l.log, Level: hclog.Info}))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.controller.Run(ctx) })
	s.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		s.stopped = true
		require.NoError(l.t, db.Close())
	})
	l.t.Cleanup(s.stop)
	l.servers = append(l.servers, s)
	return s
}

func (l *lab) openShard(ctx context.Context, server, dsn string) (*store.DB, error) {
	if l.route != nil {
		dsn = l.route(server, dsn)
	}
	return store.Open(ctx, sqldb.Config{DSN: dsn, TxTimeout: txTimeout})
}

// kill ends a server without a hand-over: its leases stay until they run out.
func (s *server) kill() {
	s.replica.Freeze()
	s.stop()
	s.replica.Expire()
}

// leaders are the servers that lead, by shard: they have won the election, and say
// that they have taken the shard over.
func (l *lab) leaders() map[shard.Name]*server {
	out := map[shard.Name]*server{}
	for name, e := range l.election.View().Shards {
		for _, s := range l.servers {
			if !s.stopped && e.Holder() == s.name && s.status(name).State == replica.StateLeader {
				out[name] = s
			}
		}
	}
	return out
}

func (s *server) status(name shard.Name) replica.Status {
	for _, st := range s.controller.Status() {
		if st.Shard == name {
			return st
		}
	}
	return replica.Status{}
}

// leads returns the shards that a server leads, sorted.
func (l *lab) leads(s *server) (out []shard.Name) {
	for name, leader := range l.leaders() {
		if leader == s {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// atRest tells whether placement wants every shard to stay where it is, once all
// members are established.
func (l *lab) atRest(leaders map[shard.Name]*server) bool {
	view := l.election.View()
	var servers []shard.Server
	for _, m := range view.Servers {
		if m.Role == election.RolePrimary {
			servers = append(servers, shard.Server{Name: m.Server, Established: true})
		}
	}
	var leaderships []shard.Leadership
	for name, leader := range leaders {
		leaderships = append(leaderships, shard.Leadership{Shard: name, Holder: leader.name, Wanted: view.Shards[name].Wanted})
	}
	for name, server := range shard.Place(servers, leaderships) {
		if leaders[name].name != server {
			return false
		}
	}
	return true
}

// spread waits until n shards have a leader, no server leads more than most, and
// no shard is about to move.
func (l *lab) spread(n, most int) map[shard.Name]*server {
	l.t.Helper()
	var leaders map[shard.Name]*server
	l.until(fmt.Sprintf("%d shards are led, at most %d by each server", n, most), func() bool {
		leaders = l.leaders()
		for _, s := range l.servers {
			if led := slices.Collect(maps.Values(leaders)); len(slices.DeleteFunc(led, func(o *server) bool { return o != s })) > most {
				return false
			}
		}
		return len(leaders) == n && l.atRest(leaders)
	})
	return leaders
}

// ledBy waits until a server leads exactly these shards.
func (l *lab) ledBy(s *server, names ...shard.Name) {
	l.t.Helper()
	slices.Sort(names)
	l.until(fmt.Sprintf("%s leads %v", s.name, names), func() bool { return slices.Equal(l.leads(s), names) })
}

// member waits until a server is a member of the cluster.
func (l *lab) member(name string) {
	l.t.Helper()
	l.until(name+" is a member", func() bool {
		return slices.ContainsFunc(l.election.View().Servers, func(m election.Member) bool {
			return m.Server == name && m.Role != election.RoleNone
		})
	})
}

// busiest returns the server that leads most shards.
func (l *lab) busiest() *server {
	return slices.MaxFunc(l.servers, func(a, b *server) int { return len(l.leads(a)) - len(l.leads(b)) })
}

// progress waits until a number of entries more have got a host.
func (l *lab) progress(n int64) {
	l.t.Helper()
	before, err := l.history.Count(l.t.Context(), simlab.Counts{})
	require.NoError(l.t, err)
	l.until(fmt.Sprintf("%d assignments", n), func() bool {
		now, err := l.history.Count(l.t.Context(), before)
		return err == nil && now.Assignments >= before.Assignments+n
	})
}

// requireMoved: exactly these shards changed their leader.
func (l *lab) requireMoved(before, after map[shard.Name]*server, moved []shard.Name) {
	l.t.Helper()
	var got []shard.Name
	for name, s := range before {
		if after[name] != s {
			got = append(got, name)
		}
	}
	slices.Sort(got)
	require.Equal(l.t, moved, got)
}
