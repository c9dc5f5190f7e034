package cluster

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hostsched/hostsched/election/recurring"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/roles"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store/admin"
)

// poll is what the database says.
type poll struct {
	// shards maps each shard that can be served to the DSN of its own database,
	// which is empty if the shard shares the main one.
	shards map[shard.Name]string
	// unserved are the rows of afe_shards that no replica can lead.
	unserved  []admin.Unserved
	role, why string
	// database tells this database from those of other replicas.
	database string
	// misconfigured says why this configuration does not fit the database, empty if it
	// does.
	misconfigured string
	// err is why the database did not say all that.
	err error
}

// pollDatabase asks for shards and roles until ctx ends. While the database does
// not answer, the last answer stays true.
func (c *Controller) pollDatabase(ctx context.Context) {
	again := time.NewTicker(pollInterval)
	defer again.Stop()
	faults := recurring.New(c.log)
	for {
		p, err := c.askDatabase(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			faults.Warn("cannot read the shards and roles from the database; continuing with those that it had before", "error", err)
			p = poll{err: err}
		} else {
			faults.Over()
		}
		select {
		case c.polls <- p:
		case <-ctx.Done():
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
	}
}

func (c *Controller) askDatabase(ctx context.Context) (p poll, err error) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	p.shards = map[shard.Name]string{c.cfg.Only: ""}
	if c.cfg.Only == "" {
		if p.shards, p.unserved, err = admin.New(c.db.Main).ShardDatabases(ctx); err != nil {
			return p, err
		}
	}
	if err := c.askScope(ctx, &p); err != nil {
		return p, err
	}
	var servers admin.ServersTable
	if c.db.Servers != nil {
		if servers, err = admin.New(c.db.Servers).Servers(ctx, c.cfg.Server); err != nil {
			return p, err
		}
	}
	p.role, p.why = roles.Of(servers, c.cfg.Server)
	return p, nil
}

// polled makes the controller follow what the database says.
func (c *Controller) polled(p poll) {
	c.databaseError = ""
	if p.err != nil {
		c.databaseError = p.err.Error()
		return
	}
	c.setDatabase(p.database)
	c.misconfigured = p.misconfigured
	c.setRole(p.role, p.why)
	c.setUnserved(p.unserved)
	c.mu.Lock()
	var gone []*shardRunner
	for name, s := range c.runners {
		if dsn, there := p.shards[name]; !there || dsn != s.dsn {
			gone = append(gone, s)
			delete(c.runners, name)
		}
	}
	for name, dsn := range p.shards {
		if c.runners[name] == nil {
			c.log.Info("the database has a new shard", "shard", name)
			c.found(name)
			c.runners[name] = newShardRunner(c, name, dsn)
		}
	}
	n := len(c.runners)
	c.mu.Unlock()
	c.db.Main.ServeShards(n)
	for _, s := range gone {
		c.log.Info("the database does not have the shard any more", "shard", s.name)
		s.stop(fmt.Errorf("%w: the shard was removed, renamed or got another database", replica.ErrHandOver))
		// The last apply of a shard may take long, and role changes and hand-overs
		// of other shards must not wait for it.
		c.retiring.Go(func() { c.retire(s) })
	}
}

// setUnserved keeps the rows that no replica can lead, and warns about each when it
// is seen first.
func (c *Controller) setUnserved(unserved []admin.Unserved) {
	c.mu.Lock()
	before := c.unserved
	c.unserved = unserved
	c.mu.Unlock()
	for _, u := range unserved {
		if !slices.Contains(before, u) {
			c.log.Warn("this shard is not served; rename it in afe_shards, or remove it with 'hostsched shard remove'", "shard", shard.Printable(u.Name.String()), "row", u.ID, "reason", u.Reason)
		}
	}
}

// Unserved returns how many rows of afe_shards no replica can lead.
func (c *Controller) Unserved() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.unserved)
}

// NotServed returns the names in afe_shards that no replica can lead, with the reason
// for each. A name may also be that of a shard which is served, in another row.
func (c *Controller) NotServed() map[shard.Name]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[shard.Name]string{}
	for _, u := range c.unserved {
		reason := fmt.Sprintf("row %d of afe_shards: %s", u.ID, u.Reason)
		if before := out[u.Name]; before != "" {
			reason = before + "; " + reason
		}
		out[u.Name] = reason
	}
	return out
}
