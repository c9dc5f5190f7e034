package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// OpenChecked opens the database and makes sure that it fits the configuration.
func OpenChecked(ctx context.Context, c *config.Config) (*store.DB, error) {
	db, err := openChecked(ctx, c, c.Store(), c.Shared())
	if err != nil {
		return nil, err
	}
	if err := fits(ctx, c, admin.New(db)); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
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

func openChecked(ctx context.Context, c *config.Config, cfg sqldb.Config, shared bool) (*store.DB, error) {
	db, err := store.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := schema.Check(ctx, db.DB, schema.Use{StaticLabels: c.Labels.RespectStatic, Shared: shared}); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// OpenShard opens the database that a shard has of its own.
func OpenShard(ctx context.Context, c *config.Config, name shard.Name, dsn string) (*store.DB, error) {
	cfg, err := c.ShardStore(name, dsn)
	if err != nil {
		return nil, err
	}
	return openChecked(ctx, c, cfg, false)
}

// OpenServers finds the database with the servers table: one of its own, the
// main one, or none.
func OpenServers(ctx context.Context, c *config.Config, main *store.DB) (servers *store.DB, closer func() error, err error) {
	closer = func() error { return nil }
	cfg, own := c.ServersStore()
	servers = main
	if own {
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
