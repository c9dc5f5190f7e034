package scheduler

import (
	"slices"

	"github.com/bits-and-blooms/bitset"
)

// chooser chooses, before round 1, for which entries of a group a minimum is that is for
// some of them only. It matters if their jobs are refused different hosts: then it is not
// known in advance which entry leaves most to other suites.
//
// It tries the groups in the order in which they are served, one host after the other. An
// augmenting path may also take the minimum from one entry of a group and give it to another
// one. So up to every group as many hosts as possible go to minimums. How many labels the
// hosts lack makes no difference here: the matcher then serves the entries that were chosen.
type chooser struct {
	holder  []*option // by host
	walks   map[*ranked]*walk
	search  int32
	reached []*option
}

// option stands for the entries of one group that have the same demand.
type option struct {
	siblings *options
	number   uint // among the siblings
	// refused are the hosts that the jobs may not have, although others of the group may.
	refused []int64
	// open is a position of the hosts. None before it is free for the option.
	open    int32
	entries []int32 // positions in planner.entries, in queue order
	served  int
	// closed is true once no host can become free for the option: see demand.
	closed bool
	// The following say how the search with this number reached the option: from could
	// have the host via, or, if via is noHost, it could leave the minimum to an entry of this one.
	seen int32
	from *option
	via  int32
}

const noHost = -1

// options are all of a group. seen is the search that reached those which wait: those that have
// an entry which is not served, and are not closed.
type options struct {
	walk    *walk
	all     []*option
	waiting *bitset.BitSet
	seen    int32
}

// chooseForMinimums sets group.chosen where it matters for which entries a minimum is.
func (p *planner) chooseForMinimums() {
	if p.matcher == nil {
		return
	}
	choices := make(map[*group]*options)
	for i := range p.groups {
		if g := &p.groups[i]; g.mixed && g.asked > 0 && g.asked < len(g.entries) {
			if o := p.optionsOf(g); leavesChoice(g, o.all) {
				choices[g] = o
			}
		}
	}
	if len(choices) == 0 {
		return
	}
	c := &chooser{holder: make([]*option, len(p.hosts)), walks: map[*ranked]*walk{}}
	for i := range p.groups {
		if g := &p.groups[i]; g.asked > 0 {
			of, choice := choices[g]
			if !choice {
				of = p.optionsOf(g)
			}
			of.walk = c.walkOf(p.rankedOf(g))
			if g.mixed {
				of.walk.share()
			}
			c.serve(of, g.asked)
		}
	}
	for g, of := range choices {
		g.chosen = []int32{}
		for _, o := range of.all {
			g.chosen = append(g.chosen, o.entries[:o.served]...)
		}
		slices.Sort(g.chosen)
	}
}

// leavesChoice tells whether it matters for which entries of a group a minimum is. Those
// whose jobs may have any of the hosts leave most to others, so it does not if they are
// enough, or if all others may have the same hosts.
func leavesChoice(g *group, options []*option) bool {
	if len(options[0].refused) > 0 {
		return len(options) > 1
	}
	return len(options) > 2 && len(options[0].entries) < g.asked
}

// optionsOf returns the options of a group: first the one of jobs that may have any of the
// hosts, then the others in queue order.
func (p *planner) optionsOf(g *group) *options {
	out := &options{}
	of := map[setID]*option{}
	for _, at := range g.entries {
		refused := setID(0)
		if g.mixed {
			refused = p.refusals.intern(p.refusedHosts(g.match, p.entries[at].job))
		}
		if of[refused] == nil {
			of[refused] = &option{refused: p.refusals.get(refused), siblings: out}
			out.all = append(out.all, of[refused])
		}
		of[refused].entries = append(of[refused].entries, at)
	}
	if i := slices.Index(out.all, of[0]); i > 0 {
		copy(out.all[1:], out.all[:i])
		out.all[0] = of[0]
	}
	out.waiting = bitset.New(uint(len(out.all)))
	for i, o := range out.all {
		o.number = uint(i)
		out.waiting.Set(o.number)
	}
	return out
}

// walkOf returns how far the chooser is with a list of hosts.
func (c *chooser) walkOf(l *ranked) *walk {
	w := c.walks[l]
	if w == nil {
		w = &walk{hosts: l.hosts}
		c.walks[l] = w
	}
	return w
}

// serve serves up to n entries of a group.
func (c *chooser) serve(of *options, n int) {
	for range n {
		last, num := c.find(of)
		if last == nil {
			for _, o := range c.reached {
				o.closed = true
				o.siblings.waiting.Clear(o.number)
			}
			return
		}
		c.shift(last, num)
	}
}

// find searches for a host for one more entry of a group, breadth first.
func (c *chooser) find(of *options) (last *option, free int32) {
	c.search++
	c.reached = c.reached[:0]
	last = c.reachWaiting(of, nil)
	for at := 0; last == nil && at < len(c.reached); at++ {
		last = c.findFrom(c.reached[at])
	}
	if last == nil {
		return nil, noHost
	}
	return last, last.siblings.walk.hosts[last.open]
}

// findFrom reaches the options that hold hosts of one that was reached, and those that wait and
// could get the minimum from these. It returns the first one that has a free host.
func (c *chooser) findFrom(o *option) *option {
	w := o.siblings.walk
	class, isNew := w.classOf(0, c.search)
	if !isNew {
		return c.findSpare(o, class)
	}
	for pos := int32(0); int(pos) < len(w.hosts); {
		num := w.hosts[pos]
		holder := c.holder[num] // nil only if the host is refused: else it would have ended the search
		if holder != nil && holder.closed {
			pos = w.passClosed(pos)
			continue
		}
		if holder != nil && holder.seen != c.search {
			if isRefused(o.refused, num) {
				class.spare = append(class.spare, pos)
			} else if last := c.reachHolder(holder, o, num); last != nil {
				return last
			}
		}
		pos++
	}
	return nil
}

// findSpare does what findFrom does for another option that searches the same list.
func (c *chooser) findSpare(o *option, class *class) *option {
	spare := class.spare[:0]
	for _, pos := range class.spare {
		num := o.siblings.walk.hosts[pos]
		holder := c.holder[num]
		switch {
		case holder.seen == c.search:
		case isRefused(o.refused, num):
			spare = append(spare, pos)
		default:
			if last := c.reachHolder(holder, o, num); last != nil {
				return last
			}
		}
	}
	class.spare = spare
	return nil
}

// reachHolder reaches the option that holds a host, and those that could get the minimum from it.
func (c *chooser) reachHolder(holder, from *option, num int32) *option {
	if last := c.reach(holder, from, num); last != nil {
		return last
	}
	return c.reachWaiting(holder.siblings, holder)
}

// reachWaiting reaches the options of a group that have an entry which is not served, if this
// search has not yet. It returns one that has a free host, nil if none has.
func (c *chooser) reachWaiting(of *options, from *option) *option {
	if of.seen == c.search {
		return nil
	}
	of.seen = c.search
	for i, ok := of.waiting.NextSet(0); ok; i, ok = of.waiting.NextSet(i + 1) {
		if last := c.reach(of.all[i], from, noHost); last != nil {
			return last
		}
	}
	return nil
}

// reach notes how the search came to an option, unless it had been there. It returns the option
// if that has a free host, and nil otherwise.
func (c *chooser) reach(o, from *option, via int32) *option {
	if o.closed || o.seen == c.search {
		return nil
	}
	o.seen, o.from, o.via = c.search, from, via
	c.reached = append(c.reached, o)
	w := o.siblings.walk
	if o.open = firstFree(w, c.holder, o.refused, o.open, int32(len(w.hosts))); int(o.open) < len(w.hosts) {
		return o
	}
	return nil
}

// shift gives a free host to the option that was found, and goes back the way on which that
// was reached.
func (c *chooser) shift(o *option, num int32) {
	for {
		c.holder[num] = o
		for o.via == noHost {
			o.serve(1)
			if o.from == nil {
				return
			}
			o = o.from
			o.serve(-1)
		}
		num, o = o.via, o.from
	}
}

// serve changes how many entries of an option are served.
func (o *option) serve(n int) {
	o.served += n
	o.siblings.waiting.SetTo(o.number, o.served < len(o.entries))
}
