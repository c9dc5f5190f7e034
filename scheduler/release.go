package scheduler

// release gives back hosts that are leased, unlocked, Ready (or without
// status), and that no active entry and no incomplete special task uses
// (Autotest HostScheduler._release_hosts), as things stand at the end of this
// tick.
func (p *planner) release() {
	used := make(map[HostID]bool, len(p.plan.Assignments))
	freed := make(map[HostID]bool)
	for i := range p.plan.Assignments {
		a := &p.plan.Assignments[i]
		if a.Status == StatusStopped {
			freed[a.Host] = true
			continue
		}
		used[a.Host] = true
	}
	for _, c := range p.plan.Changes {
		if c.Status == StatusStopped && c.From == StatusPending {
			freed[c.Host] = true
		}
	}
	for _, h := range p.hosts {
		if !p.unused(h, used, freed) {
			continue
		}
		p.plan.Releases = append(p.plan.Releases, Release{Host: h.ID, Hostname: h.Hostname})
	}
}

func (p *planner) unused(h *Host, used, freed map[HostID]bool) bool {
	if h.Locked || h.OpenTask || used[h.ID] {
		return false
	}
	if freed[h.ID] {
		// Its entry was stopped a moment ago: the host is Ready again.
		return true
	}
	return h.Leased && h.Ready && !h.ActiveEntry
}
