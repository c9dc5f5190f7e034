package scheduler

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// naive plans a tick in the slow and obvious way, in which every entry looks at every
// host. It shares no code with the planner except for parsing minimums and for telling
// the kind of a label.
type naive struct {
	*rules
	hosts []*Host // by hostname, then id
	given map[EntryID]HostID
	taken map[HostID]bool
	queue []*Entry
	asked map[string]int
}

func naivePlan(s *Snapshot) *naive {
	n := &naive{rules: rulesOf(s), given: map[EntryID]HostID{}, taken: map[HostID]bool{}, asked: map[string]int{}}
	for i := range s.Hosts {
		n.hosts = append(n.hosts, &s.Hosts[i])
	}
	slices.SortFunc(n.hosts, func(a, b *Host) int {
		return cmp.Or(strings.Compare(a.Hostname, b.Hostname), cmp.Compare(a.ID, b.ID))
	})
	for i := range s.Entries {
		n.queue = append(n.queue, &s.Entries[i])
	}
	slices.SortFunc(n.queue, n.order)
	for _, e := range n.queue {
		if e.Host != 0 && n.servable(e) {
			n.serve(e, []*Host{n.rules.hosts[e.Host]})
		}
	}
	n.minimums()
	for _, group := range n.requests() {
		for range len(group) - n.asked[n.request(group[0])] {
			n.serveOne(group)
		}
	}
	return n
}

func (n *naive) order(a, b *Entry) int {
	ja, jb := n.jobs[a.Job], n.jobs[b.Job]
	none := func(id int64) int {
		if id == 0 {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(jb.Priority, ja.Priority), cmp.Compare(none(int64(a.Host)), none(int64(b.Host))),
		cmp.Compare(none(int64(a.MetaHost)), none(int64(b.MetaHost))), cmp.Compare(ja.Parent, jb.Parent), cmp.Compare(a.Job, b.Job), cmp.Compare(a.ID, b.ID))
}

// servable tells whether the owner is known, the suite's minimum can be parsed, and no
// row that the entry needs is contended.
func (n *naive) servable(e *Entry) bool {
	job := n.jobs[e.Job]
	bad := slices.ContainsFunc(n.s.Minimums, func(m Minimum) bool {
		_, ok := parseMinimum(m.Value)
		return m.Suite == job.Parent && !ok
	})
	return n.users[job.User] != nil && !bad && !n.contended(e)
}

// request returns a text that is equal for entries with equal requests for any host.
func (n *naive) request(e *Entry) string {
	job := n.jobs[e.Job]
	kept := slices.DeleteFunc(slices.Sorted(slices.Values(job.Deps)), func(l LabelID) bool {
		kind := DefaultActions().kind(n.name[l])
		return kind != labelRequired && kind != labelProvision
	})
	acls := slices.Sorted(slices.Values(n.users[job.User].ACLs))
	return fmt.Sprint(kept, acls, job.Parent, job.Priority)
}

// requests returns the entries that may get any host, grouped by request, in the order
// in which the groups are served.
func (n *naive) requests() [][]*Entry {
	groups := map[string][]*Entry{}
	var order []string
	for _, e := range n.queue {
		if e.Host != 0 || !n.servable(e) {
			continue
		}
		key := n.request(e)
		if groups[key] == nil {
			order = append(order, key)
		}
		groups[key] = append(groups[key], e)
	}
	var out [][]*Entry
	for _, key := range order {
		out = append(out, groups[key])
	}
	slices.SortStableFunc(out, func(a, b []*Entry) int {
		ja, jb := n.jobs[a[0].Job], n.jobs[b[0].Job]
		return cmp.Or(cmp.Compare(jb.Priority, ja.Priority), cmp.Compare(ja.Parent, jb.Parent))
	})
	return out
}

func (n *naive) minimums() {
	lacks := map[JobID]int{}
	for _, m := range n.s.Minimums {
		v, _ := parseMinimum(m.Value)
		lacks[m.Suite] = max(0, v-n.s.Recorder.Held(m.Suite))
	}
	for _, group := range n.requests() {
		suite := n.jobs[group[0].Job].Parent
		if suite == 0 {
			continue
		}
		want := min(len(group), lacks[suite])
		lacks[suite] -= want
		n.asked[n.request(group[0])] = want
		for range want {
			n.serveOne(group)
		}
	}
}

// serveOne finds the best free host that any entry of the group can use. It assigns the
// host to the first entry that can use it.
func (n *naive) serveOne(group []*Entry) {
	best := slices.Clone(n.hosts)
	slices.SortStableFunc(best, func(a, b *Host) int {
		return cmp.Compare(n.hits(n.jobs[group[0].Job], b), n.hits(n.jobs[group[0].Job], a))
	})
	for _, h := range best {
		for _, e := range group {
			if n.given[e.ID] == 0 && n.serve(e, []*Host{h}) {
				return
			}
		}
	}
}

func (n *naive) serve(e *Entry, hosts []*Host) bool {
	for _, h := range hosts {
		if h == nil || n.taken[h.ID] || !n.free(h) || n.eligible(e, h) != nil || n.siblingGot(e, h) {
			continue
		}
		n.given[e.ID] = h.ID
		n.taken[h.ID] = true
		return true
	}
	return false
}

func (n *naive) siblingGot(e *Entry, h *Host) bool {
	for _, other := range n.queue {
		if other.Job == e.Job && n.given[other.ID] == h.ID {
			return true
		}
	}
	return false
}

// TestAgainstNaivePlanner compares the planner with the naive one. Both must assign the
// same hosts to the same entries.
func TestAgainstNaivePlanner(t *testing.T) {
	rapid.Check(t, againstNaive)
}

func againstNaive(t *rapid.T) {
	s := labs().Draw(t, "lab")
	s.Rules.Policy = PolicyExact
	p := MakePlan(s)
	got := map[EntryID]HostID{}
	for _, a := range p.Assignments {
		got[a.Entry] = a.Host
	}
	want := naivePlan(s).given
	for _, w := range p.Waiting {
		if w.Reason.Code == JobStopped { // it had got one, and gave it back
			delete(want, w.Entry)
		}
	}
	if !maps.Equal(got, want) {
		t.Fatalf("the planner gives %v, the naive one %v\n%s", got, want, p)
	}
}

// FuzzMakePlan lets the fuzzer look for labs in which the two planners differ.
func FuzzMakePlan(f *testing.F) {
	f.Fuzz(rapid.MakeFuzz(againstNaive))
}

// TestNonsenseNeverPanics plans labs with ids that refer to nothing.
func TestNonsenseNeverPanics(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := labs().Draw(t, "lab")
		id := func() int64 { return rapid.Int64Range(-2, 12).Draw(t, "id") }
		for range rapid.IntRange(1, 6).Draw(t, "changes") {
			spoil(t, s, id)
		}
		p := MakePlan(s)
		if err := noEntryTwice(s, func(*Snapshot) Plan { return p }); err != nil {
			t.Fatal(err)
		}
		_ = p.String()
	})
}

// spoil makes one row refer to something that may not exist.
func spoil(t *rapid.T, s *Snapshot, id func() int64) {
	switch {
	case len(s.Entries) > 0 && chance(t, 30):
		e := &s.Entries[rapid.IntRange(0, len(s.Entries)-1).Draw(t, "entry")]
		e.Job, e.Host, e.MetaHost = JobID(id()), HostID(id()), LabelID(id())
	case len(s.Jobs) > 0 && chance(t, 50):
		j := &s.Jobs[rapid.IntRange(0, len(s.Jobs)-1).Draw(t, "job")]
		j.ID, j.Parent, j.SynchCount, j.Deps = JobID(id()), JobID(id()), int(id()), append(j.Deps, LabelID(id()))
	case len(s.Hosts) > 0 && chance(t, 50):
		h := &s.Hosts[rapid.IntRange(0, len(s.Hosts)-1).Draw(t, "host")]
		h.ID, h.Labels, h.ACLs = HostID(id()), append(h.Labels, LabelID(id())), append(h.ACLs, ACLID(id()))
	default:
		s.Siblings = append(s.Siblings, Sibling{ID: EntryID(id()), Job: JobID(id()), Host: HostID(id()), Status: StatusPending})
		s.TaskHosts = append(s.TaskHosts, HostID(id()))
	}
}
