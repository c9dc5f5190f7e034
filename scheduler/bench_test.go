package scheduler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// benchLab is a lab of 50 boards, 3 pools and 100 suites, half with a minimum.
func benchLab(hosts, entries int) *Snapshot {
	rng := rand.New(rand.NewPCG(1, 2))
	s := &Snapshot{Users: []User{{1, "alice", []ACLID{1}}, {2, "bob", []ACLID{1, 2}}, {3, "carol", []ACLID{1, 3}}}}
	label := func(name string) LabelID {
		s.Labels = append(s.Labels, Label{LabelID(len(s.Labels) + 1), name})
		return LabelID(len(s.Labels))
	}
	var boards, builds, pools, capabilities []LabelID
	for b := range 50 {
		boards = append(boards, label(fmt.Sprintf("board:b%d", b)))
		builds = append(builds, label(fmt.Sprintf("cros-version:b%d/R1", b)))
	}
	for p := range 3 {
		pools = append(pools, label(fmt.Sprintf("pool:p%d", p)))
	}
	for c := range 6 {
		capabilities = append(capabilities, label(fmt.Sprintf("cap%d", c)))
	}
	for i := range hosts {
		b := i % len(boards)
		h := Host{ID: HostID(i + 1), Hostname: fmt.Sprintf("b%d-host%d", b, i), Ready: true, ACLs: []ACLID{1, ACLID(1 + i%3)},
			Labels: []LabelID{boards[b], pools[i/len(boards)%3]}}
		if rng.IntN(3) == 0 {
			h.Labels = append(h.Labels, builds[b])
		}
		for _, c := range capabilities {
			if rng.IntN(2) == 0 {
				h.Labels = append(h.Labels, c)
			}
		}
		s.Hosts = append(s.Hosts, h)
	}
	for i := range 100 {
		if i%2 == 0 {
			s.Minimums = append(s.Minimums, Minimum{JobID(i + 1), fmt.Sprint(hosts / 500)})
		}
	}
	owners := []string{"alice", "bob", "carol"}
	for i := range entries {
		suite := i * 100 / entries // the entries of a suite are consecutive
		b := suite % len(boards)
		job := Job{ID: JobID(1000 + i), Owner: owners[suite%3], Priority: int64(10 * (suite % 5)), Parent: JobID(suite + 1), SynchCount: 1, RunReset: true,
			RebootBefore: RebootIfDirty, Deps: []LabelID{boards[b], pools[rng.IntN(3)], builds[b]}}
		for range rng.IntN(3) {
			job.Deps = append(job.Deps, capabilities[rng.IntN(len(capabilities))])
		}
		s.Jobs = append(s.Jobs, job)
		s.Entries = append(s.Entries, Entry{ID: EntryID(i + 1), Job: job.ID, MetaHost: boards[b]})
	}
	s.Recorder = NewRecorder(nil)
	return asRead(s)
}

// asRead arranges a snapshot as the store does, because the speed depends on it. The
// hosts are in order, and the labels of neighbours are next to each other in memory.
func asRead(s *Snapshot) *Snapshot {
	slices.SortFunc(s.Hosts, func(a, b Host) int { return CompareHosts(&a, &b) })
	var labels []LabelID
	together := func(list []LabelID) []LabelID {
		labels = append(labels, list...)
		return labels[len(labels)-len(list) : len(labels) : len(labels)]
	}
	for i := range s.Hosts {
		s.Hosts[i].Labels = together(s.Hosts[i].Labels)
	}
	for i := range s.Jobs {
		s.Jobs[i].Deps = together(s.Jobs[i].Deps)
	}
	return s
}

func BenchmarkMakePlan(b *testing.B) {
	for _, policy := range []Policy{PolicyExact, PolicyOptimal} {
		for _, size := range []struct{ hosts, entries int }{{1000, 1000}, {1000, 2000}, {10_000, 10_000}, {10_000, 20_000}, {100_000, 200_000}} {
			b.Run(fmt.Sprintf("%s/%dx%d", policy, size.hosts, size.entries), func(b *testing.B) {
				s := benchLab(size.hosts, size.entries)
				s.Rules.Policy = policy
				assigned := 0
				b.ReportAllocs()
				for b.Loop() {
					assigned = len(MakePlan(s).Assignments)
				}
				b.ReportMetric(float64(assigned), "assigned")
			})
		}
	}
}
