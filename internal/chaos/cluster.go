package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// chaos is a cluster, and what is known of it.
type chaos struct {
	o       options
	dir     string
	rng     *rand.Rand // of the faults alone
	journal *journal

	database  database
	dsn       string // root's
	db        *store.DB
	admin     *admin.Lab
	lab       *simlab.Lab
	simulator *simlab.Simulator
	hostile   *hostile
	runs      *runsLab // nil unless -runs

	etcd   *testserver.EtcdCluster
	busy   map[*testserver.EtcdMember]bool
	client *clientv3.Client // past all links

	replicas []*replica
	watch    *watch
	// brief are shards that a fault has added and that may still be there.
	brief []string
	// paused are the shards that a fault has paused.
	paused map[shard.Name]bool
	res    results
}

// The cluster's size and pace.
const (
	clusterName  = "chaos"
	databaseName = "chaos"
	members      = 3
	replicas     = 3
	otherShards  = 3
	leaseTTL     = 2 * time.Second // by which faults are measured, whatever -ttl says
	tickMin      = 20 * time.Millisecond
	holdOff      = 1500 * time.Millisecond
	// startPatience bounds the start of each part.
	startPatience = time.Minute
)

var labSpec = simlab.Spec{Hosts: 240, Boards: 8, Suites: 20, Entries: 150, MinimumShare: 0.1, Runnable: true, LeasedAtFirst: true}

// shards are those that are there from the beginning to the end.
func shards() []shard.Name {
	out := []shard.Name{shard.Master}
	for i := range otherShards {
		out = append(out, shard.Name(fmt.Sprintf("shard-%d", i+1)))
	}
	return out
}

func board(n int) string { return fmt.Sprintf("board:b%02d", n) }

// start starts everything, and waits until every shard ticks.
func (c *chaos) start(ctx context.Context) error {
	var g errgroup.Group
	g.Go(c.startDatabase)
	g.Go(func() (err error) {
		c.etcd, err = testserver.StartEtcdCluster(filepath.Join(c.dir, "etcd"), members)
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	var direct []string
	for _, m := range c.etcd.Members {
		direct = append(direct, "http://"+m.Addr)
	}
	var err error
	if c.client, err = clientv3.New(clientv3.Config{Endpoints: direct, DialTimeout: 2 * time.Second, Logger: zap.NewNop()}); err != nil {
		return err
	}
	c.busy, c.paused = map[*testserver.EtcdMember]bool{}, map[shard.Name]bool{}
	if err := c.createLab(ctx); err != nil {
		return err
	}
	for i := range replicas {
		r, err := c.newReplica(i + 1)
		if err != nil {
			return err
		}
		c.replicas = append(c.replicas, r)
		if err := r.start(); err != nil {
			return err
		}
	}
	c.watch = newWatch(c)
	c.journal.say("%s, %d members of etcd, %d replicas, %d shards, seed %d, logs in %s", c.db.Server(), members, replicas, 1+otherShards, c.o.seed, c.dir)
	return nil
}

// createLab makes the lab with its shards, its histories and the user of the
// replicas, who has no rights beyond this database.
func (c *chaos) createLab(ctx context.Context) error {
	if _, err := c.database.nodes[0].Create(databaseName); err != nil {
		return err
	}
	var err error
	c.dsn = fmt.Sprintf("root@tcp(%s)/%s", c.database.front.Addr, databaseName)
	if c.db, err = store.Open(ctx, sqldb.Config{DSN: c.dsn}); err != nil {
		return err
	}
	c.admin = admin.New(c.db)
	if c.o.runs {
		return c.createRunsLab(ctx)
	}
	if _, err := schema.Up(ctx, c.db.DB, schema.Options{}); err != nil {
		return err
	}
	if err := c.exec(ctx,
		"ALTER TABLE afe_host_queue_entries DROP KEY hostsched_one_active_entry_per_host",
		"CREATE USER '"+replicaUser+"'@'127.0.0.1' IDENTIFIED BY ''",
		"GRANT ALL ON "+databaseName+".* TO '"+replicaUser+"'@'127.0.0.1'"); err != nil {
		return err
	}
	if err := c.installHistory(ctx); err != nil {
		return err
	}
	spec := labSpec
	spec.Seed = c.o.seed
	if c.lab, err = simlab.Create(ctx, c.db.SQL(), spec); err != nil {
		return err
	}
	c.simulator = simlab.NewSimulator(c.db.SQL(), c.lab, pace)
	c.hostile = newHostile(c)
	return c.divide(ctx)
}

// divide gives two boards to each shard and leaves two to the master, and enters
// the servers, so that roles can be taken away.
func (c *chaos) divide(ctx context.Context) error {
	const each = 2
	for i, name := range shards()[1:] {
		if err := c.admin.AddShard(ctx, name, "", "chaos", ""); err != nil {
			return err
		}
		for b := range each {
			if _, err := c.admin.AssignLabel(ctx, board(i*each+b), name, "chaos", ""); err != nil {
				return err
			}
		}
	}
	for i := range replicas {
		s := admin.Server{Name: replicaName(i + 1), Status: admin.ServerPrimary, Roles: []string{admin.RoleHostScheduler}}
		if _, err := c.admin.ChangeServers(ctx, "add server "+s.Name, admin.Agreement{}, admin.AddServer(s)); err != nil {
			return err
		}
	}
	return nil
}

const replicaUser = "hostsched"

// exec runs statements as root.
func (c *chaos) exec(ctx context.Context, texts ...string) error {
	for _, text := range texts {
		if _, err := c.db.SQL().ExecContext(ctx, text); err != nil {
			return fmt.Errorf("%.80s: %w", text, err)
		}
	}
	return nil
}

// number asks for one number as root.
func (c *chaos) number(ctx context.Context, query string, args ...any) (int64, error) {
	var n sql.NullInt64
	if err := c.db.SQL().QueryRowContext(ctx, query, args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("%.80s: %w", strings.TrimSpace(query), err)
	}
	return n.Int64, nil
}

// stop ends everything that was started.
func (c *chaos) stop() error {
	err := c.stopAgents()
	for _, r := range c.replicas {
		err = errors.Join(err, r.stop())
	}
	if c.client != nil {
		err = errors.Join(err, c.client.Close())
	}
	if c.etcd != nil {
		err = errors.Join(err, c.etcd.Close())
	}
	if c.db != nil {
		err = errors.Join(err, c.db.Close())
	}
	return errors.Join(err, c.database.stop())
}
