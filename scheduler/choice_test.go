package scheduler

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// repeatedLabs generates labs whose suites are guaranteed a few hosts, and whose jobs have
// had hosts that are free again, so that it matters for which of them a minimum is.
func repeatedLabs() *rapid.Generator[*Snapshot] {
	return rapid.Custom(func(t *rapid.T) *Snapshot {
		s := &Snapshot{Labels: []Label{{1, "wifi"}, {2, "cros-version:1"}}, Users: []User{{1, "alice", []ACLID{1}}}, Recorder: NewRecorder(nil)}
		hosts := rapid.IntRange(1, 5).Draw(t, "hosts")
		for id := range hosts {
			s.Hosts = append(s.Hosts, Host{
				ID: HostID(id + 1), Hostname: fmt.Sprint("h", id+1), Status: HostReady, Ready: true, ACLs: []ACLID{1},
				Labels: some(t, []LabelID{1, 2}, 50),
			})
		}
		entry := EntryID(1)
		for suite := JobID(1); suite <= 3; suite++ {
			s.Minimums = append(s.Minimums, Minimum{suite, rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "minimum")})
			for range rapid.IntRange(0, 3).Draw(t, "jobs") {
				job := Job{ID: 10 + JobID(entry), User: 1, Owner: "alice", Parent: suite, SynchCount: 1, Deps: some(t, []LabelID{1, 2}, 15)}
				s.Jobs = append(s.Jobs, job)
				s.Entries = append(s.Entries, Entry{ID: entry, Job: job.ID, MetaHost: 1})
				entry++
				for id := range hosts {
					if chance(t, 30) {
						s.Siblings = append(s.Siblings, Sibling{ID: entry, Job: job.ID, Host: HostID(id + 1), Status: "Completed", Subdir: "group0"})
						entry++
					}
				}
			}
		}
		return s
	})
}

// wishfulLabs generates labs whose jobs want builds and firmware that some hosts carry, and have
// had hosts that are free again. So it matters who gets which host, also for those who come
// later.
func wishfulLabs() *rapid.Generator[*Snapshot] {
	return rapid.Custom(func(t *rapid.T) *Snapshot {
		s := &Snapshot{Labels: []Label{{1, "wifi"}, {2, "cros-version:1"}, {3, "fwrw-version:1"}}, Users: []User{{1, "alice", []ACLID{1}}}, Recorder: NewRecorder(nil)}
		hosts := rapid.IntRange(2, 6).Draw(t, "hosts")
		for id := range hosts {
			s.Hosts = append(s.Hosts, Host{
				ID: HostID(id + 1), Hostname: fmt.Sprint("h", id+1), Status: HostReady, Ready: true, ACLs: []ACLID{1}, Labels: some(t, []LabelID{1, 2, 3}, 50),
			})
		}
		tried := EntryID(100)
		for id := range rapid.IntRange(2, 7).Draw(t, "jobs") {
			job := Job{ID: JobID(id + 1), User: 1, Owner: "alice", SynchCount: 1, Deps: append(some(t, []LabelID{1}, 20), some(t, []LabelID{2, 3}, 60)...)}
			s.Jobs = append(s.Jobs, job)
			s.Entries = append(s.Entries, Entry{ID: EntryID(id + 1), Job: job.ID, MetaHost: 1})
			for _, host := range some(t, s.Hosts, 30) {
				s.Siblings = append(s.Siblings, Sibling{ID: tried, Job: job.ID, Host: host.ID, Status: "Completed"})
				tried++
			}
		}
		return s
	})
}

// TestWishesOfRetries: hosts are given away in the best way too if jobs may not have the same
// of them.
func TestWishesOfRetries(t *testing.T) {
	requireAll(t, optimalProperties, wishfulLabs())
}

// TestMinimumsOfPartOfAGroup: a minimum that is for some entries of a group only is for those
// that leave most to other suites.
func TestMinimumsOfPartOfAGroup(t *testing.T) {
	requireAll(t, optimalProperties, repeatedLabs())
}

// TestMinimumsOfTheFirstOfAGroup: a minimum that always is for the first entries of a group
// gives suites fewer hosts, in some of the labs of the test above.
func TestMinimumsOfTheFirstOfAGroup(t *testing.T) {
	gen := repeatedLabs()
	for seed := range mutantTries {
		if err := optimal(minimumsBest)(gen.Example(seed), onCopy(mutate(keepFirst))); err != nil {
			t.Logf("lab %d: %v", seed, err)
			return
		}
	}
	t.Fatalf("no worse in %d labs", mutantTries)
}

// keepFirst leaves a group no more entries than its minimum is for.
func keepFirst(s *Snapshot) {
	w := waysOf(s)
	var kept []Entry
	for i, group := range w.requests() {
		for _, e := range group[:w.asked()[i]] {
			kept = append(kept, *e)
		}
	}
	s.Entries = kept
}

// TestMinimumThatLeavesAHost has the smallest lab in which it matters: one entry of the first
// suite may have the one host, its other entry the other one, and so may the second suite.
func TestMinimumThatLeavesAHost(t *testing.T) {
	s := &Snapshot{
		Labels:   []Label{{1, "wifi"}},
		Users:    []User{{1, "alice", []ACLID{1}}},
		Minimums: []Minimum{{1, "1"}, {2, "1"}},
		Jobs: []Job{
			{ID: 10, Owner: "alice", User: 1, Parent: 1, SynchCount: 1}, {ID: 11, Owner: "alice", User: 1, Parent: 1, SynchCount: 1},
			{ID: 12, Owner: "alice", User: 1, Parent: 2, SynchCount: 1, Deps: []LabelID{1}},
		},
		Entries: []Entry{{ID: 1, Job: 10, MetaHost: 1}, {ID: 2, Job: 11, MetaHost: 1}, {ID: 3, Job: 12, MetaHost: 1}},
		Siblings: []Sibling{
			{ID: 4, Job: 10, Host: 1, Status: "Completed", Subdir: "group0"}, {ID: 5, Job: 11, Host: 2, Status: "Completed", Subdir: "group0"},
		},
		Recorder: NewRecorder(nil), Rules: Rules{Policy: PolicyOptimal},
	}
	for id := HostID(1); id <= 2; id++ {
		s.Hosts = append(s.Hosts, Host{ID: id, Hostname: fmt.Sprint("h", id), Status: HostReady, Ready: true, ACLs: []ACLID{1}})
	}
	s.Hosts[1].Labels = []LabelID{1}
	given := map[EntryID]HostID{}
	for _, a := range MakePlan(s).Assignments {
		given[a.Entry] = a.Host
	}
	require.Equal(t, map[EntryID]HostID{2: 1, 3: 2}, given)
}
