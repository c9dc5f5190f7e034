package scheduler

import "slices"

// roundNamed serves entries that name a host, before any other and by priority
// (Autotest rdb.BatchHostRequest batch_validate_hosts). Of several valid
// requests for one host the first in the queue wins.
func (p *planner) roundNamed() {
	for i := range p.entries {
		e := &p.entries[i]
		if e.entry.Host == 0 || e.reason != nil {
			continue
		}
		num, ok := p.hostNum.get(int64(e.entry.Host))
		if !ok {
			e.reason = p.noSuchHost(e)
			continue
		}
		if codes := p.refuseNamed(e, num); len(codes) > 0 {
			e.reason = p.namedReason(e, num, codes)
			continue
		}
		p.give(e, num, RoundNamed)
	}
}

// refuseNamed returns all reasons that keep a named host from the entry, those that
// do not go away by waiting first. A one-time host (invalid) needs no common ACL
// group; deps are compared with plain labels only.
func (p *planner) refuseNamed(e *pending, num int) []Code {
	var codes []Code
	h := p.hosts[num]
	bit := uint(num)
	if h.Shard != 0 && !p.s.Rules.OnShard {
		codes = append(codes, HostOnShard)
	}
	if len(p.lacking(e, num)) > 0 {
		codes = append(codes, HostLacksLabels)
	}
	if !h.Invalid && !p.sharing(p.requests[e.job.request].acls).has(num) {
		codes = append(codes, HostACL)
	}
	if h.Locked {
		codes = append(codes, HostLocked)
	}
	switch {
	case p.free.Test(bit):
	case p.freeAtStart.Test(bit):
		codes = append(codes, HostTaken)
	case h.Displaced && !h.Leased && !h.ActiveEntry:
		codes = append(codes, HostMoving)
	case h.Leased || h.ActiveEntry || !h.Locked:
		codes = append(codes, HostLeased)
	}
	return codes
}

// lacking returns the required labels that a named host does not carry.
func (p *planner) lacking(e *pending, num int) []int64 {
	var missing []int64
	for _, l := range p.sets.get(p.requests[e.job.request].deps) {
		if !p.labelHosts.get(l).has(num) {
			missing = append(missing, l)
		}
	}
	return missing
}

// roundMinimum gives every suite what its guaranteed minimum still lacks. The
// budget of a suite is shared by its requests, in their order, and shrinks by
// what is asked for, whether or not there was a host (Autotest
// rdb.RequestAccountant.get_min_duts).
func (p *planner) roundMinimum() {
	budget := make(map[JobID]int, len(p.minimums))
	for suite, minimum := range p.minimums {
		budget[suite] = max(0, minimum-p.s.Recorder.Held(suite))
	}
	for i := range p.groups {
		g := &p.groups[i]
		if g.key.suite == 0 {
			continue
		}
		n := min(len(g.entries), budget[g.key.suite])
		if n == 0 {
			continue
		}
		budget[g.key.suite] -= n
		g.asked = n
		p.serve(g, n, RoundMinimum)
	}
}

// roundRest gives every request the rest: what it has not asked for yet.
func (p *planner) roundRest() {
	for i := range p.groups {
		g := &p.groups[i]
		if n := len(g.entries) - g.asked; n > 0 {
			g.asked += n
			p.serve(g, n, RoundRest)
		}
	}
}

// serve assigns up to n hosts to the entries of a group in queue order. Hosts with
// the most preferred labels come first, then lower numbers.
func (p *planner) serve(g *group, n int, round Round) {
	free := p.stillFree(g.match)
	if len(free) == 0 {
		return
	}
	p.carried = p.carried[:0]
	for _, l := range p.sets.get(g.key.preferred) {
		if set := p.labelHosts.get(l); set != nil {
			p.carried = append(p.carried, set)
		}
	}
	if len(p.carried) == 0 {
		p.serveFrom(free, g, n, round)
		return
	}
	p.servePreferred(free, g, n, round)
}

// servePreferred first assigns the hosts that carry all preferred labels, in their
// order, and only then considers those that carry fewer.
func (p *planner) servePreferred(free []int32, g *group, n int, round Round) {
	most := len(p.carried)
	for len(p.tiers) < most {
		p.tiers = append(p.tiers, nil)
	}
	tiers := p.tiers[:most] // hosts by how many preferred labels they carry
	for i := range tiers {
		tiers[i] = tiers[i][:0]
	}
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
		if p.giveNext(g, num, round) {
			if n--; n == 0 {
				return
			}
		}
	}
	for count := most - 1; count >= 0 && n > 0; count-- {
		n -= p.serveFrom(tiers[count], g, n, round)
	}
}

// serveFrom assigns up to n hosts of a list, in order, and returns how many.
func (p *planner) serveFrom(list []int32, g *group, n int, round Round) int {
	given := 0
	for _, num := range list {
		if given == n {
			break
		}
		if p.giveNext(g, num, round) {
			given++
		}
	}
	return given
}

// giveNext assigns a host to the group's next entry that may have it, if there is
// one.
func (p *planner) giveNext(g *group, num int32, round Round) bool {
	e := p.nextFor(g, int(num))
	if e == nil {
		return false
	}
	p.give(e, int(num), round)
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
