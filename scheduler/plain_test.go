package scheduler

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// plain serves the rounds 1 and 2 under PolicyOptimal as the planner does, but each demand has
// a list of its own of the hosts that its jobs may have, and every search looks at all of them.
// So it is short and slow.
type plain struct {
	*planner
	demands map[plainKey]*plainDemand
	holder  map[int32]*plainDemand
	price   map[int32]int
	served  map[int32]bool // by position in the queue
	seen    map[*plainDemand]bool
	reached []*plainDemand
}

type plainKey struct {
	match     *match
	preferred setID
	refused   string
}

// plainDemand has hosts in the order in which they are wanted, with what they lack.
type plainDemand struct {
	hosts      []int32
	lacks      map[int32]int
	level      int
	closed     bool
	restricted bool
	from       *plainDemand
	via        int32
}

// plainPlan returns the hosts of the entries that may get any host.
func plainPlan(s *Snapshot) map[EntryID]HostID {
	p := newPlanner(s)
	p.numberHosts()
	p.leaseTaskHosts()
	p.readRequests()
	p.group()
	p.roundNamed()
	o := &plain{planner: p, demands: map[plainKey]*plainDemand{}, holder: map[int32]*plainDemand{}, price: map[int32]int{}, served: map[int32]bool{}}
	asked := o.asked()
	chosen := o.choose(asked)
	for i := range p.groups {
		g := &p.groups[i]
		entries, choice := chosen[g]
		if !choice {
			entries = g.entries
			if asked[i] < len(entries) {
				entries = slices.Concat(o.unrestricted(g), entries)
			}
		}
		o.serve(g, entries, asked[i])
	}
	for i := range p.groups {
		o.serve(&p.groups[i], p.groups[i].entries, len(p.groups[i].entries)-asked[i])
	}
	given := map[EntryID]HostID{}
	for i := range p.groups {
		for _, at := range p.groups[i].entries {
			if o.served[at] { // the entries of a demand get its hosts in the order of the queue
				d := o.demandOf(&p.groups[i], at)
				next := slices.IndexFunc(d.hosts, func(num int32) bool { return o.holder[num] == d })
				given[p.entries[at].entry.ID] = p.hosts[d.hosts[next]].ID
				delete(o.holder, d.hosts[next])
			}
		}
	}
	return given
}

// asked returns for how many entries of each group the minimum of its suite is.
func (o *plain) asked() []int {
	lacks, asked := map[JobID]int{}, make([]int, len(o.groups))
	for suite, minimum := range o.minimums {
		lacks[suite] = max(0, minimum-o.s.Recorder.Held(suite))
	}
	for i := range o.groups {
		if g := &o.groups[i]; g.key.suite != 0 {
			asked[i] = min(len(g.entries), lacks[g.key.suite])
			lacks[g.key.suite] -= asked[i]
		}
	}
	return asked
}

// unrestricted returns the entries of a group whose jobs may have any of its hosts.
func (o *plain) unrestricted(g *group) []int32 {
	return slices.DeleteFunc(slices.Clone(g.entries), func(at int32) bool { return o.demandOf(g, at).restricted })
}

// demandOf returns the demand of an entry.
func (o *plain) demandOf(g *group, at int32) *plainDemand {
	refused := slices.Clone(o.refusedHosts(g.match, o.entries[at].job))
	slices.Sort(refused)
	refused = slices.Compact(refused)
	key := plainKey{g.match, g.key.preferred, fmt.Sprint(refused)}
	if o.demands[key] == nil {
		d := &plainDemand{lacks: map[int32]int{}, restricted: len(refused) > 0}
		for _, num := range g.match.eligible {
			if o.free.Test(uint(num)) && !slices.Contains(refused, int64(num)) {
				d.hosts = append(d.hosts, num)
				d.lacks[num] = o.lacked(num, g.key.preferred)
			}
		}
		slices.SortStableFunc(d.hosts, func(a, b int32) int { return d.lacks[a] - d.lacks[b] })
		o.demands[key] = d
	}
	return o.demands[key]
}

// lacked is how many of the preferred labels that any host carries this one does not.
func (o *plain) lacked(num int32, preferred setID) (n int) {
	for _, set := range o.carriersOf(preferred) {
		if !set.has(int(num)) {
			n++
		}
	}
	return n
}

// serve promises hosts to up to n of the entries.
func (o *plain) serve(g *group, entries []int32, n int) {
	for _, at := range entries {
		if n > 0 && !o.served[at] && o.promiseOne(o.demandOf(g, at)) {
			o.served[at] = true
			n--
		}
	}
}

// promiseOne promises one more host to a demand, by the Hungarian method: see matcher.
func (o *plain) promiseOne(root *plainDemand) bool {
	for !root.closed {
		o.seen, o.reached = map[*plainDemand]bool{root: true}, []*plainDemand{root}
		root.from = nil
		if o.augment() {
			return true
		}
		rise := math.MaxInt
		for _, d := range o.reached {
			for _, num := range d.hosts {
				if other := o.holder[num]; other == nil || !o.seen[other] && !other.closed {
					rise = min(rise, d.lacks[num]+o.price[num]-d.level)
				}
			}
		}
		for _, d := range o.reached {
			if rise == math.MaxInt {
				d.closed = true
				continue
			}
			for _, num := range d.hosts {
				if o.holder[num] == d {
					o.price[num] += rise
				}
			}
			d.level += rise
		}
	}
	return false
}

// augment searches breadth first for a demand that has a tight free host, and shifts hosts on the
// way to it.
func (o *plain) augment() bool {
	tight := func(d *plainDemand, num int32) bool { return d.lacks[num]+o.price[num] == d.level }
	free := func(d *plainDemand) int {
		return slices.IndexFunc(d.hosts, func(num int32) bool { return o.holder[num] == nil && tight(d, num) })
	}
	shift := func(d *plainDemand, num int32) bool {
		for ; d != nil; num, d = d.via, d.from {
			o.holder[num] = d
		}
		return true
	}
	if i := free(o.reached[0]); i >= 0 {
		return shift(o.reached[0], o.reached[0].hosts[i])
	}
	for at := 0; at < len(o.reached); at++ {
		d := o.reached[at]
		for _, num := range d.hosts {
			other := o.holder[num]
			if other == nil || o.seen[other] || other.closed || !tight(d, num) {
				continue
			}
			o.seen[other], other.from, other.via = true, d, num
			o.reached = append(o.reached, other)
			if i := free(other); i >= 0 {
				return shift(other, other.hosts[i])
			}
		}
	}
	return false
}

// plainOption stands for the entries of a group with one demand: see option.
type plainOption struct {
	*plainDemand
	siblings *[]*plainOption
	entries  []int32
	served   int
	closed   bool
	from     *plainOption
	via      int32
}

// choose returns for which entries of each group a minimum is, where that matters: see chooser.
func (o *plain) choose(asked []int) map[*group][]int32 {
	all, choices := map[*group]*[]*plainOption{}, false
	for i := range o.groups {
		g := &o.groups[i]
		of := o.optionsOf(g)
		all[g] = of
		choices = choices || o.leavesChoice(g, *of, asked[i])
	}
	chosen := map[*group][]int32{}
	if !choices {
		return chosen
	}
	holder := map[int32]*plainOption{}
	for i := range o.groups {
		for range asked[i] {
			if !chooseOne(holder, all[&o.groups[i]]) {
				break
			}
		}
	}
	for i := range o.groups {
		g := &o.groups[i]
		if !o.leavesChoice(g, *all[g], asked[i]) {
			continue
		}
		chosen[g] = nil
		for _, option := range *all[g] {
			chosen[g] = append(chosen[g], option.entries[:option.served]...)
		}
		slices.Sort(chosen[g])
	}
	return chosen
}

func (o *plain) leavesChoice(g *group, of []*plainOption, asked int) bool {
	if asked == 0 || asked == len(g.entries) {
		return false
	}
	if of[0].restricted {
		return len(of) > 1
	}
	return len(of) > 2 && len(of[0].entries) < asked
}

func (o *plain) optionsOf(g *group) *[]*plainOption {
	var free, others []*plainOption
	by, out := map[*plainDemand]*plainOption{}, new([]*plainOption)
	for _, at := range g.entries {
		d := o.demandOf(g, at)
		if by[d] == nil {
			by[d] = &plainOption{plainDemand: d, siblings: out}
			if d.restricted {
				others = append(others, by[d])
			} else {
				free = append(free, by[d])
			}
		}
		by[d].entries = append(by[d].entries, at)
	}
	*out = slices.Concat(free, others)
	return out
}

// chooseOne finds a host for one more entry of a group, breadth first.
func chooseOne(holder map[int32]*plainOption, root *[]*plainOption) bool {
	seen, asked := map[*plainOption]bool{}, map[*[]*plainOption]bool{}
	var reached []*plainOption
	reach := func(option, from *plainOption, via int32) bool {
		if option.closed || seen[option] {
			return false
		}
		seen[option], option.from, option.via = true, from, via
		reached = append(reached, option)
		i := slices.IndexFunc(option.hosts, func(num int32) bool { return holder[num] == nil })
		if i < 0 {
			return false
		}
		num := option.hosts[i]
		for {
			holder[num] = option
			for option.via == noHost {
				option.served++
				if option.from == nil {
					return true
				}
				option = option.from
				option.served--
			}
			num, option = option.via, option.from
		}
	}
	reachWaiting := func(of *[]*plainOption, from *plainOption) bool {
		if asked[of] {
			return false
		}
		asked[of] = true
		return slices.ContainsFunc(*of, func(option *plainOption) bool {
			return option.served < len(option.entries) && reach(option, from, noHost)
		})
	}
	if reachWaiting(root, nil) {
		return true
	}
	for at := 0; at < len(reached); at++ {
		for _, num := range reached[at].hosts {
			other := holder[num]
			if !other.closed && !seen[other] && (reach(other, reached[at], num) || reachWaiting(other.siblings, other)) {
				return true
			}
		}
	}
	for _, option := range reached {
		option.closed = true
	}
	return false
}

// TestPlansLikeThePlainOne: what searches pass over, because others looked at it before, makes no
// difference to the plan.
func TestPlansLikeThePlainOne(t *testing.T) {
	for seed := range uint64(1500) {
		s := retriedLab(rand.New(rand.NewPCG(seed, 1)))
		got := map[EntryID]HostID{}
		for _, a := range MakePlan(s).Assignments {
			if a.Round != RoundNamed {
				got[a.Entry] = a.Host
			}
		}
		require.Equal(t, plainPlan(s), got, "lab %d", seed)
	}
}

// retriedLab is a lab of middle size, in which jobs prefer builds and firmware, belong to suites
// with minimums, have several entries and had hosts before: often one that all of them had.
func retriedLab(rng *rand.Rand) *Snapshot {
	chance := func(percent int) bool { return rng.IntN(100) < percent }
	s := &Snapshot{
		Rules: Rules{Policy: PolicyOptimal}, Users: []User{{1, "alice", []ACLID{1}}, {2, "bob", []ACLID{1, 2}}},
		Labels: []Label{{1, "wifi"}, {2, "stylus"}, {3, "cros-version:1"}, {4, "cros-version:2"}, {5, "fwrw-version:1"}},
	}
	hosts := 1 + rng.IntN(30)
	for id := range hosts {
		h := Host{ID: HostID(id + 1), Hostname: fmt.Sprintf("h%02d", id), Status: HostReady, Ready: true, Leased: chance(5), ACLs: []ACLID{ACLID(1 + rng.IntN(2))}}
		for l := range s.Labels {
			if chance(40) {
				h.Labels = append(h.Labels, LabelID(l+1))
			}
		}
		s.Hosts = append(s.Hosts, h)
	}
	preferring, suites, tried, same := chance(60), rng.IntN(4), rng.IntN(40), HostID(1+rng.IntN(2*hosts))
	for suite := range suites {
		s.Minimums = append(s.Minimums, Minimum{JobID(suite + 1), fmt.Sprint(rng.IntN(hosts + 1))})
	}
	entry := EntryID(1)
	for id := range 1 + rng.IntN(2*hosts) {
		job := Job{ID: JobID(100 + id), Owner: "alice", User: UserID(1 + rng.IntN(2)), SynchCount: 1, Parent: JobID(rng.IntN(suites + 1))}
		for l := range s.Labels {
			if l < 2 && chance(15) || l >= 2 && preferring && chance(30) {
				job.Deps = append(job.Deps, LabelID(l+1))
			}
		}
		s.Jobs = append(s.Jobs, job)
		for range 1 + rng.IntN(2) {
			s.Entries = append(s.Entries, Entry{ID: entry, Job: job.ID, MetaHost: 1})
			entry++
		}
		for host := HostID(1); int(host) <= hosts; host++ {
			if chance(tried/2) || host == same && chance(90) {
				s.Siblings = append(s.Siblings, Sibling{ID: entry, Job: job.ID, Host: host, Status: "Completed"})
				entry++
			}
		}
		if chance(5) {
			s.Entries[len(s.Entries)-1].Host = HostID(1 + rng.IntN(hosts))
		}
	}
	return s
}
