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
		p.promise(g, g.chosen, n, round, anyJob)
		return
	case round == RoundMinimum && n < len(g.entries):
		n -= p.promise(g, g.entries, n, round, func(job *jobInfo) bool { return !g.mixed || len(p.refusedHosts(g.match, job)) == 0 })
	}
	p.promise(g, g.entries, n, round, anyJob)
}

func anyJob(*jobInfo) bool { return true }

// promise promises a host to up to n of the entries of a group whose jobs are wanted. It
// returns to how many.
func (p *planner) promise(g *group, entries []int32, n int, round Round, wanted func(*jobInfo) bool) int {
	promises := 0
	if p.exhausted(g.match) {
		return promises
	}
	for _, at := range entries {
		if promises == n {
			break
		}
		e := &p.entries[at]
		if e.host == promised || g.mixed && !p.mayServe(g, e.job) {
			continue
		}
		switch {
		case wanted(e.job) && p.matcher.serve(p.demandOf(g, e.job)):
			e.host, e.round = promised, round
			promises++
		case !g.mixed:
			return promises // the others have the same demand
		}
	}
	return promises
}

// exhausted tells whether no host of a match can be promised to anybody who has none yet. If so,
// its hosts need not be ranked.
func (p *planner) exhausted(m *match) bool {
	for ; m.open < len(m.eligible); m.open++ {
		num := m.eligible[m.open]
		if p.free.Test(uint(num)) && !p.matcher.isClosed(num) {
			return false
		}
	}
	return true
}

// mayServe tells whether one of the hosts of a group may still be promised to a job. If not,
// the job needs no demand.
func (p *planner) mayServe(g *group, job *jobInfo) bool {
	return p.matcher.mayServe(p.rankedOf(g), func(num int32) bool { return slices.Contains(job.held, p.hosts[num].ID) })
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
				p.give(e, p.matcher.nextHeld(p.demandOf(g, e.job)), e.round)
			}
		}
	}
}

// demandOf returns the demand of the entries of a job. It is that of all jobs of the group which
// had no host that the group could get.
func (p *planner) demandOf(g *group, job *jobInfo) *demand {
	if !g.mixed {
		return &p.rankedOf(g).whole
	}
	if job.demand == nil {
		job.demand = p.demand(g, p.refusals.intern(p.refusedHosts(g.match, job)))
	}
	return job.demand
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
	l := p.rankedOf(g)
	if refused == 0 {
		return &l.whole
	}
	key := demandKey{l, refused}
	if d := p.demandsBy[key]; d != nil {
		return d
	}
	d := p.demands.next()
	*d = demand{ranked: l, refused: p.refusals.get(refused), first: noHost}
	p.demandsBy[key] = d
	return d
}

// demandKey tells demands apart that may not have all hosts of a list.
type demandKey struct {
	ranked  *ranked
	refused setID
}

// rankedKey tells lists of hosts apart.
type rankedKey struct {
	match     *match
	preferred setID
}

// rankedOf returns the hosts that entries of a group may get. It finds them at the first call.
func (p *planner) rankedOf(g *group) *ranked {
	if g.ranked != nil {
		return g.ranked
	}
	key := rankedKey{g.match, g.key.preferred}
	g.ranked = p.rankedBy[key]
	if g.ranked == nil {
		l := p.rankeds.next()
		l.hosts = p.lists.copyWithin(g.match.eligible, p.free)
		l.ends = p.sortByPreferred(l.hosts, g.key.preferred)
		l.whole = demand{ranked: l, first: noHost}
		p.rankedBy[key], g.ranked = l, l
	}
	if g.mixed {
		g.ranked.share()
	}
	return g.ranked
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
