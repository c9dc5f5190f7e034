package cluster

import (
	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/peers"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
)

// Wake makes the leader of a shard tick at once, wherever it is, because there is something
// to do: all there is to do are the given new entries, or anything if none are given. It
// does not block. If the leader does not hear it, its next tick finds what there is.
func (c *Controller) Wake(name shard.Name, entries ...int64) {
	if c.wakeOwn(name, entries) {
		return
	}
	c.mu.Lock()
	url := c.leaders[name]
	c.mu.Unlock()
	if url != "" {
		c.waker.Tell(url, peers.Wake{Shard: name.String(), Entries: entries})
	}
}

// Woken answers a wake from another replica. It is not passed on: whoever leads by now has
// begun by looking at everything.
func (c *Controller) Woken(w peers.Wake) { c.wakeOwn(shard.Name(w.Shard), w.Entries) }

// wakeOwn wakes this replica if it leads the shard.
func (c *Controller) wakeOwn(name shard.Name, entries []int64) bool {
	c.mu.Lock()
	s := c.runners[name]
	c.mu.Unlock()
	if s == nil {
		return false
	}
	r := s.served()
	if r == nil || !r.Leads() {
		return false
	}
	ids := make([]scheduler.EntryID, len(entries))
	for i, id := range entries {
		ids[i] = scheduler.EntryID(id)
	}
	r.Wake(ids...)
	return true
}

// leadersOf returns where those answer who lead the shards.
func leadersOf(v election.View) map[shard.Name]string {
	urls := make(map[string]string, len(v.Servers))
	for _, m := range v.Servers {
		if m.Address != "" {
			urls[m.Holder] = m.URL()
		}
	}
	leaders := make(map[shard.Name]string, len(v.Shards))
	for name, elected := range v.Shards {
		if len(elected.Candidates) > 0 {
			leaders[name] = urls[elected.Candidates[0].Holder]
		}
	}
	return leaders
}

// cannotWake says that the leader of a shard was not told something. It is no error: the
// leader looks by itself several times a second.
func (c *Controller) cannotWake(err error) {
	c.faults.Warn("cannot wake the leader of a shard; it finds what there is at its next tick", "error", err)
}
