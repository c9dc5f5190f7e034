package cluster

import (
	"time"
)

// unheardAfter is how long a replica is not heard until that is worth saying. One that has
// just been started, or is ending, is not heard for a moment.
const unheardAfter = 3 * time.Second

// unheardPeer is a replica whose heartbeats this one does not hear.
type unheardPeer struct {
	since time.Time
	why   string
}

// noteUnheard keeps whose heartbeats are not heard, so that only the lease tells the end of
// that replica, and says it in the log.
func (c *Controller) noteUnheard(now time.Time) {
	faults := c.suspects.watcher.Unheard()
	before := c.unheard
	all := map[string]unheardPeer{}
	for _, m := range c.view.Servers {
		why, unheard := faults[m.Holder]
		if !unheard || c.suspects.condemned(m) != nil {
			continue
		}
		since := now
		if former, known := before[m.Server]; known {
			since = former.since
		}
		all[m.Server] = unheardPeer{since, why}
		if now.Sub(since) >= unheardAfter {
			c.faults.Warn("the heartbeats of a replica are not heard; only its lease tells its end", "replica", m.Holder, "reason", why)
		}
	}
	c.mu.Lock()
	c.unheard = all
	c.mu.Unlock()
}

// Unheard returns the servers whose heartbeats this replica does not hear, with the reason.
// If such a one dies, this replica knows it from its lease only.
func (c *Controller) Unheard() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]string{}
	for server, u := range c.unheard {
		if time.Since(u.since) >= unheardAfter {
			out[server] = u.why
		}
	}
	return out
}
