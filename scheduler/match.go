package scheduler

// labelled are the valid hosts that carry all labels of a set. They are computed once for
// each set.
type labelled struct {
	done  bool
	hosts []int32
	// impossible is a label of the set that no host carries, nil if there is none.
	impossible *labelInfo
	// matches is a linked list of the matches for this set of labels. It has one for each
	// set of ACL groups.
	matches *match
}

// match are the hosts that carry the required labels and share an ACL group with the
// owner. They are computed once for each pair of a set of labels and a set of groups.
type match struct {
	// labelled are the valid hosts that carry all required labels.
	labelled []int32
	// eligible are those of labelled that share an ACL group.
	eligible []int32
	// alive are those of eligible that were free when the match was last served. An
	// assigned host does not become free again within a tick, so it is dropped.
	alive []int32
	// started is true once alive is filled in.
	started bool
	// open is a position of eligible. No host before it can be promised to anybody who has none.
	open int
	deps setID
	acls setID
	// counts are the outcomes of the eligible hosts. They are valid if counted is true.
	counts  outcomeCounts
	counted bool
	next    *match // of the same labels
}

// matching finds the hosts that match a request (Autotest
// rdb.AvailableHostQueryManager.find_hosts), whether or not they are free.
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

// labelled finds the valid hosts that carry all labels of a set. It looks for them among
// the hosts of a smaller set, which lacks the label that most hosts carry. Sets with the
// same rare labels, such as a board, have such a smaller set in common, and its hosts are
// found only once.
func (p *planner) labelled(deps setID) *labelled {
	if missing := int(deps) + 1 - len(p.labelSets); missing > 0 {
		// There is room for all sets that exist, because few are added from now on.
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

// impossible finds the first label that no host carries. It returns nil if there is none.
func (p *planner) impossible(ids []int64) *labelInfo {
	for _, l := range ids {
		if set := p.hostsWith(LabelID(l)); set == nil || len(set.list) == 0 {
			return p.labels.get(LabelID(l))
		}
	}
	return nil
}

// withoutCommonest splits a set into the label that most hosts carry and all others.
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

// hostsWith returns the hosts that satisfy a required label. A replaced label is
// satisfied only by a static label of the same name.
func (p *planner) hostsWith(l LabelID) *hostSet {
	if static, replaced := p.replaced[l]; replaced && p.s.Rules.RespectStaticLabels {
		return p.staticHosts[static]
	}
	return p.carriers(l)
}

// sharing returns the hosts that are in any of the ACL groups. It computes them once for
// each set of groups, and fills in only the bits.
func (p *planner) sharing(acls setID) *hostSet {
	if union := p.shared[acls]; union != nil {
		return union
	}
	union := newHostSet(len(p.hosts))
	p.shared[acls] = union
	for _, a := range p.sets.get(acls) {
		if set := p.aclHosts[ACLID(a)]; set != nil {
			union.bits.InPlaceUnion(set.bits)
		}
	}
	union.all = union.bits.All()
	return union
}

// stillFree returns the eligible hosts that are free. It drops those that were assigned
// since the match was last served.
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
