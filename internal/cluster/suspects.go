package cluster

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/certs"
	"github.com/hostsched/hostsched/internal/peers"
	"github.com/hostsched/hostsched/internal/suspicion"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

// The times of suspicion.
const (
	// suspectInterval is how often contacts are looked at although nothing happened.
	suspectInterval = 50 * time.Millisecond
	// revokeTimeout bounds the revocation of a dead replica's leases, before which the
	// verdict is shown. If it fails, it is tried again after as long.
	revokeTimeout = election.ShowFirst + time.Second
	// rememberDead is how long it is known why a process died, so that its
	// successors can write it into the history of their terms.
	rememberDead = time.Minute
	// needlessFor is how long a needless takeover makes the others more patient.
	needlessFor = 30 * time.Minute
)

// lostDatabase is why a leader's term ended that could not write so itself.
const lostDatabase = "lost the database"

// suspects is what a replica knows of dead processes. Only the goroutine of the loop
// uses it, except for watcher.
type suspects struct {
	watcher *peers.Watcher
	// said and cameBack are what the others were told last.
	said, cameBack map[string]election.Suspicion
	// lease is the latest lease of this replica's own key as a member.
	lease int64
	// dead are the processes that were condemned, those too that came back: their terms
	// ended for it.
	dead map[string]*death
	// needless are the times at which this process lost its leases although it lived.
	needless []time.Time
	accused  bool
	// blind is true if the others were told that this replica has lost the database.
	blind bool
}

// death is why and when a process was condemned.
type death struct {
	election.Suspicion
	at      time.Time
	revoked time.Time
	// back is the latest lease under which the process came back, 0 if it did not.
	back int64
}

func newSuspects(keeper *certs.Keeper, changed func()) *suspects {
	return &suspects{watcher: peers.NewWatcher(keeper, changed), said: map[string]election.Suspicion{}, dead: map[string]*death{}}
}

// follow listens to the members of a view, and acquits whoever got new leases after it
// was condemned: only a living process does.
func (s *suspects) follow(v election.View, self string) {
	var all []peers.Peer
	for _, m := range v.Servers {
		if m.Holder == self {
			s.lease = m.Lease
		}
		if m.Holder == "" || m.Holder == self || m.Address == "" {
			continue
		}
		all = append(all, peers.Peer{Holder: m.Holder, URL: m.URL()})
		if d := s.dead[m.Holder]; d != nil && d.Lease != m.Lease && d.back != m.Lease {
			d.back = m.Lease
			s.watcher.Forget(m.Holder)
		}
	}
	s.watcher.Follow(all)
}

// condemned is the death of a process under its present lease, nil if it was not condemned.
func (s *suspects) condemned(m election.Member) *death {
	if d := s.dead[m.Holder]; d != nil && d.Lease == m.Lease {
		return d
	}
	return nil
}

// judge returns what this replica thinks of the others, by the name of the process, and
// what it thought of those that came back. The dead are remembered after their keys are gone.
func (s *suspects) judge(v election.View, now time.Time) (out, cameBack map[string]election.Suspicion) {
	maps.DeleteFunc(s.dead, func(_ string, d *death) bool { return now.Sub(d.at) > rememberDead })
	out, cameBack = map[string]election.Suspicion{}, map[string]election.Suspicion{}
	contacts := s.watcher.Contacts()
	for _, m := range v.Servers {
		contact, followed := contacts[m.Holder]
		if !followed {
			continue
		}
		contact.Needless = m.Needless
		if verdict := suspicion.Judge(contact); verdict != suspicion.Alive {
			out[m.Holder] = election.Suspicion{Why: string(verdict), Lease: m.Lease}
		}
	}
	for holder, d := range s.dead {
		if d.back != 0 {
			cameBack[holder] = d.Suspicion
			continue
		}
		out[holder] = d.Suspicion
	}
	return out, cameBack
}

// suspect tells the others whom this replica takes for dead, and revokes the leases of
// those of whom enough replicas think so.
func (c *Controller) suspect(ctx context.Context, now time.Time) {
	if lost := c.probe.lost(now) != ""; lost != c.suspects.blind {
		c.suspects.blind = lost
		c.announce()
	}
	if !c.seen {
		return
	}
	said, cameBack := c.suspects.judge(c.view, now)
	if !maps.Equal(said, c.suspects.said) || !maps.Equal(cameBack, c.suspects.cameBack) {
		c.suspects.said, c.suspects.cameBack = said, cameBack
		c.tell()
	}
	for _, m := range c.view.Servers {
		if m.Holder != "" && m.Holder != c.cfg.Replica.Holder {
			c.condemn(ctx, m, now)
		}
	}
	c.answerAccusation(now)
}

// voters returns what all replicas but one say of that one under its present lease, and
// whether they could lead in its place. That a replica is in the view means that it
// reaches etcd.
func (c *Controller) voters(suspect election.Member) []suspicion.Voter {
	var out []suspicion.Voter
	for _, m := range c.view.Servers {
		if m.Holder == suspect.Holder || m.Holder == "" {
			continue
		}
		about := m.Suspects[suspect.Holder]
		if m.Holder == c.cfg.Replica.Holder {
			about = c.suspects.said[suspect.Holder]
		}
		v := suspicion.Voter{MayLead: m.MayLead(), SameShards: m.Only == suspect.Only, ReachesLab: m.Database == ""}
		if about.Lease == suspect.Lease {
			v.Says = suspicion.Verdict(about.Why)
		}
		out = append(out, v)
	}
	return out
}

// condemn revokes the leases of a process if enough replicas take it for dead.
func (c *Controller) condemn(ctx context.Context, m election.Member, now time.Time) {
	verdict := suspicion.Condemn(c.voters(m))
	if verdict == suspicion.Alive {
		return
	}
	d := c.suspects.condemned(m)
	if d == nil {
		d = &death{Suspicion: election.Suspicion{Why: string(verdict), Lease: m.Lease}, at: now}
		c.suspects.dead[m.Holder] = d
		c.log.Warn("a replica is dead; its shards go to others at once", "replica", m.Holder, "reason", verdict)
		c.cfg.condemned(string(verdict))
	}
	if now.Sub(d.revoked) < revokeTimeout {
		return
	}
	d.revoked = now
	view := c.view
	c.background.Go(func() {
		bound, cancel := context.WithTimeout(ctx, revokeTimeout)
		defer cancel()
		if err := c.membership.Revoke(bound, view, m.Holder); err != nil && ctx.Err() == nil {
			c.log.Warn("cannot revoke the leases of a dead replica; trying again", "replica", m.Holder, "error", err)
		}
	})
}

// answerAccusation notices that the others took this process for dead. If it did not
// stand still, that was needless, and they are asked for more patience.
func (c *Controller) answerAccusation(now time.Time) {
	if s := c.suspects; len(s.needless) > 0 && now.Sub(s.needless[0]) > needlessFor {
		s.needless = s.needless[1:]
		c.tell()
	}
	self := election.Member{Presence: election.Presence{Holder: c.cfg.Replica.Holder, Only: c.cfg.Only}, Lease: c.suspects.lease}
	verdict := suspicion.Condemn(c.voters(self))
	accused := verdict != suspicion.Alive
	if accused && !c.suspects.accused {
		stood := now.Sub(c.suspects.watcher.StoodStill()) < time.Duration(2*suspicion.Patience(len(c.suspects.needless)))*time.Millisecond
		c.log.Warn("the other replicas took this one for dead", "reason", verdict, "stood still", stood)
		if !stood {
			c.suspects.needless = append(c.suspects.needless, now)
			c.cfg.needless()
			c.tell()
		}
	}
	c.suspects.accused = accused
}

// tell announces whom this replica takes for dead, and how patient the others should
// be with it.
func (c *Controller) tell() {
	c.mu.Lock()
	c.told, c.cameBack, c.needless = c.suspects.said, c.suspects.cameBack, len(c.suspects.needless)
	c.mu.Unlock()
	c.announce()
}

// deaths says why processes died, or why they hand their shards over without being able
// to say so in the database, by name and as far as any replica knows. Successors write it
// into the history of the shard, which has a database of its own or not.
func (c *Controller) deaths(name shard.Name, own bool) map[string]store.Death {
	c.mu.Lock()
	defer c.mu.Unlock()
	lost := func(m election.Member) bool { return m.Database != "" }
	if own {
		lost = func(m election.Member) bool { return slices.Contains(m.Lost, name) }
	}
	return deathsKnown(lost, c.members, election.Presence{Suspects: c.told, CameBack: c.cameBack})
}

// deathsKnown derives the deaths from what the members of the cluster say, and from what
// this replica told them last, which its own key may not say yet; lost tells which of them do
// not reach the shard's database. A process that came back under another lease died only as
// far as its terms before that are concerned.
func deathsKnown(lost func(election.Member) bool, members []election.Member, told election.Presence) map[string]store.Death {
	present := map[string]election.Member{}
	for _, m := range members {
		present[m.Holder] = m
	}
	known := map[string]store.Death{}
	add := func(said map[string]election.Suspicion) {
		for holder, about := range said {
			if v := suspicion.Verdict(about.Why); v != suspicion.Crashed && v != suspicion.Silent {
				continue
			}
			d := store.Death{Why: about.Why}
			if m, back := present[holder]; back && m.Lease != about.Lease {
				d.Before = m.Revision
			}
			if former, ok := known[holder]; !ok || former.Before != 0 {
				known[holder] = d
			}
		}
	}
	for _, m := range append([]election.Member{{Presence: told}}, members...) {
		add(m.Suspects)
		add(m.CameBack)
	}
	for _, m := range members {
		if lost(m) {
			known[m.Holder] = store.Death{Why: lostDatabase}
		}
	}
	return known
}
