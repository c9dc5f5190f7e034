package scheduler

// move hands displaced hosts that nobody uses over to their shards. A host in use moves
// in the tick after its release.
func (p *planner) move() {
	leased := make(map[HostID]bool, len(p.plan.Leases))
	for _, l := range p.plan.Leases {
		leased[l.Host] = true
	}
	for _, h := range p.hosts {
		if !h.Displaced || h.Leased || h.ActiveEntry != 0 || h.OpenTask || leased[h.ID] || p.contended.hosts[h.ID] {
			continue
		}
		p.plan.Moves = append(p.plan.Moves, Move{Host: h.ID, Hostname: h.Hostname, To: h.Home})
	}
}
