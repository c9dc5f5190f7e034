package lifecycle_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/lifecycle"
	"github.com/hostsched/hostsched/scheduler"
)

type (
	entries = map[scheduler.EntryID]lifecycle.Entry
	hosts   = map[scheduler.HostID]lifecycle.Host
	tasks   = map[lifecycle.TaskID]lifecycle.Task
)

const (
	owner  scheduler.UserID = 7
	system scheduler.UserID = 1
)

// entry is one with a host and the flags of its status.
func entry(host scheduler.HostID, status scheduler.EntryStatus) lifecycle.Entry {
	return lifecycle.Entry{Job: 1, Host: host, Status: status, Active: lifecycle.Active(status), Complete: lifecycle.Complete(status), AnyHost: true}
}

func task(kind lifecycle.Kind, host scheduler.HostID, entry scheduler.EntryID) lifecycle.Task {
	return lifecycle.Task{Kind: kind, Host: host, Entry: entry, RequestedBy: owner}
}

func host(status string) lifecycle.Host {
	return lifecycle.Host{Hostname: "host1", Status: status, Dirty: true}
}

// lab is a job that needs one host, and that is reset before it runs.
func lab(e entries, h hosts, t tasks) lifecycle.State {
	return lifecycle.State{
		Job: lifecycle.Job{SynchCount: 1, RunVerify: true, RunReset: true, Owner: owner}, System: system,
		Limits: lifecycle.DefaultLimits(), Entries: e, Hosts: h, Tasks: t,
	}
}

// TestRows plays the tables of Autotest's monitor_db, a row each.
func TestRows(t *testing.T) {
	running := func(t lifecycle.Task) lifecycle.Task { t.Active = true; return t }
	done := func(t lifecycle.Task, ok bool) lifecycle.Task {
		t.Active, t.Complete, t.Success = false, true, ok
		return t
	}
	bySystem := func(t lifecycle.Task) lifecycle.Task { t.RequestedBy = system; return t }
	clean := func(h lifecycle.Host) lifecycle.Host { h.Dirty = false; return h }
	aborted := func(e lifecycle.Entry) lifecycle.Entry { e.Aborted = true; return e }
	named := func(e lifecycle.Entry) lifecycle.Entry { e.AnyHost = false; return e }
	started := func(e lifecycle.Entry) lifecycle.Entry { e.Started = true; return e }
	finished := func(e lifecycle.Entry) lifecycle.Entry { e.Started, e.Finished = true, true; return e }
	subdir := func(e lifecycle.Entry, dir string) lifecycle.Entry { e.Subdir = dir; return e }
	unhosted := func(e lifecycle.Entry) lifecycle.Entry { e.Host = 0; return e }
	claimed := func(e lifecycle.Entry) lifecycle.Entry { e.Claimed = true; return e }
	given := func(e lifecycle.Entry) lifecycle.Entry { e.Active = true; return e }
	provision, reset, cleanup, verify, repair := task(lifecycle.Provision, 1, 1), task(lifecycle.Reset, 1, 1), task(lifecycle.Cleanup, 1, 1), task(lifecycle.Verify, 1, 1), task(lifecycle.Repair, 1, 1)
	alone := func(t lifecycle.Task) lifecycle.Task { t.Entry = 0; return t }
	one := []scheduler.EntryID{1}

	for _, c := range []struct {
		name   string
		before lifecycle.State
		event  lifecycle.Event
		e      entries
		h      hosts
		t      tasks
	}{
		{
			"Provision starts", lab(entries{1: given(entry(1, "Queued"))}, hosts{1: host("Ready")}, tasks{1: provision}),
			lifecycle.TaskStarted{Task: 1}, entries{1: entry(1, "Provisioning")}, hosts{1: host("Provisioning")}, tasks{1: running(provision)},
		},
		{
			"Reset starts, and makes other tasks of nobody's run needless",
			lab(entries{1: given(entry(1, "Queued"))}, hosts{1: host("Ready")}, tasks{1: reset, 2: alone(cleanup), 3: alone(verify), 4: alone(reset), 5: alone(repair), 6: alone(provision)}),
			lifecycle.TaskStarted{Task: 1}, entries{1: entry(1, "Resetting")}, hosts{1: host("Resetting")}, tasks{1: running(reset), 5: alone(repair), 6: alone(provision)},
		},
		{
			"Cleanup starts", lab(entries{1: given(entry(1, "Queued"))}, hosts{1: host("Ready")}, tasks{1: cleanup, 2: alone(verify)}),
			lifecycle.TaskStarted{Task: 1}, entries{1: entry(1, "Cleaning")}, hosts{1: host("Cleaning")}, tasks{1: running(cleanup), 2: alone(verify)},
		},
		{
			"Verify starts, and makes others needless", lab(entries{1: given(entry(1, "Queued"))}, hosts{1: host("Ready")}, tasks{1: verify, 2: alone(verify), 3: alone(cleanup)}),
			lifecycle.TaskStarted{Task: 1}, entries{1: entry(1, "Verifying")}, hosts{1: host("Verifying")}, tasks{1: running(verify), 3: alone(cleanup)},
		},
		{
			"Repair starts; its entry waits", lab(entries{1: unhosted(entry(1, "Queued"))}, hosts{1: host("Resetting")}, tasks{1: repair}),
			lifecycle.TaskStarted{Task: 1}, entries{1: unhosted(entry(1, "Queued"))}, hosts{1: host("Repairing")}, tasks{1: running(repair)},
		},
		{
			"a task ended, others are open", lab(entries{1: entry(1, "Cleaning")}, hosts{1: host("Cleaning")}, tasks{1: running(cleanup), 2: verify}),
			lifecycle.TaskEnded{Task: 1, OK: true}, entries{1: entry(1, "Cleaning")}, hosts{1: clean(host("Ready"))}, tasks{1: done(cleanup, true), 2: verify},
		},
		{
			"Cleanup ended, and the job is verified", lab(entries{1: entry(1, "Cleaning")}, hosts{1: host("Cleaning")}, tasks{1: running(cleanup)}),
			lifecycle.TaskEnded{Task: 1, OK: true}, entries{1: entry(1, "Cleaning")}, hosts{1: clean(host("Ready"))}, tasks{1: done(cleanup, true), -1: verify},
		},
		{
			"the last task ended: the entry is Pending and starts", lab(entries{1: entry(1, "Resetting")}, hosts{1: host("Resetting")}, tasks{1: running(reset)}),
			lifecycle.TaskEnded{Task: 1, OK: true}, entries{1: subdir(entry(1, "Starting"), "host1")}, hosts{1: clean(host("Pending"))}, tasks{1: done(reset, true)},
		},
		{
			"Provision ended: the host stays dirty", lab(entries{1: entry(1, "Provisioning")}, hosts{1: host("Provisioning")}, tasks{1: running(provision)}),
			lifecycle.TaskEnded{Task: 1, OK: true}, entries{1: subdir(entry(1, "Starting"), "host1")}, hosts{1: host("Pending")}, tasks{1: done(provision, true)},
		},
		{
			"a task of nobody's run ended", lab(nil, hosts{1: host("Verifying")}, tasks{1: running(alone(verify))}),
			lifecycle.TaskEnded{Task: 1, OK: true}, entries{}, hosts{1: host("Ready")}, tasks{1: done(alone(verify), true)},
		},
		{
			"a task of nobody's run failed", lab(nil, hosts{1: host("Verifying")}, tasks{1: running(alone(verify))}),
			lifecycle.TaskEnded{Task: 1, OK: false}, entries{}, hosts{1: host("Verifying")}, tasks{1: done(alone(verify), false), -1: alone(repair)},
		},
		{
			"a task failed: the entry waits again, the host is repaired", lab(entries{1: entry(1, "Resetting")}, hosts{1: host("Resetting")}, tasks{1: running(reset)}),
			lifecycle.TaskEnded{Task: 1, OK: false}, entries{1: unhosted(entry(1, "Queued"))}, hosts{1: host("Resetting")}, tasks{1: done(reset, false), -1: repair},
		},
		{
			"a task failed of an entry that names its host", lab(entries{1: named(entry(1, "Verifying"))}, hosts{1: host("Verifying")}, tasks{1: running(verify)}),
			lifecycle.TaskEnded{Task: 1, OK: false}, entries{1: named(entry(1, "Queued"))}, hosts{1: host("Verifying")}, tasks{1: done(verify, false), -1: repair},
		},
		{
			"a task failed, others of the entry are given up", lab(entries{1: entry(1, "Cleaning")}, hosts{1: host("Cleaning")}, tasks{1: running(cleanup), 2: verify}),
			lifecycle.TaskEnded{Task: 1, OK: false}, entries{1: unhosted(entry(1, "Queued"))}, hosts{1: host("Cleaning")}, tasks{1: done(cleanup, false), 2: done(verify, false), -1: repair},
		},
		{
			"Provision failed: the entry fails", lab(entries{1: entry(1, "Provisioning")}, hosts{1: host("Provisioning")}, tasks{1: running(provision)}),
			lifecycle.TaskEnded{Task: 1, OK: false}, entries{1: subdir(entry(1, "Parsing"), "host1")}, hosts{1: host("Provisioning")}, tasks{1: done(provision, false), -1: repair},
		},
		{
			"failed after two repairs", lab(entries{1: entry(1, "Resetting")}, hosts{1: host("Resetting")}, tasks{1: done(repair, true), 2: done(repair, true), 3: running(reset)}),
			lifecycle.TaskEnded{Task: 3, OK: false}, entries{1: unhosted(entry(1, "Queued"))}, hosts{1: host("Repair Failed")}, tasks{1: done(repair, true), 2: done(repair, true), 3: done(reset, false)},
		},
		{
			"failed after two repairs of the host that the entry names", lab(entries{1: named(entry(1, "Resetting"))}, hosts{1: host("Resetting")}, tasks{1: done(repair, true), 2: done(repair, true), 3: running(reset)}),
			lifecycle.TaskEnded{Task: 3, OK: false}, entries{1: named(entry(1, "Failed"))}, hosts{1: host("Repair Failed")}, tasks{1: done(repair, true), 2: done(repair, true), 3: done(reset, false)},
		},
		{
			"a host that is not verified: a failure counts as done", func() lifecycle.State {
				h := host("Resetting")
				h.Protection = scheduler.DoNotVerify
				return lab(entries{1: entry(1, "Resetting")}, hosts{1: h}, tasks{1: running(reset)})
			}(),
			lifecycle.TaskEnded{Task: 1, OK: false}, entries{1: subdir(entry(1, "Starting"), "host1")}, hosts{1: {Hostname: "host1", Status: "Pending", Protection: scheduler.DoNotVerify}}, tasks{1: done(reset, false)},
		},
		{
			"repaired", lab(nil, hosts{1: host("Repairing")}, tasks{1: running(alone(repair))}),
			lifecycle.TaskEnded{Task: 1, OK: true}, entries{}, hosts{1: host("Ready")}, tasks{1: done(alone(repair), true)},
		},
		{
			"not repaired, and the entry names the host", lab(entries{1: named(entry(1, "Queued"))}, hosts{1: host("Repairing")}, tasks{1: running(repair)}),
			lifecycle.TaskEnded{Task: 1, OK: false}, entries{1: named(entry(1, "Failed"))}, hosts{1: host("Repair Failed")}, tasks{1: done(repair, false)},
		},
		{
			"not repaired, and the entry may have another", lab(entries{1: unhosted(entry(1, "Queued"))}, hosts{1: host("Repairing")}, tasks{1: running(repair)}),
			lifecycle.TaskEnded{Task: 1, OK: false}, entries{1: unhosted(entry(1, "Queued"))}, hosts{1: host("Repair Failed")}, tasks{1: done(repair, false)},
		},
		{
			"a run is taken up", lab(entries{1: entry(1, "Starting")}, hosts{1: clean(host("Pending"))}, nil),
			lifecycle.RunClaimed{Entries: one}, entries{1: claimed(entry(1, "Starting"))}, hosts{1: clean(host("Pending"))}, tasks{},
		},
		{
			"the run begins", lab(entries{1: claimed(entry(1, "Starting"))}, hosts{1: clean(host("Pending"))}, nil),
			lifecycle.RunStarted{Entries: one}, entries{1: claimed(started(entry(1, "Running")))}, hosts{1: host("Running")}, tasks{},
		},
		{
			"the run ends", lab(entries{1: started(entry(1, "Running"))}, hosts{1: host("Running")}, nil),
			lifecycle.RunEnded{Entries: one}, entries{1: started(entry(1, "Gathering"))}, hosts{1: host("Running")}, tasks{},
		},
		{
			"gathered; with a reset before each job nothing follows", lab(entries{1: started(entry(1, "Gathering"))}, hosts{1: host("Running")}, nil),
			lifecycle.Gathered{Entries: one, OK: true}, entries{1: started(entry(1, "Parsing"))}, hosts{1: host("Ready")}, tasks{},
		},
		{
			"gathered with failed tests", lab(entries{1: started(entry(1, "Gathering"))}, hosts{1: host("Running")}, nil),
			lifecycle.Gathered{Entries: one, OK: true, TestsFailed: 2}, entries{1: started(entry(1, "Parsing"))}, hosts{1: host("Running")}, tasks{-1: alone(cleanup)},
		},
		{
			"gathered after an abort", lab(entries{1: aborted(started(entry(1, "Gathering")))}, hosts{1: host("Running")}, nil),
			lifecycle.Gathered{Entries: one}, entries{1: aborted(started(entry(1, "Parsing")))}, hosts{1: host("Running")}, tasks{-1: alone(cleanup)},
		},
		{
			"lost: the host is reset by the system", lab(entries{1: started(entry(1, "Gathering"))}, hosts{1: host("Running")}, nil),
			lifecycle.Gathered{Entries: one, Lost: true}, entries{1: started(entry(1, "Parsing"))}, hosts{1: host("Running")}, tasks{-1: bySystem(alone(reset))},
		},
		{
			"the run found the host unusable", lab(entries{1: started(entry(1, "Gathering"))}, hosts{1: host("Running")}, nil),
			lifecycle.Gathered{Entries: one, Unusable: true}, entries{1: started(entry(1, "Parsing"))}, hosts{1: host("Running")}, tasks{-1: alone(repair)},
		},
		{
			"passed", lab(entries{1: started(entry(1, "Parsing"))}, hosts{1: host("Ready")}, nil),
			lifecycle.Parsed{Entries: one, OK: true}, entries{1: finished(entry(1, "Completed"))}, hosts{1: host("Ready")}, tasks{},
		},
		{
			"failed", lab(entries{1: started(entry(1, "Parsing"))}, hosts{1: host("Ready")}, nil),
			lifecycle.Parsed{Entries: one, OK: false}, entries{1: finished(entry(1, "Failed"))}, hosts{1: host("Ready")}, tasks{},
		},
		{
			"failed before it began", lab(entries{1: entry(1, "Parsing")}, hosts{1: host("Ready")}, nil),
			lifecycle.Parsed{Entries: one, OK: false}, entries{1: entry(1, "Failed")}, hosts{1: host("Ready")}, tasks{},
		},
		{
			"aborted", lab(entries{1: aborted(started(entry(1, "Parsing")))}, hosts{1: host("Ready")}, nil),
			lifecycle.Parsed{Entries: one, OK: true}, entries{1: aborted(finished(entry(1, "Aborted")))}, hosts{1: host("Ready")}, tasks{},
		},
		{
			"aborted while it waits", lab(entries{1: aborted(unhosted(entry(1, "Queued")))}, hosts{1: host("Ready")}, nil),
			lifecycle.Abort{Entry: 1}, entries{1: aborted(unhosted(entry(1, "Aborted")))}, hosts{1: host("Ready")}, tasks{},
		},
		{
			"aborted with tasks that wait", lab(entries{1: aborted(given(entry(1, "Queued")))}, hosts{1: host("Ready")}, tasks{1: reset}),
			lifecycle.Abort{Entry: 1}, entries{1: aborted(entry(1, "Aborted"))}, hosts{1: host("Ready")}, tasks{1: done(reset, false)},
		},
		{
			"aborted while its host is repaired: that goes on", lab(entries{1: aborted(unhosted(entry(1, "Queued")))}, hosts{1: host("Resetting")}, tasks{1: repair}),
			lifecycle.Abort{Entry: 1}, entries{1: aborted(unhosted(entry(1, "Aborted")))}, hosts{1: host("Resetting")}, tasks{1: repair},
		},
		{
			"aborted while Pending", lab(entries{1: aborted(entry(1, "Pending"))}, hosts{1: host("Pending")}, nil),
			lifecycle.Abort{Entry: 1}, entries{1: aborted(entry(1, "Aborted"))}, hosts{1: host("Ready")}, tasks{},
		},
		{
			"aborted while Starting, and nobody has taken it up", lab(entries{1: aborted(entry(1, "Starting"))}, hosts{1: host("Pending")}, nil),
			lifecycle.Abort{Entry: 1}, entries{1: aborted(entry(1, "Aborted"))}, hosts{1: host("Ready")}, tasks{},
		},
		{
			"aborted while Starting, and somebody has", lab(entries{1: claimed(aborted(entry(1, "Starting")))}, hosts{1: host("Pending")}, nil),
			lifecycle.Abort{Entry: 1}, entries{1: claimed(aborted(entry(1, "Starting")))}, hosts{1: host("Pending")}, tasks{},
		},
		{
			"aborted while a task runs: it must be stopped first", lab(entries{1: aborted(entry(1, "Resetting"))}, hosts{1: host("Resetting")}, tasks{1: running(reset)}),
			lifecycle.Abort{Entry: 1}, entries{1: aborted(entry(1, "Resetting"))}, hosts{1: host("Resetting")}, tasks{1: running(reset)},
		},
		{
			"the task of an aborted entry was stopped", lab(entries{1: aborted(entry(1, "Resetting"))}, hosts{1: host("Resetting")}, tasks{1: running(reset)}),
			lifecycle.TaskEnded{Task: 1, OK: false}, entries{1: aborted(entry(1, "Aborted"))}, hosts{1: host("Resetting")}, tasks{1: done(reset, false), -1: alone(cleanup)},
		},
		{
			"the Provision of an aborted entry was stopped", lab(entries{1: aborted(entry(1, "Provisioning"))}, hosts{1: host("Provisioning")}, tasks{1: running(provision)}),
			lifecycle.TaskEnded{Task: 1, OK: false}, entries{1: aborted(entry(1, "Aborted"))}, hosts{1: host("Provisioning")}, tasks{1: done(provision, false), -1: alone(repair)},
		},
		{
			"the Cleanup of an aborted entry was stopped", lab(entries{1: aborted(entry(1, "Cleaning"))}, hosts{1: host("Cleaning")}, tasks{1: running(cleanup), 2: verify}),
			lifecycle.TaskEnded{Task: 1, OK: false}, entries{1: aborted(entry(1, "Aborted"))}, hosts{1: host("Cleaning")}, tasks{1: done(cleanup, false), 2: done(verify, false), -1: alone(cleanup)},
		},
		{
			"aborted while results are parsed", lab(entries{1: aborted(entry(1, "Parsing"))}, hosts{1: host("Ready")}, nil),
			lifecycle.Abort{Entry: 1}, entries{1: aborted(entry(1, "Parsing"))}, hosts{1: host("Ready")}, tasks{},
		},
		{
			"a run that never began waits again", lab(entries{1: claimed(subdir(entry(1, "Starting"), "host1"))}, hosts{1: host("Pending")}, nil),
			lifecycle.Requeued{Entries: one}, entries{1: unhosted(entry(1, "Queued"))}, hosts{1: host("Pending")}, tasks{-1: bySystem(alone(reset))},
		},
		{
			"a run that failed by no fault of its job's waits again", lab(entries{1: claimed(started(subdir(entry(1, "Gathering"), "host1")))}, hosts{1: host("Running")}, nil),
			lifecycle.Requeued{Entries: one}, entries{1: unhosted(entry(1, "Queued"))}, hosts{1: host("Running")}, tasks{-1: bySystem(alone(reset))},
		},
		{
			"a run that never began, and that somebody aborted", lab(entries{1: claimed(aborted(entry(1, "Starting")))}, hosts{1: host("Pending")}, nil),
			lifecycle.Requeued{Entries: one}, entries{1: aborted(entry(1, "Aborted"))}, hosts{1: host("Pending")}, tasks{-1: bySystem(alone(reset))},
		},
		{
			"an entry whose tasks are gone", lab(entries{1: entry(1, "Verifying")}, hosts{1: clean(host("Verifying"))}, nil),
			lifecycle.Stranded{Entry: 1}, entries{1: unhosted(entry(1, "Queued"))}, hosts{1: host("Verifying")}, tasks{-1: bySystem(alone(reset))},
		},
		{
			"an entry whose run is gone", lab(entries{1: started(entry(1, "Running"))}, hosts{1: host("Running")}, nil),
			lifecycle.Stranded{Entry: 1}, entries{1: finished(entry(1, "Failed"))}, hosts{1: host("Running")}, tasks{-1: bySystem(alone(reset))},
		},
		{
			"an entry that could not be provisioned ends", lab(entries{1: subdir(entry(1, "Parsing"), "host1")}, hosts{1: host("Provisioning")}, tasks{1: repair}),
			lifecycle.Stranded{Entry: 1}, entries{1: subdir(entry(1, "Failed"), "host1")}, hosts{1: host("Provisioning")}, tasks{1: repair},
		},
		{
			"a job whose entry is Pending and could start", lab(entries{1: entry(1, "Pending")}, hosts{1: host("Pending")}, nil),
			lifecycle.Settle{}, entries{1: subdir(entry(1, "Starting"), "host1")}, hosts{1: host("Pending")}, tasks{},
		},
		{
			"a host that could not be repaired is verified again", lab(nil, hosts{1: host("Repair Failed")}, nil),
			lifecycle.Recheck{Host: 1}, entries{}, hosts{1: host("Repair Failed")}, tasks{-1: bySystem(alone(verify))},
		},
		{
			"a suite ends", lab(entries{1: {Job: 1, Status: "Queued"}}, nil, nil),
			lifecycle.HostlessEnded{Entry: 1, OK: true}, entries{1: {Job: 1, Status: "Completed", Complete: true, Started: true, Finished: true, Subdir: "hostless"}}, hosts{}, tasks{},
		},
		{
			"a host that nobody looks after", lab(nil, hosts{1: host("Cleaning")}, nil),
			lifecycle.Sweep{Host: 1}, entries{}, hosts{1: host("Cleaning")}, tasks{-1: bySystem(alone(reset))},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			after, err := lifecycle.Next(c.before, c.event)
			require.NoError(t, err)
			want := c.before
			want.Entries, want.Hosts, want.Tasks = c.e, c.h, c.t
			if want.Ineligible == nil {
				want.Ineligible = map[scheduler.HostID]bool{}
			}
			require.Empty(t, cmp.Diff(want, after))
		})
	}
}

// TestRunHostAfterwards: what follows a run, for all that it depends on.
func TestRunHostAfterwards(t *testing.T) {
	for _, c := range []struct {
		runReset    bool
		after       lifecycle.RebootAfter
		aborted, ok bool
		failed      int
		want        []lifecycle.Kind
	}{
		{true, lifecycle.RebootAfterNever, false, true, 0, nil},
		{true, lifecycle.RebootAfterNever, false, false, 0, nil},
		{true, lifecycle.RebootAfterNever, false, false, 1, []lifecycle.Kind{lifecycle.Cleanup}},
		{true, lifecycle.RebootAfterPassed, false, true, 0, []lifecycle.Kind{lifecycle.Cleanup}},
		{true, lifecycle.RebootAfterPassed, false, false, 0, nil},
		{true, lifecycle.RebootAfterAlways, false, false, 0, []lifecycle.Kind{lifecycle.Cleanup}},
		{true, lifecycle.RebootAfterNever, true, false, 0, []lifecycle.Kind{lifecycle.Cleanup}},
		{false, lifecycle.RebootAfterNever, false, true, 0, nil},
		{false, lifecycle.RebootAfterNever, false, false, 0, []lifecycle.Kind{lifecycle.Reset}},
		{false, lifecycle.RebootAfterNever, false, true, 1, []lifecycle.Kind{lifecycle.Reset}},
		{false, lifecycle.RebootAfterAlways, false, false, 1, []lifecycle.Kind{lifecycle.Cleanup, lifecycle.Reset}},
		{false, lifecycle.RebootAfterNever, true, false, 0, []lifecycle.Kind{lifecycle.Cleanup, lifecycle.Reset}},
	} {
		e := entry(1, "Gathering")
		e.Aborted = c.aborted
		s := lab(entries{1: e}, hosts{1: host("Running")}, nil)
		s.Job.RunReset, s.Job.RebootAfter = c.runReset, c.after
		after, err := lifecycle.Next(s, lifecycle.Gathered{Entries: []scheduler.EntryID{1}, OK: c.ok, TestsFailed: c.failed})
		require.NoError(t, err)
		var got []lifecycle.Kind
		for id := lifecycle.TaskID(-1); after.Tasks[id].Kind != ""; id-- {
			got = append(got, after.Tasks[id].Kind)
		}
		require.Equal(t, c.want, got, "%+v", c)
	}
}

// TestSynchronous: entries that start together, and that stop when they cannot any more.
func TestSynchronous(t *testing.T) {
	three := func(status ...scheduler.EntryStatus) lifecycle.State {
		s := lab(entries{}, hosts{}, tasks{1: {Kind: lifecycle.Reset, Host: 1, Entry: 1, Active: true, RequestedBy: owner}})
		s.Job.SynchCount = 2
		for i, st := range status {
			id := scheduler.EntryID(i + 1)
			s.Entries[id] = entry(scheduler.HostID(id), st)
			s.Hosts[scheduler.HostID(id)] = lifecycle.Host{Hostname: []string{"host10", "host9", "host3"}[i], Status: "Pending"}
		}
		return s
	}
	statuses := func(s lifecycle.State) (out []scheduler.EntryStatus) {
		for id := scheduler.EntryID(1); s.Entries[id].Status != ""; id++ {
			out = append(out, s.Entries[id].Status)
		}
		return out
	}
	after, err := lifecycle.Next(three("Resetting", "Pending", "Pending"), lifecycle.TaskEnded{Task: 1, OK: true})
	require.NoError(t, err)
	require.Equal(t, []scheduler.EntryStatus{"Starting", "Pending", "Starting"}, statuses(after), "the second host by number")
	require.Equal(t, "group0", after.Entries[1].Subdir)

	after, err = lifecycle.Next(three("Resetting", "Queued", "Completed"), lifecycle.TaskEnded{Task: 1, OK: true})
	require.NoError(t, err)
	require.Equal(t, []scheduler.EntryStatus{"Pending", "Queued", "Completed"}, statuses(after), "it waits")

	after, err = lifecycle.Next(three("Resetting", "Completed", "Completed"), lifecycle.TaskEnded{Task: 1, OK: true})
	require.NoError(t, err)
	require.Equal(t, []scheduler.EntryStatus{"Stopped", "Completed", "Completed"}, statuses(after), "it can never reach two")
	require.Equal(t, "Ready", after.Hosts[1].Status)
}

// TestNotNow: what the rows do not allow changes nothing.
func TestNotNow(t *testing.T) {
	one := []scheduler.EntryID{1}
	s := lab(entries{1: entry(1, "Completed")}, hosts{1: host("Ready")}, tasks{1: task(lifecycle.Reset, 1, 1)})
	for _, e := range []lifecycle.Event{
		lifecycle.TaskStarted{Task: 2}, lifecycle.TaskEnded{Task: 1, OK: true}, lifecycle.RunStarted{Entries: one}, lifecycle.RunEnded{Entries: one}, lifecycle.Gathered{Entries: one},
		lifecycle.Parsed{Entries: one, OK: true}, lifecycle.Requeued{Entries: one}, lifecycle.Abort{Entry: 1}, lifecycle.HostlessEnded{Entry: 1, OK: true}, lifecycle.Sweep{Host: 1},
		lifecycle.RunClaimed{Entries: one}, lifecycle.Stranded{Entry: 1}, lifecycle.Settle{}, lifecycle.Recheck{Host: 1},
	} {
		after, err := lifecycle.Next(s, e)
		require.ErrorIs(t, err, lifecycle.ErrNotNow, "%T", e)
		require.Empty(t, cmp.Diff(s, after), "%T", e)
	}
}

func TestDiff(t *testing.T) {
	before := lab(entries{1: entry(1, "Resetting")}, hosts{1: host("Resetting")}, tasks{1: {Kind: lifecycle.Reset, Host: 1, Entry: 1, Active: true, RequestedBy: owner}})
	before.Ineligible = map[scheduler.HostID]bool{1: true, 2: true}
	after, err := lifecycle.Next(before, lifecycle.TaskEnded{Task: 1, OK: false})
	require.NoError(t, err)
	w := lifecycle.Diff(before, after)
	require.Len(t, w.Entries, 1)
	require.Empty(t, w.Hosts)
	require.Len(t, w.Tasks, 2)
	require.Nil(t, w.Tasks[0].Before, "the new Repair")
	require.Equal(t, []scheduler.HostID{1}, w.Eligible)
	require.Equal(t, lifecycle.Writes{}, lifecycle.Diff(after, after))
}
