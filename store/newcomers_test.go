package store_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store"
)

// arrivals is a lab with more hosts than work, whose leader has written all of its plan.
type arrivals struct {
	t         *testing.T
	db        *store.DB
	lab       *simlab.Lab
	leader    *store.Leader
	snapshots *store.Snapshots
	scope     store.Scope
}

func newArrivals(t *testing.T, policy scheduler.Policy) *arrivals {
	t.Helper()
	a := &arrivals{t: t, db: storetest.NewServerLab(t), scope: storetest.WholeLab}
	a.scope.Rules.Policy = policy
	var err error
	a.lab, err = simlab.Create(t.Context(), a.db.SQL(), simlab.Spec{Seed: 5, Hosts: 400, Boards: 3, Suites: 4, Entries: 250, MinimumShare: 0.3})
	require.NoError(t, err)
	a.leader = storetest.TakeOver(t, a.db, a.scope, 10)
	a.snapshots = a.db.Snapshots(a.scope)
	a.snapshots.TrustTimes()
	a.settle()
	return a
}

// settle ticks until nothing is left to do, in a lab in which nobody writes any more.
func (a *arrivals) settle() {
	a.t.Helper()
	for range 5 {
		quiet(a.t, a.db)
		s, _, err := a.snapshots.Next(a.t.Context())
		require.NoError(a.t, err)
		plan := scheduler.MakePlan(s)
		if plan.Empty() {
			return
		}
		a.snapshots.Given(plan)
		_, err = a.leader.Apply(a.t.Context(), plan)
		require.NoError(a.t, err)
	}
	a.t.Fatal("there is always something to do")
}

// arrive enters a suite and returns its entries.
func (a *arrivals) arrive(n int) (entries []scheduler.EntryID) {
	a.t.Helper()
	before := storetest.Count(a.t, a.db, "SELECT MAX(id) FROM afe_host_queue_entries")
	require.NoError(a.t, a.lab.AddSuite(a.t.Context(), a.db.SQL(), n))
	last := storetest.Count(a.t, a.db, "SELECT MAX(id) FROM afe_host_queue_entries")
	for id := before + 1; id <= last; id++ {
		entries = append(entries, scheduler.EntryID(id))
	}
	return entries
}

func (a *arrivals) newcomers(entries []scheduler.EntryID) *scheduler.Snapshot {
	a.t.Helper()
	s, err := a.snapshots.Newcomers(a.t.Context(), entries)
	require.NoError(a.t, err)
	return s
}

func given(plan scheduler.Plan) (entries []scheduler.EntryID) {
	for _, as := range plan.Assignments {
		entries = append(entries, as.Entry)
	}
	slices.Sort(entries)
	return entries
}

// TestNewcomersGetWhatIsLeft: those get a host, and no others, who would get one if
// everything was read anew; nobody who waits is passed over, and no host is given twice.
func TestNewcomersGetWhatIsLeft(t *testing.T) {
	for _, policy := range []scheduler.Policy{scheduler.PolicyExact, scheduler.PolicyOptimal} {
		t.Run(string(policy), func(t *testing.T) {
			a := newArrivals(t, policy)
			served := 0
			for range 4 {
				entries := a.arrive(12)
				s := a.newcomers(entries)
				require.NotNil(t, s)
				plan := scheduler.MakePlan(s)
				cold, err := a.db.Snapshot(t.Context(), a.scope)
				require.NoError(t, err)
				whole := scheduler.MakePlan(cold)
				synch := map[scheduler.JobID]bool{}
				for _, job := range cold.Jobs {
					synch[job.ID] = job.SynchCount > 1
				}
				whole.Assignments = slices.DeleteFunc(whole.Assignments, func(as scheduler.Assignment) bool { return synch[as.Job] || as.Named })
				alone := plan
				alone.Assignments = slices.DeleteFunc(slices.Clone(plan.Assignments), func(as scheduler.Assignment) bool { return as.Named })
				require.Equal(t, given(whole), given(alone))
				a.snapshots.Given(plan)
				res, err := a.leader.Apply(t.Context(), scheduler.Plan{Assignments: plan.Assignments, Changes: plan.Changes, Basis: plan.Basis})
				require.NoError(t, err)
				require.Empty(t, res.Conflicts)
				served += len(res.Applied.Assignments)
			}
			require.Greater(t, served, 10)
			require.Zero(t, storetest.Count(t, a.db, "SELECT COUNT(*) FROM (SELECT host_id FROM afe_host_queue_entries WHERE active = 1 GROUP BY host_id HAVING COUNT(*) > 1) twice"))
			next, _, err := a.snapshots.Next(t.Context())
			require.NoError(t, err)
			cold, err := a.db.Snapshot(t.Context(), a.scope)
			require.NoError(t, err)
			require.Equal(t, comparable(cold), comparable(next), "the next whole snapshot sees what was done in between")
		})
	}
}

// TestWhatNewcomersCannotDecide is left for the next whole snapshot.
func TestWhatNewcomersCannotDecide(t *testing.T) {
	a := newArrivals(t, scheduler.PolicyOptimal)
	entries := a.arrive(12)
	require.NotNil(t, a.newcomers(entries))
	require.Nil(t, a.newcomers([]scheduler.EntryID{99_999_999, -1, 0}), "no such entries")
	storetest.Exec(t, a.db, "UPDATE afe_host_queue_entries SET aborted = 1 WHERE id IN (?, ?)", entries[0], entries[1])
	require.Nil(t, a.newcomers(entries[:2]), "aborted meanwhile")
	fresh := a.db.Snapshots(a.scope)
	s, err := fresh.Newcomers(t.Context(), entries)
	require.NoError(t, err)
	require.Nil(t, s, "before the first snapshot")
	for _, text := range []string{
		"DELETE FROM afe_hosts_labels WHERE host_id = 7",
		"DELETE FROM afe_acl_groups_users WHERE user_id = 2",
		"UPDATE hostsched_fence SET pause_reason = 'coffee'",
		"UPDATE hostsched_fence SET layout = layout + 1",
	} {
		a.settle()
		quiet(t, a.db)
		entries = a.arrive(3)
		storetest.Exec(t, a.db, text)
		require.Nil(t, a.newcomers(entries), text)
		storetest.Exec(t, a.db, "UPDATE hostsched_fence SET pause_reason = ''")
	}
}

// TestHostsOfNewcomersAreCheckedAgain: what other clients did since the last snapshot.
func TestHostsOfNewcomersAreCheckedAgain(t *testing.T) {
	a := newArrivals(t, scheduler.PolicyOptimal)
	plan := scheduler.MakePlan(a.newcomers(a.arrive(12)))
	require.Greater(t, len(plan.Assignments), 3)
	first := plan.Assignments[:3]
	storetest.Exec(t, a.db, "UPDATE afe_hosts SET locked = 1 WHERE id = ?", first[0].Host)
	drain(t, a.db, int(first[1].Host), "cable", "")
	storetest.Exec(t, a.db, "UPDATE afe_host_queue_entries SET aborted = 1 WHERE id = ?", first[2].Entry)
	res, err := a.leader.Apply(t.Context(), scheduler.Plan{Assignments: plan.Assignments, Changes: plan.Changes, Basis: plan.Basis})
	require.NoError(t, err)
	require.Len(t, res.Conflicts, 3)
	require.Len(t, res.Applied.Assignments, len(plan.Assignments)-3)
}

// TestNewcomersGetNoHostOfAnAgentThatIsAway: what is free is not all that may be given out.
func TestNewcomersGetNoHostOfAnAgentThatIsAway(t *testing.T) {
	a := newArrivals(t, scheduler.PolicyExact)
	storetest.Exec(t, a.db, "INSERT INTO hostsched_agents (name, created, created_by) VALUES ('a1', 1, 'me')")
	storetest.Exec(t, a.db, "INSERT INTO hostsched_agent_hosts (host_id, agent_id) SELECT h.id, a.id FROM afe_hosts h, hostsched_agents a")
	a.scope.Agents = true
	a.snapshots = a.db.Snapshots(a.scope)
	a.snapshots.TrustTimes()
	a.settle()
	if s := a.newcomers(a.arrive(12)); s != nil {
		require.Empty(t, scheduler.MakePlan(s).Assignments)
	}
}
