package scheduler

import "slices"

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
	search  int32
	reached []*option
}

// option stands for the entries of one group that have the same demand.
type option struct {
	siblings *options
	hosts    []int32
	// open is the position of the first host that may still be free.
	open    int
	entries []int32 // positions in planner.entries, in queue order
	// restricted is true if the job is refused some hosts that others of the group may have.
	restricted bool
	served     int
	// closed is true once no host can become free for the option: see demand.
	closed bool
	// The following say how the search with this number reached the option: from could have
	// the host via, or, if via is noHost, it could leave the minimum to an entry of this one.
	seen int32
	from *option
	via  int32
}

const noHost = -1

// options are all of a group. seen is the search that reached those which wait.
type options struct {
	all  []*option
	seen int32
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
	c := &chooser{holder: make([]*option, len(p.hosts))}
	for i := range p.groups {
		if g := &p.groups[i]; g.asked > 0 {
			of, choice := choices[g]
			if !choice {
				of = p.optionsOf(g)
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
	if options[0].restricted {
		return len(options) > 1
	}
	return len(options) > 2 && len(options[0].entries) < g.asked
}

// optionsOf returns the options of a group: first the one of jobs that may have any of the
// hosts, then the others in queue order.
func (p *planner) optionsOf(g *group) *options {
	out := &options{}
	of := map[*demand]*option{}
	for _, at := range g.entries {
		d := p.demandOf(g, &p.entries[at])
		if of[d] == nil {
			of[d] = &option{hosts: d.hosts, siblings: out, restricted: d.refused != 0}
			out.all = append(out.all, of[d])
		}
		of[d].entries = append(of[d].entries, at)
	}
	if i := slices.IndexFunc(out.all, func(o *option) bool { return !o.restricted }); i > 0 {
		first := out.all[i]
		copy(out.all[1:], out.all[:i])
		out.all[0] = first
	}
	return out
}

// serve serves up to n entries of a group.
func (c *chooser) serve(of *options, n int) {
	for range n {
		last, num := c.find(of)
		if last == nil {
			for _, o := range c.reached {
				o.closed = true
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
	if last = c.reachWaiting(of, nil); last != nil {
		return last, last.hosts[last.open]
	}
	for at := 0; at < len(c.reached); at++ {
		o := c.reached[at]
		for _, num := range o.hosts {
			holder := c.holder[num] // one that has a free host would have ended the search
			if holder.closed || holder.seen == c.search {
				continue
			}
			if last = c.reach(holder, o, num); last == nil {
				last = c.reachWaiting(holder.siblings, holder)
			}
			if last != nil {
				return last, last.hosts[last.open]
			}
		}
	}
	return nil, noHost
}

// reachWaiting reaches the options of a group that have an entry which is not served, if this
// search has not yet. It returns one that has a free host, nil if none has.
func (c *chooser) reachWaiting(of *options, from *option) *option {
	if of.seen == c.search {
		return nil
	}
	of.seen = c.search
	for _, o := range of.all {
		if o.served == len(o.entries) {
			continue
		}
		if last := c.reach(o, from, noHost); last != nil {
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
	for ; o.open < len(o.hosts); o.open++ { // a host that is held stays so
		if c.holder[o.hosts[o.open]] == nil {
			return o
		}
	}
	return nil
}

// shift gives a free host to the option that was found, and goes back the way on which that
// was reached.
func (c *chooser) shift(o *option, num int32) {
	for {
		c.holder[num] = o
		for o.via == noHost {
			o.served++
			if o.from == nil {
				return
			}
			o = o.from
			o.served--
		}
		num, o = o.via, o.from
	}
}
