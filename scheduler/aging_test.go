package scheduler

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// agingProperties are true of plans in labs where jobs gain priority by waiting.
var agingProperties = []property{
	{"aging: points for every hour", agesAsPriority, mutateRules(func(r *Rules) { r.Aging = 0 })},
	{"aging: points for whole hours only", agesAsPriority, mutateRules(func(r *Rules) { r.Aging *= 2 })},
}

// agesAsPriority checks that jobs that have waited are planned like jobs that had so many
// points more from the beginning.
func agesAsPriority(s *Snapshot, plan planFunc) error {
	s = clone(s)
	s.Holds = nil // they depend on the time, too
	raised := clone(s)
	s.Now, s.Rules.Aging = 1_000_000, 0.5
	for i := range s.Jobs {
		j := &s.Jobs[i]
		hours := int64(j.ID*7+JobID(len(s.Hosts))) % 9
		j.Created = s.Now - hours*3600 - 1
		raised.Jobs[i].Priority += hours / 2
	}
	got, want := plan(s), MakePlan(raised)
	for i := range got.Assignments {
		got.Assignments[i].Priority, got.Assignments[i].QueuedSeconds = 0, 0
	}
	for i := range want.Assignments {
		want.Assignments[i].Priority, want.Assignments[i].QueuedSeconds = 0, 0
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		return errors.New(diff)
	}
	return nil
}

func TestRank(t *testing.T) {
	const hour = 3600
	for _, c := range []struct {
		aging    float64
		priority int64
		waited   int64
		want     int64
	}{
		{0, 10, 100 * hour, 10},
		{2, 10, 3 * hour, 16},
		{0.5, 10, 3*hour - 1, 11},
		{2, 10, -5 * hour, 10}, // created by a clock that is ahead
		{2, NoPriority, hour / 4, NoPriority},
		{2, NoPriority, 3 * hour, 6},
		{2, -10, 3 * hour, -4},
		{2, math.MaxInt64, 3 * hour, math.MaxInt64},
		{2, math.MaxInt64 - 6, 3 * hour, math.MaxInt64},
		{2, math.MaxInt64 - 7, 3 * hour, math.MaxInt64 - 1},
		{2, math.MinInt64, 3 * hour, math.MinInt64 + 6},
		{1e30, 10, 3 * hour, 1<<62 + 10},
		{1e30, math.MaxInt64, 3 * hour, math.MaxInt64},
	} {
		s := &Snapshot{Now: 1_000_000, Rules: Rules{Aging: c.aging}}
		require.Equal(t, c.want, s.rank(&Job{Priority: c.priority, Created: s.Now - c.waited}), "%+v", c)
	}
	unknown := &Snapshot{Now: 1_000_000, Rules: Rules{Aging: 2}}
	require.Equal(t, int64(10), unknown.rank(&Job{Priority: 10}), "nobody knows when the job was created")
}

// TestHighestPriorityComesFirst: a job of the highest priority that the database can hold comes
// before all others also after it has waited.
func TestHighestPriorityComesFirst(t *testing.T) {
	s := &Snapshot{
		Now: 1_000_000, Rules: Rules{Aging: 5}, Users: []User{{1, "alice", []ACLID{1}}},
		Jobs: []Job{
			{ID: 1, Owner: "alice", User: 1, SynchCount: 1, Created: 1_000_000 - 7200},
			{ID: 2, Owner: "alice", User: 1, SynchCount: 1, Created: 1_000_000 - 7200, Priority: math.MaxInt64},
		},
		Entries: []Entry{{ID: 1, Job: 1, MetaHost: 1}, {ID: 2, Job: 2, MetaHost: 1}},
		Hosts:   []Host{{ID: 1, Hostname: "h1", Ready: true, ACLs: []ACLID{1}}},
	}
	for _, s.Rules.Policy = range []Policy{PolicyExact, PolicyOptimal} {
		p := MakePlan(s)
		require.Len(t, p.Assignments, 1)
		require.EqualValues(t, 2, p.Assignments[0].Entry, "under %s", s.Rules.Policy)
	}
}

// TestNobodyWaitsForEver lets jobs of the highest priority arrive for ever, as many as the
// hosts can run. A job of the lowest priority that can run must run once it has gained the
// difference, as soon as one of its hosts is free. Without aging it would wait for ever.
func TestNobodyWaitsForEver(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := rapid.SampledFrom([]Policy{PolicyExact, PolicyOptimal}).Draw(t, "policy")
		hosts := rapid.IntRange(1, 4).Draw(t, "hosts")
		picky := rapid.IntRange(1, hosts).Draw(t, "hosts of the job that waits")
		priority := rapid.Int64Range(1, 5).Draw(t, "priority of the others")
		require.LessOrEqual(t, hoursUntilServed(policy, 1, hosts, picky, priority), priority+1)
		require.Equal(t, int64(never), hoursUntilServed(policy, 0, hosts, picky, priority))
	})
}

const never = 50

// hoursUntilServed plays one tick an hour, in which every host becomes free and as many
// jobs of the given priority arrive as there are hosts. It returns when the job of
// priority 0 is served, which only the first picky hosts can run.
func hoursUntilServed(policy Policy, aging float64, hosts, picky int, priority int64) int64 {
	const waiting = 1
	s := &Snapshot{
		Rules: Rules{Policy: policy, Aging: aging}, Labels: []Label{{1, "camera"}}, Users: []User{{1, "alice", []ACLID{1}}},
		Jobs:     []Job{{ID: waiting, Owner: "alice", User: 1, SynchCount: 1, Deps: []LabelID{1}, Created: 1}},
		Entries:  []Entry{{ID: waiting, Job: waiting, MetaHost: 1}},
		Recorder: NewRecorder(nil),
	}
	for i := range hosts {
		h := Host{ID: HostID(i + 1), Hostname: fmt.Sprintf("h%d", i), Ready: true, ACLs: []ACLID{1}}
		if i < picky {
			h.Labels = []LabelID{1}
		}
		s.Hosts = append(s.Hosts, h)
	}
	next := JobID(waiting + 1)
	for hour := int64(0); hour < never; hour++ {
		s.Now = 1 + hour*secondsPerHour
		for range hosts {
			s.Jobs = append(s.Jobs, Job{ID: next, Owner: "alice", User: 1, Priority: priority, SynchCount: 1, Created: s.Now})
			s.Entries = append(s.Entries, Entry{ID: EntryID(next), Job: next, MetaHost: 1})
			next++
		}
		for _, a := range MakePlan(s).Assignments {
			if a.Job == waiting {
				return hour
			}
			s.Entries = slices.DeleteFunc(s.Entries, func(e Entry) bool { return e.ID == a.Entry })
			s.Jobs = slices.DeleteFunc(s.Jobs, func(j Job) bool { return j.ID == a.Job })
		}
	}
	return never
}
