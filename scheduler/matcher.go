package scheduler

import (
	"math"
	"slices"
)

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
	links   []link    // by host
	search  int32     // the number of the present search
	reached []*demand // by the present search
	pass    int32     // the number of the present pass over those that were reached
}

// link connects a host with others that are promised to the same demand.
type link struct{ before, after int32 }

// demand stands for entries that may have the same hosts and prefer the same labels. Which
// of its hosts goes to which entry makes no difference, so it is searched from as a whole.
type demand struct {
	// ranked are the hosts that may be promised, except for those that are refused: hosts
	// that the jobs may not have, although they match, in ascending order.
	ranked  *ranked
	refused []int64
	level   int32
	// open is a position of ranked. No host before it is free for the demand.
	open int32
	// first is a host that is promised to the demand, and noHost if there is none.
	first int32
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
	p.rankedBy, p.demandsBy, p.refusals = map[rankedKey]*ranked{}, map[demandKey]*demand{}, newSetTable(0)
	p.matcher = &matcher{holder: make([]*demand, n), price: make([]int32, n), links: make([]link, n)}
}

// serve promises one more host to a demand. It returns false if there is none.
func (m *matcher) serve(d *demand) bool {
	for !d.closed {
		if num := m.free(d); num >= 0 {
			m.hold(d, num)
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
// says. It returns noHost if there is none. A promised host stays promised to somebody, so
// each host is passed over once.
func (m *matcher) free(d *demand) int32 {
	l := d.ranked
	if int(d.level) >= len(l.ends) {
		return noHost
	}
	end := l.ends[d.level]
	if d.open = max(d.open, firstFree(&l.walk, m.holder, d.refused, d.open, end)); d.open >= end {
		return noHost
	}
	return l.hosts[d.open]
}

// find searches for a free host, breadth first and over tight hosts only. It begins at a
// demand that has no such host itself. It returns the demand that has one, or nil.
func (m *matcher) find(root *demand) (last *demand, free int32) {
	m.search++
	m.pass++
	root.seen, root.from = m.search, nil
	m.reached = append(m.reached[:0], root)
	for at := 0; at < len(m.reached); at++ {
		if last, free = m.findFrom(m.reached[at]); last != nil {
			return last, free
		}
	}
	return nil, noHost
}

// findFrom reaches the demands that hold tight hosts of one that was reached. It returns the
// first one that has a free host.
func (m *matcher) findFrom(d *demand) (last *demand, free int32) {
	l := d.ranked
	c, isNew := l.classOf(d.level, m.pass)
	if !isNew {
		return m.findSpare(d, c)
	}
	begin := int32(0)
	for lacks, end := range l.ends[:min(len(l.ends), int(d.level)+1)] {
		for pos := begin; pos < end; {
			num := l.hosts[pos]
			other := m.holder[num]
			if other != nil && other.closed {
				pos = l.passClosed(pos)
				continue
			}
			if other != nil && other.seen != m.search && m.price[num] == d.level-int32(lacks) {
				if isRefused(d.refused, num) {
					c.spare = append(c.spare, pos)
				} else if free := m.reach(other, d, num); free != noHost {
					return other, free
				}
			}
			pos++
		}
		begin = end
	}
	return nil, noHost
}

// findSpare does what findFrom does for another demand of a class.
func (m *matcher) findSpare(d *demand, c *class) (last *demand, free int32) {
	spare := c.spare[:0]
	for _, pos := range c.spare {
		num := d.ranked.hosts[pos]
		other := m.holder[num]
		switch {
		case other.seen == m.search:
		case isRefused(d.refused, num):
			spare = append(spare, pos)
		default:
			if free := m.reach(other, d, num); free != noHost {
				return other, free
			}
		}
	}
	c.spare = spare
	return nil, noHost
}

// reach notes how the search came to a demand. It returns a host that is free for it.
func (m *matcher) reach(d, from *demand, via int32) (free int32) {
	d.seen, d.via, d.from = m.search, via, from
	m.reached = append(m.reached, d)
	return m.free(d)
}

// shift promises a free host to the demand that was found, the host of this demand to
// the one from which it was reached, and so on.
func (m *matcher) shift(d *demand, free int32) {
	m.hold(d, free)
	for ; d.from != nil; d = d.from {
		m.leave(d.via)
		m.hold(d.from, d.via)
	}
}

// hold promises a host to a demand.
func (m *matcher) hold(d *demand, num int32) {
	m.holder[num], m.links[num] = d, link{noHost, d.first}
	if d.first != noHost {
		m.links[d.first].before = num
	}
	d.first = num
}

// leave takes a host from the demand to which it is promised. That must have got another one
// since, so there is one before this.
func (m *matcher) leave(num int32) {
	l := m.links[num]
	m.links[l.before].after = l.after
	if l.after != noHost {
		m.links[l.after].before = l.before
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
		for num := d.first; num != noHost; num = m.links[num].after {
			m.price[num] += rise
		}
		d.level += rise
	}
}

// leastSlack is how far hosts are from being tight that the search did not reach: all tight
// ones were reached.
const leastSlack = 1

// slack is how far the hosts that the search did not reach are from being tight.
func (m *matcher) slack() int32 {
	m.pass++
	least := int32(math.MaxInt32)
	for _, d := range m.reached {
		if least = m.slackOf(d, least); least == leastSlack {
			break
		}
	}
	return least
}

// slackOf returns the slack of the hosts of a demand if that is less than the least one so far.
func (m *matcher) slackOf(d *demand, least int32) int32 {
	l := d.ranked
	c, isNew := l.classOf(d.level, m.pass)
	if !isNew {
		return m.slackOfSpare(d, c, least)
	}
	begin := int32(0)
	for lacks, end := range l.ends {
		// A host that nobody holds has the price 0, and none has less.
		bound := max(leastSlack, int32(lacks)-d.level)
		for pos := begin; pos < end && least > bound; {
			num := l.hosts[pos]
			other := m.holder[num]
			if other != nil && other.closed {
				pos = l.passClosed(pos)
				continue
			}
			if slack := int32(lacks) + m.price[num] - d.level; slack < least && (other == nil || other.seen != m.search) {
				if isRefused(d.refused, num) {
					c.spare = append(c.spare, pos)
				} else {
					least = slack
				}
			}
			pos++
		}
		begin = end
	}
	return least
}

// slackOfSpare does what slackOf does for another demand of a class.
func (m *matcher) slackOfSpare(d *demand, c *class, least int32) int32 {
	spare := c.spare[:0]
	for _, pos := range c.spare {
		num := d.ranked.hosts[pos]
		switch slack := d.ranked.lacks(pos) + m.price[num] - d.level; {
		case slack >= least:
		case isRefused(d.refused, num):
			spare = append(spare, pos)
		default:
			least = slack
		}
	}
	c.spare = spare
	return least
}

// isClosed tells whether a host is promised to a closed demand.
func (m *matcher) isClosed(num int32) bool {
	d := m.holder[num]
	return d != nil && d.closed
}

// mayServe tells whether one of the hosts of a list that are not refused may still become free
// for somebody who has none yet.
func (m *matcher) mayServe(l *ranked, refused func(num int32) bool) bool {
	for pos := int32(0); int(pos) < len(l.hosts); {
		num := l.hosts[pos]
		if m.isClosed(num) {
			pos = l.passClosed(pos)
			continue
		}
		if !refused(num) {
			return true
		}
		pos++
	}
	return false
}

// arrange puts the hosts that are promised to the demands of a list into its order.
func (m *matcher) arrange(l *ranked) {
	l.arranged = true
	for _, num := range l.hosts {
		if d := m.holder[num]; d != nil && d.ranked == l {
			d.first = noHost
		}
	}
	for _, num := range slices.Backward(l.hosts) {
		if d := m.holder[num]; d != nil && d.ranked == l {
			m.hold(d, num)
		}
	}
}

// nextHeld returns the next host that is promised to a demand, which must have one.
func (m *matcher) nextHeld(d *demand) int32 {
	if !d.ranked.arranged {
		m.arrange(d.ranked)
	}
	num := d.first
	d.first = m.links[num].after
	return num
}
