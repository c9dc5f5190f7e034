package scheduler

import (
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// optimalProperties are true of plans under PolicyOptimal. They compare such a plan with
// what every possible way to give hosts to entries can reach.
var optimalProperties = []property{
	{"optimal: as many entries as possible", optimal(mostServed), mutateRules(func(r *Rules) { r.Policy = PolicyExact })},
	{"optimal: the best set of entries", optimal(bestServed), mutateJobs(func(j *Job) { j.Priority = -j.Priority })},
	{"optimal: the best set of entries: minimums", optimal(bestServed), mutate(func(s *Snapshot) { s.Minimums = nil })},
	{"optimal: most of every priority", optimal(mostOfEveryPriority), mutateJobs(func(j *Job) { j.Priority = 0 })},
	{"optimal: no priority worse than under exact", optimal(noPriorityWorse), mutateJobs(func(j *Job) { j.Priority = 0 })},
	{"optimal: minimums not worse than under exact", optimal(minimumsNotWorse), mutate(func(s *Snapshot) { s.Minimums = nil })},
	{"optimal: minimums as good as can be", optimal(minimumsBest), mutateRules(func(r *Rules) { r.Policy = PolicyExact })},
	{"optimal: most preferred labels", optimal(mostPreferred), mutateRules(func(r *Rules) {
		r.Actions = DefaultActions()
		r.Actions.Other = append(r.Actions.Other, r.Actions.Provision...)
		r.Actions.Provision = nil
	})},
	{"optimal: most preferred labels: one after the other", optimal(mostPreferred), mutateRules(func(r *Rules) { r.Policy = PolicyExact })},
	{"optimal: the next plan serves nobody more", optimal(nobodyMore), func(s *Snapshot) Plan {
		p := MakePlan(s)
		p.Assignments = p.Assignments[:max(0, len(p.Assignments)-1)]
		return p
	}},
	{"optimal: reasons name who comes first", optimal(holdersComeFirst), mutateJobs(func(j *Job) { j.Priority = -j.Priority })},
}

// optimal checks a property under PolicyOptimal. A stopped job takes hosts away from
// entries after they were chosen, which other tests look at.
func optimal(holds func(s *Snapshot, p Plan, r *ways) error) func(*Snapshot, planFunc) error {
	return func(s *Snapshot, plan planFunc) error {
		s = clone(s)
		s.Rules.Policy, s.Details = PolicyOptimal, true
		p := plan(s)
		if gaveBack(p) {
			return nil
		}
		return holds(s, p, waysOf(s))
	}
}

// ways knows every way to give hosts to entries that may get any host. It tries them all,
// and shares no code with the planner.
type ways struct {
	*naive
	// exact are the hosts that a plan under PolicyExact gives, and first those of round 0.
	exact map[EntryID]HostID
	open  []*Host // free after round 0
	lacks map[JobID]int
}

func waysOf(s *Snapshot) *ways {
	w := &ways{naive: naivePlan(s), lacks: map[JobID]int{}}
	w.exact = w.given
	taken := map[HostID]bool{}
	for _, e := range w.queue {
		if e.Host != 0 && w.given[e.ID] != 0 {
			taken[e.Host] = true
		}
	}
	for _, h := range w.hosts {
		if w.free(h) && !taken[h.ID] {
			w.open = append(w.open, h)
		}
	}
	for _, m := range s.Minimums {
		v, _ := parseMinimum(m.Value)
		w.lacks[m.Suite] = max(0, v-s.Recorder.Held(m.Suite))
	}
	return w
}

// anyHost returns the entries that may get any host, in the order in which they are served
// if there are no minimums.
func (w *ways) anyHost() []*Entry { return slices.Concat(w.requests()...) }

// most returns how many of the entries can be served at once. It follows all sets of hosts
// that can be in use after each entry.
func (w *ways) most(entries []*Entry) int {
	reachable := map[uint]bool{0: true}
	for _, e := range entries {
		next := map[uint]bool{}
		for used := range reachable {
			next[used] = true
			for i, h := range w.open {
				if used&(1<<i) == 0 && w.eligible(e, h) == nil {
					next[used|1<<i] = true
				}
			}
		}
		reachable = next
	}
	most := 0
	for used := range reachable {
		most = max(most, bits.OnesCount(used))
	}
	return most
}

// hitsOf returns how many preferred labels the hosts of the entries can carry together if
// all entries are served.
func (w *ways) hitsOf(entries []*Entry) int {
	best := map[uint]int{0: 0}
	for _, e := range entries {
		next := map[uint]int{}
		for used, hits := range best {
			for i, h := range w.open {
				if used&(1<<i) != 0 || w.eligible(e, h) != nil {
					continue
				}
				if old, ok := next[used|1<<i]; !ok || hits+w.hits(w.jobs[e.Job], h) > old {
					next[used|1<<i] = hits + w.hits(w.jobs[e.Job], h)
				}
			}
		}
		best = next
	}
	most := 0
	for _, hits := range best {
		most = max(most, hits)
	}
	return most
}

// best serves one entry after the other, each one that can be served together with all
// those that were served before. So no other set has a better entry.
//
// If the minimum is for some entries of a group and it matters for which, the choice is the
// plan's, which minimumsBest judges.
func (w *ways) best(p Plan) []*Entry {
	var served []*Entry
	try := func(group []*Entry, n int) {
		for _, e := range group {
			if n == 0 {
				return
			}
			if with := append(slices.Clone(served), e); !slices.Contains(served, e) && w.most(with) == len(with) {
				served = with
				n--
			}
		}
	}
	groups, asked := w.requests(), w.asked()
	for i, group := range groups {
		if asked[i] < len(group) && len(w.refused(group, true)) > 1 {
			served = append(served, slices.DeleteFunc(slices.Clone(group), func(e *Entry) bool { return w.roundOf(p, e) != RoundMinimum })...)
			continue
		}
		try(w.unrestrictedFirst(group, asked[i]), asked[i])
	}
	for i, group := range groups {
		try(group, len(group)-asked[i])
	}
	return served
}

// asked returns for how many entries of each group the minimum of its suite is.
func (w *ways) asked() []int {
	lacks, out := maps.Clone(w.lacks), []int{}
	for _, group := range w.requests() {
		n := 0
		if suite := w.jobs[group[0].Job].Parent; suite != 0 {
			n = min(len(group), lacks[suite])
			lacks[suite] -= n
		}
		out = append(out, n)
	}
	return out
}

// unrestrictedFirst is the order of a group in round 1. If the minimum is for some entries
// only, those whose jobs are refused a host come last.
func (w *ways) unrestrictedFirst(group []*Entry, n int) []*Entry {
	if n == len(group) {
		return group
	}
	return slices.Concat(w.refused(group, false), w.refused(group, true))
}

// roundOf returns the round in which an entry gets a host. It returns RoundNamed if it gets
// none, or one that it names.
func (w *ways) roundOf(p Plan, e *Entry) Round {
	for _, a := range p.Assignments {
		if a.Entry == e.ID {
			return a.Round
		}
	}
	return RoundNamed
}

// refused returns the entries of a group whose jobs may, or may not, have a host only
// because another entry of the job has, had or names it.
func (w *ways) refused(group []*Entry, want bool) []*Entry {
	return slices.DeleteFunc(slices.Clone(group), func(e *Entry) bool { return w.isRefused(e) != want })
}

func (w *ways) isRefused(e *Entry) bool {
	alone := &rules{s: &Snapshot{Rules: w.s.Rules, ReplacedLabels: w.s.ReplacedLabels}, jobs: w.jobs, hosts: w.rules.hosts, users: w.users, name: w.name}
	return slices.ContainsFunc(w.hosts, func(h *Host) bool {
		return w.free(h) && alone.eligible(e, h) == nil && w.eligible(e, h) != nil
	})
}

// served returns the entries that may get any host and got one.
func (w *ways) served(p Plan) []*Entry {
	var out []*Entry
	for _, a := range p.Assignments {
		if a.Round != RoundNamed {
			out = append(out, w.entry(a.Entry))
		}
	}
	return out
}

func mostServed(_ *Snapshot, p Plan, w *ways) error {
	if got, want := len(w.served(p)), w.most(w.anyHost()); got != want {
		return fmt.Errorf("%d entries are served, %d can be", got, want)
	}
	return nil
}

func bestServed(_ *Snapshot, p Plan, w *ways) error {
	got, want := ids(w.served(p)), ids(w.best(p))
	if !slices.Equal(got, want) {
		return fmt.Errorf("entries %v are served, the best are %v", got, want)
	}
	return nil
}

func ids(entries []*Entry) []EntryID {
	var out []EntryID
	for _, e := range entries {
		out = append(out, e.ID)
	}
	slices.Sort(out)
	return out
}

// mostOfEveryPriority checks that for every priority as many entries as possible of this
// priority or a higher one are served. Guaranteed minimums come before all priorities, so
// it looks at labs without.
func mostOfEveryPriority(_ *Snapshot, p Plan, w *ways) error {
	if len(w.s.Minimums) > 0 {
		return nil
	}
	for _, priority := range w.priorities() {
		below := func(e *Entry) bool { return w.jobs[e.Job].Priority < priority }
		got, want := len(slices.DeleteFunc(w.served(p), below)), w.most(slices.DeleteFunc(w.anyHost(), below))
		if got != want {
			return fmt.Errorf("%d entries of priority %d or higher are served, %d can be", got, priority, want)
		}
	}
	return nil
}

// noPriorityWorse checks that for every priority as many entries of this priority or a
// higher one are served as under PolicyExact.
func noPriorityWorse(_ *Snapshot, p Plan, w *ways) error {
	if len(w.s.Minimums) > 0 {
		return nil
	}
	for _, priority := range w.priorities() {
		got, exact := 0, 0
		for _, e := range w.served(p) {
			if w.jobs[e.Job].Priority >= priority {
				got++
			}
		}
		for _, e := range w.anyHost() {
			if w.jobs[e.Job].Priority >= priority && w.exact[e.ID] != 0 {
				exact++
			}
		}
		if got < exact {
			return fmt.Errorf("%d entries of priority %d or higher are served, %d under exact", got, priority, exact)
		}
	}
	return nil
}

func (w *ways) priorities() []int64 {
	var out []int64
	for _, j := range w.s.Jobs {
		out = append(out, j.Priority)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// minimumsNotWorse checks that up to every place in the queue, suites get as many of the
// hosts that their minimums guarantee as under PolicyExact.
func minimumsNotWorse(s *Snapshot, p Plan, w *ways) error {
	c := clone(s)
	c.Rules.Policy = PolicyExact
	exact := MakePlan(c)
	got, want := 0, 0
	for i, group := range w.requests() {
		got += w.ofMinimum(p, group)
		want += w.ofMinimum(exact, group)
		if got < want {
			return fmt.Errorf("the first %d groups get %d hosts of their minimums, %d under exact", i+1, got, want)
		}
	}
	return nil
}

// minimumsBest checks that up to every place in the queue, suites get as many of the hosts
// that their minimums guarantee as they can. It follows all sets of hosts that can be in use
// after each group, whichever of its entries have them.
func minimumsBest(_ *Snapshot, p Plan, w *ways) error {
	reachable := map[uint]bool{0: true}
	got, asked := 0, w.asked()
	for i, group := range w.requests() {
		got += w.ofMinimum(p, group)
		counted := map[uint]int{} // the fewest entries of this group with which a set is in use
		for used := range reachable {
			counted[used] = 0
		}
		for _, e := range group {
			for used, n := range maps.Clone(counted) {
				for h, host := range w.open {
					if next := used | 1<<h; n < asked[i] && next != used && w.eligible(e, host) == nil {
						if old, ok := counted[next]; !ok || n+1 < old {
							counted[next] = n + 1
						}
					}
				}
			}
		}
		want := 0
		for used := range counted {
			reachable[used] = true
			want = max(want, bits.OnesCount(used))
		}
		if got != want {
			return fmt.Errorf("the first %d groups get %d hosts of their minimums, they can get %d", i+1, got, want)
		}
	}
	return nil
}

// ofMinimum returns how many entries of a group get hosts in round 1.
func (w *ways) ofMinimum(p Plan, group []*Entry) int {
	return count(p.Assignments, func(a Assignment) bool {
		return a.Round == RoundMinimum && slices.ContainsFunc(group, func(e *Entry) bool { return e.ID == a.Entry })
	})
}

func count(assignments []Assignment, want func(Assignment) bool) int {
	n := 0
	for _, a := range assignments {
		if want(a) {
			n++
		}
	}
	return n
}

func mostPreferred(_ *Snapshot, p Plan, w *ways) error {
	got := 0
	for _, a := range p.Assignments {
		if a.Round != RoundNamed {
			got += w.hits(w.jobs[a.Job], w.rules.hosts[a.Host])
		}
	}
	if want := w.hitsOf(w.served(p)); got != want {
		return fmt.Errorf("the hosts carry %d preferred labels, they can carry %d", got, want)
	}
	return nil
}

// nobodyMore applies a plan without what frees hosts for the next one, and plans again.
func nobodyMore(s *Snapshot, p Plan, _ *ways) error {
	p.Releases, p.Unlocks = nil, nil
	world := clone(s)
	apply(world, p)
	if next := MakePlan(world); len(next.Assignments) > 0 {
		return fmt.Errorf("the next plan serves more:\n%s", next)
	}
	return nil
}

// holdersComeFirst checks that every entry that waits for hosts which were given away in
// this tick is told which entries got them, and that these come first: in the queue, or
// because they were served in an earlier round.
func holdersComeFirst(_ *Snapshot, p Plan, w *ways) error {
	holder, rest := map[HostID]EntryID{}, map[EntryID]bool{}
	for _, a := range p.Assignments {
		holder[a.Host] = a.Entry
		rest[a.Entry] = a.Round == RoundRest
	}
	for _, wait := range p.Waiting {
		e := w.entry(wait.Entry)
		if wait.Reason.Code != Outranked || e.Host != 0 {
			continue
		}
		var better []EntryID
		for _, h := range w.hosts {
			if id := holder[h.ID]; id != 0 && !h.Invalid && w.eligible(e, h) == nil {
				better = append(better, id)
				if rest[id] && w.before(e, w.entry(id)) {
					return fmt.Errorf("entry %d waits for the host of entry %d, which comes later", e.ID, id)
				}
			}
		}
		if len(better) == wait.Reason.GivenAway && len(better) < shownDetails && !namesAll(wait.Reason, better) {
			return fmt.Errorf("entry %d waits for the hosts of %v, but: %s", e.ID, better, wait.Reason)
		}
	}
	return nil
}

func namesAll(r *Reason, entries []EntryID) bool {
	return !slices.ContainsFunc(entries, func(id EntryID) bool { return !slices.Contains(r.details.holders, id) })
}

// TestOptimalServesThePicky has the smallest lab in which the policies differ. The first
// entry may have either host, and the second one only the host that comes first by name.
func TestOptimalServesThePicky(t *testing.T) {
	s := &Snapshot{
		Labels: []Label{{1, "board:a"}, {2, "camera"}},
		Users:  []User{{1, "alice", []ACLID{1}}},
		Hosts: []Host{
			{ID: 1, Hostname: "h1", Ready: true, Labels: []LabelID{1, 2}, ACLs: []ACLID{1}},
			{ID: 2, Hostname: "h2", Ready: true, Labels: []LabelID{1}, ACLs: []ACLID{1}},
		},
		Jobs: []Job{
			{ID: 10, Owner: "alice", User: 1, Priority: 9, SynchCount: 1, Deps: []LabelID{1}},
			{ID: 11, Owner: "alice", User: 1, SynchCount: 1, Deps: []LabelID{1, 2}},
		},
		Entries:  []Entry{{ID: 1, Job: 10, MetaHost: 1}, {ID: 2, Job: 11, MetaHost: 1}},
		Recorder: NewRecorder(nil),
	}
	given := func(policy Policy) map[EntryID]HostID {
		s.Rules.Policy = policy
		got := map[EntryID]HostID{}
		for _, a := range MakePlan(s).Assignments {
			got[a.Entry] = a.Host
		}
		return got
	}
	require.Equal(t, map[EntryID]HostID{1: 1}, given(""))
	require.Equal(t, map[EntryID]HostID{1: 1}, given(PolicyExact))
	require.Equal(t, map[EntryID]HostID{1: 2, 2: 1}, given(PolicyOptimal))
}
