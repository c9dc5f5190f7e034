package scheduler

// assignable decides whether a host may be assigned in this tick. A host that is
// leased, in use, locked, draining, contended or about to move to another shard may not be, nor one
// whose agent takes nothing. No round sees such a host, because numberHosts leaves it out of planner.free.
func (p *planner) assignable(h *Host) bool { return p.outcomeAtStart(h) == outcomeFree }

// hostOutcome is what became of a host in this tick.
type hostOutcome int8

const (
	outcomeFree hostOutcome = iota
	outcomeLeased
	outcomeLocked
	outcomeDraining
	outcomeAway
	outcomeContended
	outcomeMoving
	outcomeTask
	outcomeTaken
	outcomeKinds
)

// outcomeAtStart is what keeps a host from being assigned from the start of the tick,
// and outcomeFree if nothing does.
func (p *planner) outcomeAtStart(h *Host) hostOutcome {
	switch {
	// A host with an active entry is never assigned, even if somebody cleared its
	// lease by hand. The original trusts the lease alone.
	case h.Leased || h.ActiveEntry != 0:
		return outcomeLeased
	case h.Locked:
		return outcomeLocked
	case p.drains[h.ID] != nil:
		return outcomeDraining
	case p.away[h.ID] != nil:
		return outcomeAway
	case p.contended.hosts[h.ID]:
		return outcomeContended
	case h.Displaced:
		return outcomeMoving
	}
	return outcomeFree
}

// outcome returns what became of a host. It must be called after all rounds, because
// a host that an entry gets afterwards would count as free.
func (p *planner) outcome(num int32) hostOutcome {
	if p.outcomes == nil {
		p.outcomes = make([]hostOutcome, len(p.hosts))
		for n, h := range p.hosts {
			p.outcomes[n] = p.findOutcome(n, h)
		}
	}
	return p.outcomes[num]
}

func (p *planner) findOutcome(num int, h *Host) hostOutcome {
	at := p.outcomeAtStart(h)
	switch {
	case at != outcomeFree || p.free.Test(uint(num)):
		return at
	case !p.freeAtStart.Test(uint(num)):
		return outcomeTask
	}
	return outcomeTaken
}
