package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hostsched/hostsched/internal/cluster"
	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// While a database is away, it is tried again every retryInterval.
const (
	retryInterval = 500 * time.Millisecond
	attemptBound  = 30 * time.Second
)

// checkDSNs refuses what can be refused without asking any server.
func (a *App) checkDSNs() error {
	if err := a.cfg.Store().Check(); err != nil {
		return err
	}
	servers, own := a.cfg.ServersStore()
	if !own {
		return nil
	}
	if err := servers.Check(); err != nil {
		return fmt.Errorf("the database of servers and roles: %w", err)
	}
	return nil
}

// waitForDatabases opens and checks the databases, and waits for one that is away:
// after a power cut the replica may be up before its database is. It gives up if
// something is wrong that only a person can mend, and when ctx ends.
func (a *App) waitForDatabases(ctx context.Context) (cluster.Databases, error) {
	for {
		attempt, cancel := context.WithTimeout(ctx, attemptBound)
		dbs, err := a.openDatabases(attempt)
		cancel()
		if err == nil {
			a.waiting.Store("")
			return dbs, nil
		}
		if ctx.Err() != nil || !sqldb.IsAway(err) {
			return cluster.Databases{}, err
		}
		a.waiting.Store(err.Error())
		a.faults.Warn("waiting for the database", "reason", err)
		select {
		case <-ctx.Done():
			return cluster.Databases{}, ctx.Err()
		case <-time.After(retryInterval):
		}
	}
}

// openDatabases opens and checks the main database and that of servers and roles:
// both or none.
func (a *App) openDatabases(ctx context.Context) (cluster.Databases, error) {
	main, err := a.openMain(ctx)
	if err != nil {
		return cluster.Databases{}, err
	}
	servers, closeServers, err := OpenServers(ctx, a.cfg, main, a.databaseChanged)
	if err != nil {
		return cluster.Databases{}, errors.Join(err, main.Close())
	}
	a.closers = append(a.closers, main.Close, closeServers)
	return cluster.Databases{Main: main, Servers: servers, Open: a.openShard}, nil
}

// databaseChanged says that a database is not the one that was opened, because what
// comes after may be unlike what came before.
func (a *App) databaseChanged(database, was, is string) {
	a.faults.Warn("the address of the database leads to another server, or that one's settings have changed; connections are made anew", "database", database, "was", was, "is", is)
}

// openMain opens the main database and makes sure that it fits the configuration.
func (a *App) openMain(ctx context.Context) (*store.DB, error) {
	if a.cfg.Standalone {
		if err := a.prepareLab(ctx); err != nil {
			return nil, err
		}
	}
	db, err := a.openChecked(ctx, a.cfg.Store(), a.cfg.Shared())
	if err != nil {
		return nil, err
	}
	if err := fits(ctx, a.cfg, admin.New(db)); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if a.journal, err = a.keepsJournal(ctx, db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// keepsJournal tells whether leaders note what they do. Beside Autotest its history has that.
func (a *App) keepsJournal(ctx context.Context, db *store.DB) (bool, error) {
	if enabled := a.cfg.Journal.Enabled; enabled != "auto" {
		return enabled == "on", nil
	}
	return schema.LabIsOurs(ctx, db.DB)
}

// fits makes sure that a database has the shard that the configuration names, and belongs
// to the cluster that it names.
func fits(ctx context.Context, c *config.Config, db *admin.Lab) error {
	served := []shard.Name{c.Scope().Shard}
	if err := db.RequireShard(ctx, c.Scope().Shard); err != nil {
		return err
	}
	if c.Shared() {
		all, _, err := db.ShardDatabases(ctx)
		if err != nil {
			return err
		}
		maps.DeleteFunc(all, func(_ shard.Name, dsn string) bool { return dsn != "" })
		served = slices.Sorted(maps.Keys(all))
	}
	return db.RequireCluster(ctx, c.Cluster, served)
}

func (a *App) openChecked(ctx context.Context, cfg sqldb.Config, shared bool) (*store.DB, error) {
	cfg.Changed = a.databaseChanged
	db, err := store.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := schema.Check(ctx, db.DB, schema.Use{StaticLabels: a.cfg.Labels.RespectStatic, Shared: shared}); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// openShard opens the database that a shard has of its own.
func (a *App) openShard(ctx context.Context, name shard.Name, dsn string) (*store.DB, error) {
	return a.openChecked(ctx, a.cfg.ShardStore(name, dsn), false)
}

// OpenServers finds the database with the servers table: one of its own, the
// main one, or none. One of its own calls changed as sqldb.Config says.
func OpenServers(ctx context.Context, c *config.Config, main *store.DB, changed func(database, was, is string)) (servers *store.DB, closer func() error, err error) {
	closer = func() error { return nil }
	cfg, own := c.ServersStore()
	servers = main
	if own {
		cfg.Changed, cfg.ReadOnly = changed, main.Config.ReadOnly
		if servers, err = store.Open(ctx, cfg); err != nil {
			return nil, closer, fmt.Errorf("the database of servers and roles: %w", err)
		}
		closer = servers.Close
	}
	there, err := admin.New(servers).HasServers(ctx)
	switch {
	case err == nil && there:
		return servers, closer, nil
	case err == nil && own:
		err = fmt.Errorf("%w: %s has no servers table; check servers.dsn", sqldb.ErrSchema, servers.Target())
	case err == nil:
		return nil, closer, nil
	}
	return nil, closer, errors.Join(err, closer())
}
