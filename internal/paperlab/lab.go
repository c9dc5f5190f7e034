package paperlab

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/hostsched/hostsched/scheduler"
)

// Spec describes a lab of 50 boards, 3 pools, 6 capabilities and 100 suites, half of them
// with a minimum.
type Spec struct {
	Hosts, Entries int
	// Capabilities says how likely a host has each capability. Jobs ask for all of them
	// equally often.
	Capabilities []float64
}

// The capabilities of hosts: each in half of them, or some in few.
var (
	Balanced = []float64{0.5, 0.5, 0.5, 0.5, 0.5, 0.5}
	Unequal  = []float64{0.5, 0.3, 0.2, 0.1, 0.07, 0.05}
)

const (
	boards = 50
	pools  = 3
	suites = 100
)

// labels makes labels and remembers their ids.
type labels struct {
	all                                 []scheduler.Label
	boards, builds, pools, capabilities []scheduler.LabelID
}

func (l *labels) add(format string, args ...any) scheduler.LabelID {
	id := scheduler.LabelID(len(l.all) + 1)
	l.all = append(l.all, scheduler.Label{ID: id, Name: fmt.Sprintf(format, args...)})
	return id
}

func newLabels(capabilities int) *labels {
	l := &labels{}
	for b := range boards {
		l.boards = append(l.boards, l.add("board:b%d", b))
		l.builds = append(l.builds, l.add("cros-version:b%d/R1", b))
	}
	for p := range pools {
		l.pools = append(l.pools, l.add("pool:p%d", p))
	}
	for c := range capabilities {
		l.capabilities = append(l.capabilities, l.add("cap%d", c))
	}
	return l
}

var users = []scheduler.User{
	{ID: 1, Login: "alice", ACLs: []scheduler.ACLID{1}},
	{ID: 2, Login: "bob", ACLs: []scheduler.ACLID{1, 2}},
	{ID: 3, Login: "carol", ACLs: []scheduler.ACLID{1, 3}},
}

// Snapshot generates the lab with all hosts free and all entries waiting.
func (spec Spec) Snapshot() *scheduler.Snapshot {
	rng := rand.New(rand.NewPCG(1, 2))
	l := newLabels(len(spec.Capabilities))
	s := &scheduler.Snapshot{Users: users, Labels: l.all, Recorder: scheduler.NewRecorder(nil)}
	for i := range spec.Hosts {
		b := i % boards
		h := scheduler.Host{
			ID: scheduler.HostID(i + 1), Hostname: fmt.Sprintf("b%d-host%d", b, i), Ready: true, ACLs: []scheduler.ACLID{1, scheduler.ACLID(1 + i%3)},
			Labels: []scheduler.LabelID{l.boards[b], l.pools[i/boards%pools]},
		}
		if rng.IntN(3) == 0 {
			h.Labels = append(h.Labels, l.builds[b])
		}
		for c, share := range spec.Capabilities {
			if float64(rng.IntN(100)) < 100*share {
				h.Labels = append(h.Labels, l.capabilities[c])
			}
		}
		s.Hosts = append(s.Hosts, h)
	}
	for suite := range suites {
		if suite%2 == 0 {
			s.Minimums = append(s.Minimums, scheduler.Minimum{Suite: scheduler.JobID(suite + 1), Value: fmt.Sprint(spec.Hosts / 500)})
		}
	}
	for i := range spec.Entries {
		suite := i * suites / spec.Entries // the entries of a suite are consecutive
		b, owner := suite%boards, users[suite%len(users)]
		job := scheduler.Job{
			ID: scheduler.JobID(1000 + i), Owner: owner.Login, User: owner.ID, Priority: int64(10 * (suite % 5)), Parent: scheduler.JobID(suite + 1), SynchCount: 1,
			RunReset: true, RebootBefore: scheduler.RebootIfDirty, Deps: []scheduler.LabelID{l.boards[b], l.pools[rng.IntN(pools)], l.builds[b]},
		}
		for range rng.IntN(3) {
			job.Deps = append(job.Deps, l.capabilities[rng.IntN(len(l.capabilities))])
		}
		s.Jobs = append(s.Jobs, job)
		s.Entries = append(s.Entries, scheduler.Entry{ID: scheduler.EntryID(i + 1), Job: job.ID, MetaHost: l.boards[b]})
	}
	return asRead(s)
}

// asRead arranges a snapshot as the store does, because the speed of a plan depends on it.
// The hosts are in order, and the labels of neighbours are next to each other in memory.
func asRead(s *scheduler.Snapshot) *scheduler.Snapshot {
	slices.SortFunc(s.Hosts, func(a, b scheduler.Host) int { return scheduler.CompareHosts(&a, &b) })
	var all []scheduler.LabelID
	together := func(list []scheduler.LabelID) []scheduler.LabelID {
		all = append(all, list...)
		return all[len(all)-len(list) : len(all) : len(all)]
	}
	for i := range s.Hosts {
		s.Hosts[i].Labels = together(s.Hosts[i].Labels)
	}
	for i := range s.Jobs {
		s.Jobs[i].Deps = together(s.Jobs[i].Deps)
	}
	return s
}
