package scheduler

import "math"

// matcher promises hosts to entries so that the set of served entries is the best
// possible. Such sets are the independent sets of a transversal matroid. Therefore it is
// enough to try the entries in the order in which they should be served, and to keep each
// one for which there is a host after others were given other hosts along an augmenting
// path. A served entry stays served, and an entry that failed once fails for good.
//
// Among the ways to serve a set it keeps one in which the hosts lack the fewest preferred
// labels. It does so by the Hungarian method: each demand has a level and each host a
// price, and a demand only looks at its tight hosts, for which
//
//	labels that the host lacks + price of the host = level of the demand.
//
// Levels and prices only rise. The level of a demand is what one more host costs it,
// counted in labels that hosts lack.
type matcher struct {
	holder  []*demand // by host, nil while the host is promised to nobody
	price   []int32   // by host
	search  int32     // the number of the present search
	reached []*demand // by the present search
}

// demand stands for entries that may have the same hosts and prefer the same labels. Which
// of its hosts goes to which entry makes no difference, so it is searched from as a whole.
type demand struct {
	preferred setID
	refused   setID // hosts that the jobs may not have, although they match
	// hosts are those that may be promised. They are sorted by how many preferred labels
	// they lack, then by number. ends are the positions where the hosts end that lack
	// none, one, and so on.
	hosts, ends []int32
	level       int32
	// open is the position of the first host that lacks as many labels as the level and
	// may still be free. given is where nextHeld continues.
	open, given int32
	// closed is true once no host can become free for the demand. All hosts that it can
	// reach then belong to closed demands, and no search has to visit these again.
	closed bool
	// The following say how the search with this number reached the demand: from could
	// have the host via, which this demand holds.
	seen int32
	via  int32
	from *demand
}

// beginMatching prepares the rounds 1 and 2 under PolicyOptimal.
func (p *planner) beginMatching() {
	if p.s.Rules.Policy.OrDefault() != PolicyOptimal {
		return
	}
	n := len(p.hosts)
	p.demandsBy, p.refusals = map[demandKey]*demand{}, newSetTable(0)
	p.matcher = &matcher{holder: make([]*demand, n), price: make([]int32, n)}
}

// serve promises one more host to a demand. It returns false if there is none.
func (m *matcher) serve(d *demand) bool {
	for !d.closed {
		if num := m.free(d); num >= 0 {
			m.holder[num] = d
			return true
		}
		if last, num := m.find(d); last != nil {
			m.shift(last, num)
			return true
		}
		m.raise()
	}
	return false
}

// free returns a host that is promised to nobody and lacks as few labels as the level
// says. It returns -1 if there is none. A promised host stays promised to somebody, so
// each host is passed over once.
func (m *matcher) free(d *demand) int32 {
	if int(d.level) >= len(d.ends) {
		return -1
	}
	for end := d.ends[d.level]; d.open < end; d.open++ {
		if num := d.hosts[d.open]; m.holder[num] == nil {
			return num
		}
	}
	return -1
}

// find searches for a free host, breadth first and over tight hosts only. It begins at a
// demand that has no such host itself. It returns the demand that has one, or nil.
func (m *matcher) find(root *demand) (last *demand, free int32) {
	m.search++
	root.seen, root.from = m.search, nil
	m.reached = append(m.reached[:0], root)
	for at := 0; at < len(m.reached); at++ {
		d := m.reached[at]
		begin := int32(0)
		for lacks, end := range d.ends[:min(len(d.ends), int(d.level)+1)] {
			for _, num := range d.hosts[begin:end] {
				other := m.holder[num]
				if other == nil || other.seen == m.search || other.closed || m.price[num] != d.level-int32(lacks) {
					continue
				}
				other.seen, other.via, other.from = m.search, num, d
				if free := m.free(other); free >= 0 {
					return other, free
				}
				m.reached = append(m.reached, other)
			}
			begin = end
		}
	}
	return nil, -1
}

// shift promises a free host to the demand that was found, the host of this demand to
// the one from which it was reached, and so on.
func (m *matcher) shift(d *demand, free int32) {
	for num := free; d != nil; d = d.from {
		m.holder[num] = d
		num = d.via
	}
}

// raise raises the levels of the demands that a search without success reached, and the
// prices of their hosts, by as much as makes another host tight. If there is no other
// host, the demands are closed.
func (m *matcher) raise() {
	rise := m.slack()
	for _, d := range m.reached {
		if rise == math.MaxInt32 {
			d.closed = true
			continue
		}
		for _, num := range d.hosts {
			if m.holder[num] == d {
				m.price[num] += rise
			}
		}
		d.level += rise
	}
}

// slack is how far the hosts that the search did not reach are from being tight.
func (m *matcher) slack() int32 {
	least := int32(math.MaxInt32)
	for _, d := range m.reached {
		begin := int32(0)
		for lacks, end := range d.ends {
			for _, num := range d.hosts[begin:end] {
				if other := m.holder[num]; other == nil || other.seen != m.search && !other.closed {
					least = min(least, int32(lacks)+m.price[num]-d.level)
				}
			}
			begin = end
		}
	}
	return least
}

// nextHeld returns the next host that is promised to a demand, which must have one.
func (m *matcher) nextHeld(d *demand) int32 {
	for m.holder[d.hosts[d.given]] != d {
		d.given++
	}
	d.given++
	return d.hosts[d.given-1]
}
