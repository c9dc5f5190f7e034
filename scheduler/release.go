package scheduler

import "github.com/bits-and-blooms/bitset"

// release releases the hosts that nobody uses at the end of this tick (Autotest
// HostScheduler._release_hosts). Such a host is leased, not locked, and its status is
// Ready or NULL. No active entry and no incomplete special task uses it.
func (p *planner) release() {
	used, freed := bitset.New(uint(len(p.hosts))), bitset.New(uint(len(p.hosts)))
	mark := func(set *bitset.BitSet, id HostID) {
		if num, ok := p.hostNum.get(int64(id)); ok {
			set.Set(uint(num))
		}
	}
	for i := range p.plan.Assignments {
		a := &p.plan.Assignments[i]
		if a.Status == StatusStopped {
			mark(freed, a.Host)
			continue
		}
		mark(used, a.Host)
	}
	for _, c := range p.plan.Changes {
		if c.Status == StatusStopped && c.From == StatusPending {
			mark(freed, c.Host)
		}
	}
	for num, h := range p.hosts {
		if h.Locked || h.OpenTask || p.contended.hosts[h.ID] || used.Test(uint(num)) {
			continue
		}
		// A host whose entry is stopped by this plan becomes Ready by that.
		if freed.Test(uint(num)) || h.Leased && h.Ready && h.ActiveEntry == 0 {
			p.plan.Releases = append(p.plan.Releases, Release{Host: h.ID, Hostname: h.Hostname})
		}
	}
}
