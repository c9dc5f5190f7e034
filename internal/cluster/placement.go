package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/shard"
)

// saw makes the controller follow a view of etcd.
func (c *Controller) saw(v election.View) {
	c.view, c.seen = v, true
	c.mu.Lock()
	c.members, c.elected = v.Servers, v.Shards
	c.forgetLastWrites(v)
	c.leaders = leadersOf(v)
	for name, elected := range v.Shards {
		if s := c.runners[name]; s != nil && len(elected.Candidates) > 0 {
			s.sawEpoch(elected.Candidates[0].Epoch)
		}
	}
	close(c.sawView)
	c.sawView = make(chan struct{})
	c.mu.Unlock()
	c.suspects.follow(v, c.cfg.Replica.Holder)
	arrivals := make(map[int64]time.Time, len(v.Servers))
	for _, a := range v.Servers {
		at, known := c.arrivals[a.Lease]
		if !known {
			at = time.Now()
		}
		arrivals[a.Lease] = at
	}
	c.arrivals = arrivals
	if !slices.ContainsFunc(v.Servers, func(a election.Member) bool { return a.Server == c.cfg.Server }) {
		// Another process with this server's name deleted the key when it ended.
		c.announce()
	}
}

// awaitWin waits, at most for so long as others waited to be seen, until the view has that
// this replica won a shard: a campaign follows etcd by itself, and may be ahead of the view.
// What others said of the former leader before its key went is in such a view.
func (c *Controller) awaitWin(ctx context.Context, name shard.Name, token int64) {
	ctx, cancel := context.WithTimeout(ctx, election.ShowFirst)
	defer cancel()
	for {
		c.mu.Lock()
		candidates, next := c.elected[name].Candidates, c.sawView
		c.mu.Unlock()
		if len(candidates) > 0 && candidates[0].Revision >= token {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-next:
		}
	}
}

// decide starts and stops campaigns so that this replica campaigns for the shards
// that it should lead, and for no others.
func (c *Controller) decide(ctx context.Context) {
	now := time.Now()
	c.forgetFailures(now)
	may, why := c.mayLead()
	runners := c.sorted()
	should := map[shard.Name]string{}
	servers := c.servers(now)
	if c.seen {
		should = shard.Place(servers, c.leaderships(runners))
	}
	c.noteLost(runners, now)
	for _, s := range runners {
		lost := s.lost(now)
		if lost != "" && s.dsn != "" && c.avoided(s.name) == "" {
			c.noteFailure(s.name, errors.New(lost))
		}
		heir := may && c.seen && shard.Heir(servers, c.leadership(s.name)) == c.cfg.Server
		orphaned := c.orphaned(s.name, now)
		mine := should[s.name] == c.cfg.Server || orphaned
		switch {
		case !may:
			s.stop(fmt.Errorf("%w: %s", replica.ErrHandOver, why))
		case lost != "" && !s.leading():
			// It could not take the shard over, and would keep others from it meanwhile.
			s.stop(fmt.Errorf("%w: %s", replica.ErrDatabaseLost, lost))
		case mine:
			s.start(ctx)
		case s.leading() || c.view.Shards[s.name].Holder() == c.cfg.Server: // the latter while it takes the shard over
			switch next := should[s.name]; {
			case !c.isNext(s.name, next):
			case lost != "":
				s.stop(fmt.Errorf("%w to %s: %s", replica.ErrDatabaseLost, next, lost))
			default:
				s.stop(fmt.Errorf("%w to %s: %s", replica.ErrHandOver, next, c.whyMove(s.name, next)))
			}
		default:
			s.stop(fmt.Errorf("%w: %s should lead", replica.ErrHandOver, should[s.name]))
		}
		s.standBy(ctx, heir)
	}
	c.explain(runners, should, now)
}

// noteLost tells the others which shards have a database of their own that this replica
// does not reach. The main database is the business of suspect.
func (c *Controller) noteLost(runners []*shardRunner, now time.Time) {
	var lost []shard.Name
	for _, s := range runners {
		if s.dsn != "" && s.lost(now) != "" {
			lost = append(lost, s.name)
		}
	}
	c.mu.Lock()
	changed := !slices.Equal(c.lost, lost)
	c.lost = lost
	c.mu.Unlock()
	if changed {
		c.announce()
	}
}

// whyMove says why another server should lead a shard that this one leads.
func (c *Controller) whyMove(name shard.Name, next string) string {
	elected := c.view.Shards[name]
	if elected.Wanted == next {
		return strings.TrimSuffix("switchover requested: "+elected.WantedWhy, ": ")
	}
	role := func(server string) string {
		i := slices.IndexFunc(c.view.Servers, func(m election.Member) bool { return m.Server == server })
		if i < 0 {
			return election.RoleNone
		}
		return c.view.Servers[i].Role
	}
	if role(c.cfg.Server) == election.RoleBackup && role(next) == election.RolePrimary {
		return "it is a primary, and this server is a backup"
	}
	return "placement gives each server its share of the shards"
}

// mayLead tells whether this replica may lead any shard, and if not, why.
func (c *Controller) mayLead() (bool, string) {
	c.setRefused(c.cannotTakePart())
	role, why := c.Role()
	return role != election.RoleNone, why
}

// servers are the members of the cluster that may lead.
func (c *Controller) servers(now time.Time) []shard.Server {
	var out []shard.Server
	for _, a := range c.view.Servers {
		if a.Only != c.cfg.Only {
			continue // it serves another shard
		}
		tier := shard.Primary
		switch a.Role {
		case election.RolePrimary:
		case election.RoleBackup:
			tier = shard.Backup
		default:
			continue
		}
		s := shard.Server{
			Name: a.Server, Tier: tier, Weight: a.Weight, Avoids: make(map[shard.Name]bool, len(a.Avoids)),
			Established: now.Sub(c.arrivals[a.Lease]) >= c.cfg.HoldOff,
			Lost:        make(map[shard.Name]bool, len(a.Lost)), LostAll: a.Database != "",
		}
		for _, name := range a.Lost {
			s.Lost[name] = true
		}
		for name := range a.Avoids {
			s.Avoids[name] = true
		}
		out = append(out, s)
	}
	return out
}

func (c *Controller) leaderships(runners []*shardRunner) []shard.Leadership {
	out := make([]shard.Leadership, 0, len(runners))
	for _, s := range runners {
		out = append(out, c.leadership(s.name))
	}
	return out
}

func (c *Controller) leadership(name shard.Name) shard.Leadership {
	elected := c.view.Shards[name]
	return shard.Leadership{Shard: name, Holder: elected.Holder(), Wanted: elected.Wanted}
}

// orphaned tells whether the shard has had no candidate for so long that placement
// must be wrong about some server. Any server may campaign for it then.
func (c *Controller) orphaned(name shard.Name, now time.Time) bool {
	if !c.seen || c.view.Shards[name].Holder() != "" {
		delete(c.orphans, name)
		return false
	}
	if c.orphans[name].IsZero() {
		c.orphans[name] = now
	}
	return now.Sub(c.orphans[name]) > orphanAfter
}

// isNext tells whether a server is the first candidate behind this one.
func (c *Controller) isNext(name shard.Name, server string) bool {
	candidates := c.view.Shards[name].Candidates
	return len(candidates) > 1 && candidates[0].Server == c.cfg.Server && candidates[1].Server == server
}
