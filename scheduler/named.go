package scheduler

import (
	"fmt"
	"strings"
)

// roundNamed is round 0. It serves the entries that name a host, before all others and by
// priority (Autotest rdb.BatchHostRequest batch_validate_hosts). If several entries may
// have the same host, the first in the queue gets it.
func (p *planner) roundNamed() {
	if p.s.Details {
		p.takers = map[int]EntryID{}
	}
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
		p.assign(e, num, RoundNamed)
		if p.s.Details {
			p.takers[num] = e.entry.ID
		}
	}
}

// refuseNamed returns everything that keeps a named host from the entry. What does not
// go away by waiting comes first, because the first code stands for the reason. A
// one-time host, which is marked as invalid, needs no common ACL group. Only plain labels
// of the host count.
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
	draining, away := p.drains[h.ID] != nil, p.away[h.ID] != nil
	if draining {
		codes = append(codes, HostDraining)
	}
	if away {
		codes = append(codes, AgentAway)
	}
	switch {
	case p.free.Test(bit):
	case p.freeAtStart.Test(bit):
		codes = append(codes, HostTaken)
	case p.contended.hosts[h.ID] && !h.Leased && h.ActiveEntry == 0:
		codes = append(codes, HostContended)
	case h.Displaced && !h.Leased && h.ActiveEntry == 0:
		codes = append(codes, HostMoving)
	case h.Leased || h.ActiveEntry != 0 || !h.Locked && !draining && !away:
		codes = append(codes, HostLeased)
	}
	return codes
}

// lacking returns the required labels that a named host does not carry.
func (p *planner) lacking(e *pending, num int) []int64 {
	var missing []int64
	for _, l := range p.sets.get(p.requests[e.job.request].deps) {
		if !p.carriers(LabelID(l)).has(num) {
			missing = append(missing, l)
		}
	}
	return missing
}

func (p *planner) noSuchHost(e *pending) *Reason {
	p.problem(e.entry, fmt.Sprintf("entry %d names host %d, which does not exist", e.entry.ID, e.entry.Host))
	return &Reason{Code: NoSuchHost, text: fmt.Sprintf("names host %d, which does not exist", e.entry.Host)}
}

// namedReason words everything that keeps the named host from the entry.
func (p *planner) namedReason(e *pending, num int, codes []Code) *Reason {
	h := p.hosts[num]
	var texts []string
	for _, code := range codes {
		texts = append(texts, p.namedText(e, num, code))
	}
	r := &Reason{Code: codes[0], text: fmt.Sprintf("names host %s, which %s", h.Hostname, strings.Join(texts, " and "))}
	if p.s.Details && h.ActiveEntry != 0 {
		r.details = &details{leasedTo: []EntryID{h.ActiveEntry}}
	}
	return r
}

func (p *planner) namedText(e *pending, num int, code Code) string {
	h := p.hosts[num]
	switch code {
	case HostOnShard:
		return fmt.Sprintf("belongs to shard %d", h.Shard)
	case HostLacksLabels:
		return "lacks " + p.labels.namesOf(p.lacking(e, num))
	case HostACL:
		return fmt.Sprintf("shares no ACL group with owner %q", e.job.Owner)
	case HostLocked:
		return "is locked" + lockText(h)
	case HostDraining:
		return "is draining" + p.drainText(h.ID)
	case AgentAway:
		return "has no agent that takes anything" + p.awayText(h.ID)
	case HostContended:
		return "is held by another transaction"
	case HostMoving:
		return "is moving to another shard"
	case HostTaken:
		return "was given to " + p.takerOf(num) + " in this tick"
	}
	if !h.Leased && h.ActiveEntry == 0 {
		return "is wanted by a special task"
	}
	text := "is leased"
	if h.ActiveEntry != 0 {
		text += fmt.Sprintf(" to entry %d", h.ActiveEntry)
	}
	if suite := p.s.Recorder.SuiteOf(h.ID); suite != 0 {
		text += fmt.Sprintf(" for suite %d", suite)
	}
	return text
}

// takerOf names the entry that got a host in round 0, as far as somebody will read its name.
func (p *planner) takerOf(num int) string {
	switch id, known := p.takers[num]; {
	case !known:
		return "another entry"
	case Tried.Has(id):
		return "another entry of " + Tried.Name
	default:
		return fmt.Sprintf("entry %d", id)
	}
}
