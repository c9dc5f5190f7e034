package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

// askScope finds out which database this is, and whether it has the shard that it is given
// to as a whole. A shard whose row was removed is not led any more.
func (c *Controller) askScope(ctx context.Context, p *poll) error {
	if c.identity == "" {
		id, err := c.db.Main.Identity(ctx)
		if err != nil {
			return err
		}
		// The names of servers and files are nobody else's business.
		sum := sha256.Sum256([]byte(id))
		c.identity = hex.EncodeToString(sum[:8])
	}
	p.database = c.identity
	if c.cfg.Only == "" {
		return nil
	}
	err := admin.New(c.db.Main).RequireShard(ctx, c.cfg.Only)
	if errors.Is(err, store.ErrNoShard) {
		p.misconfigured = err.Error()
		return nil
	}
	return err
}

// setDatabase shows the other replicas which database this one works on.
func (c *Controller) setDatabase(database string) {
	if c.database == database {
		return
	}
	c.database = database
	c.membership.Set(func(p *election.Presence) { p.DatabaseID = database })
}

// cannotTakePart says why this replica must not lead beside the others, whatever its role
// is; empty if it may.
func (c *Controller) cannotTakePart() string {
	if err := c.view.CheckFormat(); err != nil {
		return err.Error()
	}
	if err := c.membership.Err(); errors.Is(err, election.ErrNameTaken) {
		return err.Error()
	}
	if c.misconfigured != "" {
		return c.misconfigured
	}
	return otherScope(c.view, c.database, c.cfg.Only)
}

// setRefused changes why this replica must not take part, and announces that.
func (c *Controller) setRefused(why string) {
	c.mu.Lock()
	changed := c.refused != why
	c.refused = why
	c.mu.Unlock()
	if !changed {
		return
	}
	if why != "" {
		c.log.Error("this replica does not lead any shard", "reason", why)
	}
	c.announce()
}

// otherScope says why a replica must not lead because another one leads the same database
// with another idea of what belongs to a shard: two such leaders would schedule the
// same hosts side by side. Of two that began at the same time the older term stays.
// It is empty if there is no such leader.
func otherScope(v election.View, database string, only shard.Name) string {
	var mine, theirs int64
	var leader election.Member
	var led shard.Name
	for name, e := range v.Shards {
		other, known := member(v, e.Holder())
		if !known || database == "" || other.DatabaseID != database {
			continue
		}
		revision := e.Candidates[0].Revision
		switch {
		case other.Only == only && (mine == 0 || revision < mine):
			mine = revision
		case other.Only != only && (theirs == 0 || revision < theirs):
			theirs, leader, led = revision, other, name
		}
	}
	if theirs == 0 || mine != 0 && mine < theirs {
		return ""
	}
	return fmt.Sprintf("server %s leads shard %s of the same database %s, and this replica works %s; give all replicas of a database the same setting 'shard', or none", leader.Server, led, scopeText(leader.Only), scopeText(only))
}

func scopeText(only shard.Name) string {
	if only == "" {
		return "without the setting 'shard', so that shards share the database"
	}
	return fmt.Sprintf("with 'shard: %s', which gives the whole of it to that shard", only)
}

// member finds a server among the members of a cluster.
func member(v election.View, server string) (election.Member, bool) {
	for _, m := range v.Servers {
		if m.Server == server {
			return m, true
		}
	}
	return election.Member{}, false
}
