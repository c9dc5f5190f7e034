package scheduler

import "slices"

// Policy is the way in which hosts are chosen for entries that may get any host.
type Policy string

const (
	// PolicyExact serves one entry after the other, as Autotest does. An entry that gets
	// a host keeps it, even if a later one could use no other. It is what an empty policy
	// means.
	PolicyExact Policy = "exact"
	// PolicyOptimal serves the entries in the same order, but an entry that was served
	// may get another host instead, so that a later one can be served too.
	PolicyOptimal Policy = "optimal"
)

// OrDefault returns the policy that is meant.
func (p Policy) OrDefault() Policy {
	if p == "" {
		return PolicyExact
	}
	return p
}

// promised stands in pending.host for an entry that gets one of the hosts of its demand.
// Which one is known only after all rounds.
const promised = -2

// serveOptimal promises a host to up to n entries of a group. An entry for which there is
// none never gets one later in this plan.
//
// A minimum may be for some entries of the group only. Then those come first that were
// chosen, or else those whose jobs may have any of the hosts, because they leave most to
// other suites. Otherwise the entries are served in queue order.
func (p *planner) serveOptimal(g *group, n int, round Round) {
	switch {
	case round == RoundMinimum && g.chosen != nil:
		p.promise(g, g.chosen, n, round, anyDemand)
		return
	case round == RoundMinimum && n < len(g.entries):
		n -= p.promise(g, g.entries, n, round, func(d *demand) bool { return d.refused == 0 })
	}
	p.promise(g, g.entries, n, round, anyDemand)
}

func anyDemand(*demand) bool { return true }

// promise promises a host to up to n of the entries of a group whose demands are wanted. It
// returns to how many.
func (p *planner) promise(g *group, entries []int32, n int, round Round, wanted func(*demand) bool) int {
	promises := 0
	for _, at := range entries {
		if promises == n {
			break
		}
		e := &p.entries[at]
		if e.host == promised {
			continue
		}
		switch d := p.demandOf(g, e); {
		case wanted(d) && p.matcher.serve(d):
			e.host, e.round = promised, round
			promises++
		case !g.mixed:
			return promises // the others have the same demand
		}
	}
	return promises
}

// keepPromises assigns the hosts that were promised. Entries of one demand get them in the
// order of the queue, those with most preferred labels first.
func (p *planner) keepPromises() {
	if p.matcher == nil {
		return
	}
	for i := range p.groups {
		g := &p.groups[i]
		for _, n := range g.entries {
			if e := &p.entries[n]; e.host == promised {
				p.give(e, p.matcher.nextHeld(p.demandOf(g, e)), e.round)
			}
		}
	}
}

// demandOf returns the demand of an entry. It is that of the entry's group, unless the job
// already has a host that the group could get. All entries of a job have the same.
func (p *planner) demandOf(g *group, e *pending) *demand {
	if !g.mixed {
		if g.demand == nil {
			g.demand = p.demand(g, 0)
		}
		return g.demand
	}
	if e.job.demand == nil {
		e.job.demand = p.demand(g, p.refusals.intern(p.refusedHosts(g.match, e.job)))
	}
	return e.job.demand
}

// refusedHosts returns the hosts of a match that the job cannot be assigned because one of
// its entries has, had or names them. The rounds 1 and 2 do not change the result. It is valid
// until the next call.
func (p *planner) refusedHosts(m *match, job *jobInfo) []int64 {
	p.refused = p.refused[:0]
	for _, id := range job.held {
		num, ok := p.hostNum.get(int64(id))
		if !ok || !p.freeAtStart.Test(uint(num)) {
			continue
		}
		if _, eligible := slices.BinarySearch(m.eligible, int32(num)); eligible {
			p.refused = append(p.refused, int64(num))
		}
	}
	return p.refused
}

// demand finds the demand of jobs of a group that are refused some hosts. It creates it if it
// is new.
func (p *planner) demand(g *group, refused setID) *demand {
	key := demandKey{g.match, g.key.preferred, refused}
	if d := p.demandsBy[key]; d != nil {
		return d
	}
	d := p.demands.next()
	d.preferred, d.refused = g.key.preferred, refused
	d.hosts = p.lists.copyWithin(g.match.eligible, p.free)
	if without := p.refusals.get(refused); len(without) > 0 {
		d.hosts = slices.DeleteFunc(d.hosts, func(num int32) bool {
			_, found := slices.BinarySearch(without, int64(num))
			return found
		})
	}
	d.ends = p.sortByPreferred(d.hosts, g.key.preferred)
	p.demandsBy[key] = d
	return d
}

// demandKey tells demands apart.
type demandKey struct {
	match              *match
	preferred, refused setID
}

// sortByPreferred sorts hosts by how many of the preferred labels they lack, and keeps
// the order of equal ones. It returns where the hosts end that lack none, one, and so on.
func (p *planner) sortByPreferred(hosts []int32, preferred setID) (ends []int32) {
	carried := p.carriersOf(preferred)
	ends = p.lists.room(len(carried) + 1)
	tiers := p.tiersFor(len(carried) + 1)
	for _, num := range hosts {
		lacks := len(carried)
		for _, set := range carried {
			if set.has(int(num)) {
				lacks--
			}
		}
		tiers[lacks] = append(tiers[lacks], num)
	}
	n := 0
	for lacks, tier := range tiers {
		n += copy(hosts[n:], tier)
		ends[lacks] = int32(n)
	}
	return ends
}
