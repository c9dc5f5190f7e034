package scheduler

import "slices"

// roundRest is round 2. It serves the entries for which round 1 did not try to find a
// host.
func (p *planner) roundRest() {
	for i := range p.groups {
		g := &p.groups[i]
		if n := len(g.entries) - g.asked; n > 0 {
			g.asked += n
			p.serve(g, n, RoundRest)
		}
	}
}

// serve serves up to n entries of a group in queue order. Hosts that carry more of the
// preferred labels come first, and among equal ones those with lower numbers.
func (p *planner) serve(g *group, n int, round Round) {
	if p.matcher != nil {
		p.serveOptimal(g, n, round)
		return
	}
	p.serveExact(g, n, round)
}

// serveExact assigns up to n of the free hosts to the entries of a group.
func (p *planner) serveExact(g *group, n int, round Round) {
	free := p.stillFree(g.match)
	if len(free) == 0 {
		return
	}
	if len(p.carriersOf(g.key.preferred)) == 0 {
		p.serveFrom(free, g, n, round)
		return
	}
	p.servePreferred(free, g, n, round)
}

// carriersOf returns the hosts of each preferred label that any host carries. They are
// also in p.carried, until the next call.
func (p *planner) carriersOf(preferred setID) []*hostSet {
	p.carried = p.carried[:0]
	for _, l := range p.sets.get(preferred) {
		if set := p.carriers(LabelID(l)); set != nil {
			p.carried = append(p.carried, set)
		}
	}
	return p.carried
}

// tiersFor returns n empty lists of hosts. They are valid until the next call.
func (p *planner) tiersFor(n int) [][]int32 {
	for len(p.tiers) < n {
		p.tiers = append(p.tiers, nil)
	}
	for i := range p.tiers[:n] {
		p.tiers[i] = p.tiers[i][:0]
	}
	return p.tiers[:n]
}

// servePreferred first assigns the hosts that carry all preferred labels. It assigns
// hosts that carry fewer of them only if those are not enough.
func (p *planner) servePreferred(free []int32, g *group, n int, round Round) {
	most := len(p.carried)
	tiers := p.tiersFor(most) // hosts, by how many preferred labels they carry
	for _, num := range free {
		count := 0
		for _, set := range p.carried {
			if set.has(int(num)) {
				count++
			}
		}
		if count < most {
			tiers[count] = append(tiers[count], num)
			continue
		}
		if p.assignNext(g, num, round) {
			if n--; n == 0 {
				return
			}
		}
	}
	for count := most - 1; count >= 0 && n > 0; count-- {
		n -= p.serveFrom(tiers[count], g, n, round)
	}
}

// serveFrom assigns up to n hosts of a list in its order. It returns how many it assigned.
func (p *planner) serveFrom(list []int32, g *group, n int, round Round) int {
	assigned := 0
	for _, num := range list {
		if assigned == n {
			break
		}
		if p.assignNext(g, num, round) {
			assigned++
		}
	}
	return assigned
}

// assignNext assigns a host to the group's next entry that may have it. It returns false if
// there is no such entry.
func (p *planner) assignNext(g *group, num int32, round Round) bool {
	e := p.nextFor(g, int(num))
	if e == nil {
		return false
	}
	p.assign(e, int(num), round)
	return true
}

// nextFor finds the group's first entry in queue order that has no host yet and
// whose job does not already have this one: (job, host) is unique in
// afe_host_queue_entries.
func (p *planner) nextFor(g *group, host int) *pending {
	for g.next < len(g.entries) && p.entries[g.entries[g.next]].host >= 0 {
		g.next++
	}
	var refused JobID
	for _, i := range g.entries[g.next:] {
		e := &p.entries[i]
		if e.host >= 0 || e.job.ID == refused {
			continue
		}
		if !slices.Contains(e.job.held, p.hosts[host].ID) {
			return e
		}
		refused = e.job.ID
	}
	return nil
}
