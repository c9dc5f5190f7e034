package scheduler

import (
	"slices"

	"github.com/bits-and-blooms/bitset"
)

// roundNamed serves entries that name a host, before any other and by priority
// (Autotest rdb.BatchHostRequest batch_validate_hosts). Of several valid
// requests for one host the first in the queue wins.
func (p *planner) roundNamed() {
	for i := range p.entries {
		e := &p.entries[i]
		if e.entry.Host == 0 || e.reason != nil {
			continue
		}
		num, ok := p.hostNum[e.entry.Host]
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

// refuseNamed says everything that keeps a named host from the entry, what is
// lasting first. A one-time host (invalid) needs no common ACL group; deps are
// compared with plain labels only.
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
	if !h.Invalid && !p.sharing(e.job.key.acls).Test(bit) {
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
	for _, l := range p.sets.get(e.job.key.deps) {
		if set := p.labelHosts[LabelID(l)]; set == nil || !set.Test(uint(num)) {
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
	for _, g := range p.groups {
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
	for _, g := range p.groups {
		if n := len(g.entries) - g.asked; n > 0 {
			g.asked += n
			p.serve(g, n, RoundRest)
		}
	}
}

// serve gives up to n hosts to the entries of a group in queue order: hosts
// with most preferred labels first, then by number.
func (p *planner) serve(g *group, n int, round Round) {
	if g.match.eligible.IntersectionCardinality(p.free) == 0 {
		return
	}
	candidates := g.match.eligible.Intersection(p.free)
	for _, tier := range p.tiers(candidates, p.sets.get(g.key.preferred)) {
		n -= p.serveFrom(tier, g, n, round)
		if n == 0 {
			return
		}
	}
}

// tiers splits the candidates by how many preferred labels they carry, most
// first.
func (p *planner) tiers(candidates *bitset.BitSet, preferred []int64) []*bitset.BitSet {
	tiers := []*bitset.BitSet{candidates}
	for _, l := range preferred {
		set := p.labelHosts[LabelID(l)]
		if set == nil {
			continue
		}
		// Every tier k splits into those with the label, which move up to tier
		// k+1, and those without.
		next := make([]*bitset.BitSet, len(tiers)+1)
		for k, tier := range tiers {
			next[k+1] = tier.Intersection(set)
			without := tier.Difference(set)
			if k > 0 {
				without.InPlaceUnion(next[k])
			}
			next[k] = without
		}
		tiers = next
	}
	slices.Reverse(tiers)
	return tiers
}

// serveFrom gives hosts of one tier away and returns how many.
func (p *planner) serveFrom(tier *bitset.BitSet, g *group, n int, round Round) int {
	given := 0
	for bit, ok := tier.NextSet(0); ok && given < n; bit, ok = tier.NextSet(bit + 1) {
		e := p.nextFor(g, int(bit))
		if e == nil {
			continue
		}
		p.give(e, int(bit), round)
		given++
	}
	return given
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
