package lifecycle_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/lifecycle"
	"github.com/hostsched/hostsched/scheduler"
)

func jobID(id int64) scheduler.JobID { return scheduler.JobID(id) }

// now is when the sweeps of these tests look.
const now = 1_000_000_000

const second = 1000

// TestDueRuns: when a run is given up, and when it is asked to stop.
func TestDueRuns(t *testing.T) {
	fine := lifecycle.Run{ID: 1, State: "running", LeaseUntil: now + 60*second, Lease: 90 * second, Claimed: now - 100*second, Started: now - 10*second}
	type run = lifecycle.Run
	lose := lifecycle.Decisions{Lose: []lifecycle.RunID{1}}
	unknown := lifecycle.Decisions{Unknown: []lifecycle.RunID{1}}
	stop := func(why lifecycle.Reason) lifecycle.Decisions {
		return lifecycle.Decisions{Stop: []lifecycle.RunStop{{Run: 1, Reason: why}}}
	}
	for _, c := range []struct {
		name   string
		change func(*run)
		want   lifecycle.Decisions
	}{
		{"fine", func(*run) {}, lifecycle.Decisions{}},
		{"within the grace", func(r *run) { r.LeaseUntil = now - 30*second }, lifecycle.Decisions{}},
		{"lost", func(r *run) { r.LeaseUntil = now - 30*second - 1 }, lose},
		{"lost while it finishes", func(r *run) { r.State, r.LeaseUntil = "finishing", now-31*second }, lose},
		{"lost before it began", func(r *run) { r.State, r.Started, r.LeaseUntil = "claimed", 0, now-31*second }, lose},
		{"lost although it was to stop", func(r *run) { r.LeaseUntil, r.EntryAborted, r.StopSince = now-31*second, true, now-60*second }, lose},
		{"within the grace of a short lease", func(r *run) { r.Lease, r.LeaseUntil = 2*second, now-2*second }, lifecycle.Decisions{}},
		{"lost after a short lease", func(r *run) { r.Lease, r.LeaseUntil = 2*second, now-2*second-1 }, lose},
		{"its agent called when it was claimed", func(r *run) { r.AgentSeen = now + 15*second }, lifecycle.Decisions{}},
		{"its agent calls, and never names it", func(r *run) { r.AgentSeen = now + 15*second + 1 }, unknown},
		{"its agent names it, but it does not stop", func(r *run) { r.AgentSeen, r.StopSince = now+20*second, now-lifecycle.StopPatience }, lifecycle.Decisions{}},
		{"aborted", func(r *run) { r.EntryAborted = true }, stop("aborted")},
		{"aborted before it began", func(r *run) { r.State, r.Started, r.EntryAborted = "claimed", 0, true }, stop("aborted")},
		{"asked already", func(r *run) { r.EntryAborted, r.StopSince = true, now-1 }, lifecycle.Decisions{}},
		{"aborted, and it ended", func(r *run) { r.EntryAborted, r.State = true, "finishing" }, lifecycle.Decisions{}},
		{"a repair goes on", func(r *run) { r.EntryAborted, r.Repair = true, true }, lifecycle.Decisions{}},
		{"a repair that is aborted itself", func(r *run) { r.TaskAborted, r.Repair = true, true }, stop("aborted")},
		{"its time is over, but its claimant may see that", func(r *run) { r.Hard, r.Started = 60*second, now-90*second }, lifecycle.Decisions{}},
		{"its time is over", func(r *run) { r.Hard, r.Started = 60*second, now-90*second-1 }, stop("timeout")},
		{"its time is over before it began", func(r *run) { r.Hard, r.Claimed, r.Started = 60*second, now-91*second, 0 }, stop("timeout")},
		{"reserved", func(r *run) { r.Until = now + 1 }, lifecycle.Decisions{}},
		{"no longer reserved", func(r *run) { r.Until = now }, stop("timeout")},
		{"its agent is to stop", func(r *run) { r.AgentStops = true }, stop("agent-stop")},
	} {
		r := fine
		c.change(&r)
		require.Equal(t, c.want, lifecycle.Due(picture(lifecycle.Picture{Runs: []run{r}})), c.name)
	}
}

// picture completes one with what does not matter.
func picture(p lifecycle.Picture) lifecycle.Picture {
	p.Now, p.Rechecked = now, now
	return p
}

// TestNothingIsLostWhileTheServersWereAway: runs whose leases ended meanwhile get a whole
// lease to be heard of again.
func TestNothingIsLostWhileTheServersWereAway(t *testing.T) {
	p := picture(lifecycle.Picture{Runs: []lifecycle.Run{{ID: 1, State: "running", LeaseUntil: now - 600*second, Lease: 600 * second}}, NoLossBefore: now + 1})
	require.Empty(t, lifecycle.Due(p).Lose)
	p.NoLossBefore = now
	require.Equal(t, []lifecycle.RunID{1}, lifecycle.Due(p).Lose)
}

// TestMayRenew: a run that does not stop loses its lease in the end.
func TestMayRenew(t *testing.T) {
	r := lifecycle.Run{State: "running"}
	require.True(t, r.MayRenew(now))
	r.StopSince = now - lifecycle.StopPatience + 1
	require.True(t, r.MayRenew(now))
	r.StopSince--
	require.False(t, r.MayRenew(now))
	r.State = "finishing"
	require.True(t, r.MayRenew(now), "its process has ended")
}

// TestDueEntries: what the sweeps do about entries.
func TestDueEntries(t *testing.T) {
	type waiting = lifecycle.Waiting
	aborted := func(e lifecycle.Entry) lifecycle.Entry { e.Aborted = true; return e }
	claimed := func(e lifecycle.Entry) lifecycle.Entry { e.Claimed = true; return e }
	queued := lifecycle.Entry{Status: "Queued", AnyHost: true}
	given := entry(1, "Queued")
	given.Active = true
	step := func(ev lifecycle.Event) lifecycle.Decisions {
		return lifecycle.Decisions{Steps: []lifecycle.Step{{Job: 2, Event: ev}}}
	}
	nothing := lifecycle.Decisions{}
	timedOut := lifecycle.Decisions{TimedOut: []scheduler.EntryID{1}}
	for _, c := range []struct {
		name string
		w    waiting
		want lifecycle.Decisions
	}{
		{"waits", waiting{Entry: queued}, nothing},
		{"waits for its tasks", waiting{Entry: given, Tasks: 1}, nothing},
		{"runs", waiting{Entry: claimed(entry(1, "Running"))}, nothing},
		{"waits for a claimant", waiting{Entry: entry(1, "Starting")}, nothing},
		{"complete", waiting{Entry: aborted(entry(1, "Aborted")), Deadline: 1}, nothing},

		{"aborted while it waits", waiting{Entry: aborted(queued)}, step(lifecycle.Abort{Entry: 1})},
		{"aborted with tasks that wait", waiting{Entry: aborted(given), Tasks: 2}, step(lifecycle.Abort{Entry: 1})},
		{"aborted with a task that runs", waiting{Entry: aborted(entry(1, "Resetting")), Tasks: 1, Working: 1}, nothing},
		{"aborted without its task", waiting{Entry: aborted(entry(1, "Resetting"))}, step(lifecycle.Abort{Entry: 1})},
		{"aborted before anybody took it up", waiting{Entry: aborted(entry(1, "Starting"))}, step(lifecycle.Abort{Entry: 1})},
		{"aborted while it runs", waiting{Entry: aborted(claimed(entry(1, "Running")))}, nothing},
		{"aborted, and its run is gone", waiting{Entry: aborted(entry(1, "Running"))}, step(lifecycle.Stranded{Entry: 1})},

		{"too old", waiting{Entry: queued, Deadline: now - 1}, timedOut},
		{"too old while it runs", waiting{Entry: claimed(entry(1, "Running")), Deadline: now - 1}, timedOut},
		{"too old, and was told", waiting{Entry: aborted(claimed(entry(1, "Running"))), Deadline: now - 1}, nothing},
		{"just not too old", waiting{Entry: queued, Deadline: now}, nothing},

		{"its submitter waits", waiting{Entry: entry(1, "Starting"), OwnSeen: now - 60*second}, nothing},
		{"its submitter is gone", waiting{Entry: entry(1, "Starting"), OwnSeen: now - 61*second}, lifecycle.Decisions{Deserted: []scheduler.EntryID{1}}},
		{"its submitter runs it", waiting{Entry: claimed(entry(1, "Running")), OwnSeen: now - 61*second}, nothing},

		{"no tasks are left", waiting{Entry: entry(1, "Verifying")}, step(lifecycle.Stranded{Entry: 1})},
		{"no tasks are left before the first began", waiting{Entry: given}, step(lifecycle.Stranded{Entry: 1})},
		{"no run is left", waiting{Entry: entry(1, "Running")}, step(lifecycle.Stranded{Entry: 1})},
		{"it could not be provisioned", waiting{Entry: entry(1, "Parsing")}, step(lifecycle.Stranded{Entry: 1})},

		{"a suite goes on", waiting{Entry: lifecycle.Entry{Status: "Queued"}, Children: 3, Open: 1}, nothing},
		{"a suite passed", waiting{Entry: lifecycle.Entry{Status: "Queued"}, Children: 3}, step(lifecycle.HostlessEnded{Entry: 1, OK: true})},
		{"a suite failed", waiting{Entry: lifecycle.Entry{Status: "Queued"}, Children: 3, Failed: 1}, step(lifecycle.HostlessEnded{Entry: 1})},
		{"a program of Autotest's own server", waiting{Entry: lifecycle.Entry{Status: "Queued"}}, step(lifecycle.HostlessEnded{Entry: 1})},
	} {
		c.w.ID, c.w.Job = 1, 2
		require.Equal(t, c.want, lifecycle.Due(picture(lifecycle.Picture{Entries: []waiting{c.w}})), c.name)
	}
}

// TestDueJobsHostsAndTasks: what was left halfway.
func TestDueJobsHostsAndTasks(t *testing.T) {
	type statuses = []scheduler.EntryStatus
	for _, c := range []struct {
		synch int
		all   statuses
		want  bool
	}{
		{1, statuses{"Pending"}, true},
		{2, statuses{"Pending", "Pending"}, true},
		{2, statuses{"Pending", "Queued"}, false},
		{2, statuses{"Pending", "Cleaning"}, true}, // as in Autotest,
		{2, statuses{"Pending", "Aborted"}, true},
		{2, statuses{"Pending", "Running", "Running"}, true},
		{2, statuses{"Queued", "Aborted"}, false},
		{2, statuses{"Running", "Running"}, false},
	} {
		d := lifecycle.Due(picture(lifecycle.Picture{Jobs: []lifecycle.SweptJob{{ID: 2, SynchCount: c.synch, Statuses: c.all}}}))
		require.Equal(t, c.want, len(d.Steps) == 1, "%d of %v", c.synch, c.all)
	}
	for _, c := range []struct {
		host lifecycle.SweptHost
		want bool
	}{
		{lifecycle.SweptHost{Status: "Cleaning"}, true},
		{lifecycle.SweptHost{Status: "Running"}, true},
		{lifecycle.SweptHost{Status: "Pending"}, true},
		{lifecycle.SweptHost{Status: "Running", Used: true}, false},
		{lifecycle.SweptHost{Status: "Running", Tasks: 1}, false},
		{lifecycle.SweptHost{Status: "Ready"}, false},
		{lifecycle.SweptHost{Status: "Repair Failed"}, false},
	} {
		d := lifecycle.Due(picture(lifecycle.Picture{Hosts: []lifecycle.SweptHost{c.host}}))
		require.Equal(t, c.want, len(d.Steps) == 1, "%+v", c.host)
	}
	d := lifecycle.Due(picture(lifecycle.Picture{Tasks: []lifecycle.SweptTask{{ID: 5, Job: 2, Host: 3}, {ID: 6, Host: 4, Claimed: true}}}))
	require.Equal(t, []lifecycle.Step{{Job: 2, Host: 3, Event: lifecycle.TaskEnded{Task: 5, Lost: true}}}, d.Steps)
}

// TestRecheck: every host that could not be repaired has its turn.
func TestRecheck(t *testing.T) {
	var p lifecycle.Picture
	for id := range scheduler.HostID(100) {
		p.Hosts = append(p.Hosts, lifecycle.SweptHost{ID: id + 1, Status: "Repair Failed", Locked: id == 0})
	}
	p.Now = now
	p.Rechecked = now - lifecycle.RecheckEvery + 1
	require.Equal(t, lifecycle.Decisions{}, lifecycle.Due(p))
	seen := map[scheduler.HostID]bool{}
	for range 4 {
		p.Rechecked, p.Now = p.Now, p.Now+lifecycle.RecheckEvery
		d := lifecycle.Due(p)
		require.True(t, d.Recheck)
		require.Len(t, d.Steps, lifecycle.RecheckHosts)
		for _, s := range d.Steps {
			seen[s.Host] = true
		}
	}
	require.Len(t, seen, 99)
	require.NotContains(t, seen, scheduler.HostID(1), "it is locked")
}
