package scheduler

import "strings"

// labelled are the valid hosts that carry a set of labels, computed once per set.
type labelled struct {
	done  bool
	hosts []int32
	// impossible is a label that no host can ever satisfy, if there is one.
	impossible *labelInfo
	// matches are those for this set, one per set of ACL groups.
	matches *match
}

// match is the hosts that carry the deps and share an ACL group, computed once
// per (deps, ACLs).
type match struct {
	// labelled carry all deps and are valid.
	labelled []int32
	// eligible are those of labelled that share an ACL group.
	eligible []int32
	// alive are those of eligible that may still be free. An assigned host does not
	// become free again within a tick, so it is dropped for good.
	alive   []int32
	started bool
	deps    setID
	acls    setID
	// counts are the outcomes of the eligible hosts. They are valid if counted is true.
	counts  outcomeCounts
	counted bool
	next    *match // of the same labels
}

// matching finds the hosts for a request (Autotest
// rdb.AvailableHostQueryManager.find_hosts), without looking at leases.
func (p *planner) matching(deps, acls setID) *match {
	set := p.labelled(deps)
	for m := set.matches; m != nil; m = m.next {
		if m.acls == acls {
			return m
		}
	}
	m := p.matches.next()
	m.deps, m.acls = deps, acls
	m.labelled = set.hosts
	m.eligible = set.hosts
	if shared := p.sharing(acls); !shared.all {
		m.eligible = p.lists.within(set.hosts, shared.bits)
	}
	set.matches, m.next = m, set.matches
	return m
}

// labelled finds the valid hosts that carry all labels of a set. Sets share
// their beginnings: what is left out for the smaller set is the label that most
// hosts have, so that those of one board, say, are looked for once.
func (p *planner) labelled(deps setID) *labelled {
	if missing := int(deps) + 1 - len(p.labelSets); missing > 0 {
		// Room for all sets there are; few are added while looking at them.
		p.labelSets = append(p.labelSets, make([]labelled, max(missing, len(p.sets.sets)-len(p.labelSets)))...)
	}
	if p.labelSets[deps].done {
		return &p.labelSets[deps]
	}
	ids := p.sets.get(deps)
	set := labelled{done: true, impossible: p.impossible(ids)}
	switch {
	case set.impossible != nil:
	case len(ids) == 0:
		set.hosts = p.valid.list
	case len(ids) == 1:
		set.hosts = p.lists.within(p.hostsWith(LabelID(ids[0])).list, p.valid.bits)
	default:
		rest, commonest := p.withoutCommonest(ids)
		set.hosts = p.lists.within(p.labelled(rest).hosts, p.hostsWith(commonest).bits)
	}
	p.labelSets[deps] = set
	return &p.labelSets[deps]
}

// impossible finds the first label that no host carries, if there is one.
func (p *planner) impossible(ids []int64) *labelInfo {
	for _, l := range ids {
		if set := p.hostsWith(LabelID(l)); set == nil || len(set.list) == 0 {
			return p.labels.get(LabelID(l))
		}
	}
	return nil
}

// withoutCommonest splits a set into the label that most hosts carry and the
// rest.
func (p *planner) withoutCommonest(ids []int64) (rest setID, commonest LabelID) {
	at := 0
	for i, l := range ids {
		if len(p.hostsWith(LabelID(l)).list) > len(p.hostsWith(LabelID(ids[at])).list) {
			at = i
		}
	}
	p.required = append(append(p.required[:0], ids[:at]...), ids[at+1:]...)
	return p.sets.intern(p.required), LabelID(ids[at])
}

// hostsWith returns the hosts that satisfy a dep. A replaced label counts only
// as a static label of the same name.
func (p *planner) hostsWith(l LabelID) *hostSet {
	if p.s.Rules.RespectStaticLabels && p.replaced[l] {
		return p.staticHosts[strings.ToLower(p.labels.get(l).name)]
	}
	return p.labelHosts.get(int64(l))
}

// sharing returns the hosts in any of the ACL groups, computed once per set of
// groups. Only the bits are filled in.
func (p *planner) sharing(acls setID) *hostSet {
	if union := p.shared[acls]; union != nil {
		return union
	}
	union := newHostSet(len(p.hosts))
	p.shared[acls] = union
	for _, a := range p.sets.get(acls) {
		if set := p.aclHosts.get(a); set != nil {
			union.bits.InPlaceUnion(set.bits)
		}
	}
	union.all = union.bits.All()
	return union
}

// stillFree drops the hosts that were assigned since the match was last served.
func (p *planner) stillFree(m *match) []int32 {
	if !m.started {
		m.started = true
		m.alive = p.lists.copyWithin(m.eligible, p.free)
		return m.alive
	}
	kept := m.alive[:0]
	for _, num := range m.alive {
		if p.free.Test(uint(num)) {
			kept = append(kept, num)
		}
	}
	m.alive = kept
	return kept
}
