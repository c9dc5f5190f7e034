package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/shard"
)

// leaderlessAfter is how long nobody leads a shard until that is worth a warning. A
// hand-over is shorter.
const leaderlessAfter = 3 * time.Second

// explain keeps, for every shard, why this replica does not lead it. It is computed
// anew whenever the controller decides, so that no reason outlives its cause.
func (c *Controller) explain(runners []*shardRunner, should map[shard.Name]string, now time.Time) {
	all := make(map[shard.Name]replica.NotLeading, len(runners))
	for _, s := range runners {
		if !s.leading() {
			all[s.name] = c.whyNot(s.name, should[s.name])
		}
	}
	c.warnOfLeaderless(runners, all, now)
	c.noteTroubles(runners, all, now)
	c.mu.Lock()
	c.notLeading = all
	c.mu.Unlock()
	c.warnOfEtcd()
	c.noteUnheard(now)
}

// noteTroubles says of the shards that this replica could lead, or could succeed in, that a
// takeover, or the end of its former term, hangs, or that etcd refuses its campaign.
func (c *Controller) noteTroubles(runners []*shardRunner, all map[shard.Name]replica.NotLeading, now time.Time) {
	for _, s := range runners {
		why, not := all[s.name]
		if !not || !why.Healthy() {
			continue
		}
		if slow := s.slow(now); slow != "" {
			all[s.name] = replica.NotLeading{Reason: replica.TickHangs, Text: slow}
			c.faults.Warn("a replica cannot lead a shard, because it waits for the database", "reason", slow)
			continue
		}
		// A campaign whose key is there waits for its turn, whatever became of the one before.
		if fails := s.campaignFails(); fails != "" && !c.campaigns(s.name) {
			all[s.name] = replica.NotLeading{Reason: replica.WaitingForEtcd, Text: fails}
		}
	}
}

// campaigns tells whether this replica is a candidate of a shard, as far as etcd says.
func (c *Controller) campaigns(name shard.Name) bool {
	return slices.ContainsFunc(c.view.Shards[name].Candidates, func(k election.Candidate) bool { return k.Holder == c.cfg.Replica.Holder })
}

// warnOfEtcd says in the log why the other replicas do not see this one as it is, and
// which keys among those of the candidates are nobody's.
func (c *Controller) warnOfEtcd() {
	if err := c.membership.Err(); err != nil && !errors.Is(err, election.ErrNotYet) {
		c.faults.Warn("the other replicas do not see this one as it is", "error", err)
	}
	for name, elected := range c.view.Shards {
		for _, key := range elected.Ignored {
			c.faults.Warn("etcd has a key that is nobody's among those of a shard's candidates", "shard", name, "reason", key)
		}
	}
}

// whyNot says why this replica does not lead a shard: the first thing that would have
// to change.
func (c *Controller) whyNot(name shard.Name, should string) replica.NotLeading {
	if n, ok := c.cannotLead(); ok {
		return n
	}
	elected := c.view.Shards[name]
	holder := elected.Holder()
	failed := c.avoided(name)
	switch {
	case c.ledByAnother(name) && elected.Candidates[0].Epoch != 0:
		return replica.NotLeading{Reason: replica.AnotherLeads, Text: "server " + holder + " leads"}
	case failed != "":
		return replica.NotLeading{Reason: replica.TakeOverFailed, Text: failed}
	case holder != "" && holder != c.cfg.Server:
		return replica.NotLeading{Reason: replica.AnotherShouldLead, Text: "server " + holder + " is taking the shard over"}
	case holder != "":
		return replica.NotLeading{Reason: replica.Campaigning, Text: "taking the shard over"}
	case should != "" && should != c.cfg.Server:
		return replica.NotLeading{Reason: replica.AnotherShouldLead, Text: "server " + should + " should lead"}
	}
	return replica.NotLeading{Reason: replica.Campaigning, Text: "campaigning"}
}

// ledByAnother tells whether another replica leads a shard, as far as etcd says.
func (c *Controller) ledByAnother(name shard.Name) bool {
	elected := c.view.Shards[name]
	return elected.Holder() != "" && elected.Holder() != c.cfg.Server && elected.Candidates[0].State == election.StateLeader
}

// cannotLead says why this replica cannot lead any shard, if that is so.
func (c *Controller) cannotLead() (replica.NotLeading, bool) {
	err := c.membership.Err()
	may, why := c.mayLead()
	lost := cmp.Or(c.databaseError, c.probe.lost(time.Now()))
	switch {
	case errors.Is(err, election.ErrNotYet):
		return replica.NotLeading{Reason: replica.Starting, Text: err.Error()}, true
	case errors.Is(err, election.ErrNameTaken):
		return replica.NotLeading{Reason: replica.Misconfigured, Text: err.Error()}, true
	case err != nil:
		return replica.NotLeading{Reason: replica.WaitingForEtcd, Text: err.Error()}, true
	case lost != "":
		return replica.NotLeading{Reason: replica.DatabaseAway, Text: lost}, true
	case c.view.CheckFormat() != nil:
		return replica.NotLeading{Reason: replica.OldVersion, Text: why}, true
	case c.misconfigured != "" || c.cannotTakePart() != "":
		return replica.NotLeading{Reason: replica.Misconfigured, Text: why}, true
	case may:
		return replica.NotLeading{}, false
	case why == whyStarting:
		return replica.NotLeading{Reason: replica.Starting, Text: "the database has not been asked for the role of this server yet"}, true
	}
	if nobody := nobodyMayLead(c.view.Servers); nobody != "" {
		return replica.NotLeading{Reason: replica.NoServerMayLead, Text: nobody}, true
	}
	return replica.NotLeading{Reason: replica.NoRole, Text: why}, true
}

// Reaches tells whether etcd knows this replica, and whether the main database answers it.
func (c *Controller) Reaches() (etcd, database bool) {
	err := c.membership.Err()
	return err == nil || errors.Is(err, election.ErrNameTaken), c.probe.lost(time.Now()) == ""
}

// nobodyMayLead says that none of the servers may lead, with the reason of each. It is
// empty if one may, or does not know yet.
func nobodyMayLead(servers []election.Member) string {
	if slices.ContainsFunc(servers, func(m election.Member) bool { return m.Role != election.RoleNone || m.Why == whyStarting }) {
		return ""
	}
	var each []string
	for _, m := range servers {
		each = append(each, m.Why)
	}
	slices.Sort(each)
	return fmt.Sprintf("none of the %d running servers may lead: %s; give one the role with 'hostsched server role'", len(servers), strings.Join(slices.Compact(each), "; "))
}

// warnOfLeaderless says in the log which shards nobody leads, and why this replica
// does not.
func (c *Controller) warnOfLeaderless(runners []*shardRunner, all map[shard.Name]replica.NotLeading, now time.Time) {
	since := make(map[shard.Name]time.Time, len(all))
	for _, s := range runners {
		why, not := all[s.name]
		// Without etcd, nobody knows whether that one still leads.
		if !not || c.ledByAnother(s.name) && why.Reason != replica.WaitingForEtcd {
			continue
		}
		at, known := c.leaderless[s.name]
		if !known {
			at = now
		}
		since[s.name] = at
		if now.Sub(at) < leaderlessAfter {
			continue
		}
		if why.Reason == replica.NoServerMayLead {
			c.faults.Warn("no server may lead any shard", "reason", why.Text)
			continue
		}
		c.faults.Warn("nobody leads a shard; why this replica does not", "shard", s.name, "reason", why.Reason, "text", why.Text)
	}
	if len(since) == 0 && len(c.leaderless) > 0 {
		c.faults.Over()
	}
	c.leaderless = since
}

// whyNotLeading returns why this replica does not lead a shard.
func (c *Controller) whyNotLeading(name shard.Name) replica.NotLeading {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why == whyStopping {
		return replica.NotLeading{Reason: replica.Stopping, Text: "this replica is shutting down"}
	}
	if n, known := c.notLeading[name]; known {
		return n
	}
	return replica.NotLeading{Reason: replica.Starting, Text: "this replica has not looked at the shard yet"}
}

// NotLeading returns why this replica does not lead the shards that it does not lead,
// those that nobody can serve included.
func (c *Controller) NotLeading() map[shard.Name]replica.NotLeading {
	out := map[shard.Name]replica.NotLeading{}
	for _, st := range c.Status() {
		if st.NotLeading != nil {
			out[st.Shard] = *st.NotLeading
		}
	}
	for name, why := range c.NotServed() {
		out[name] = replica.NotLeading{Reason: replica.ShardIsNotServed, Text: why}
	}
	return out
}
