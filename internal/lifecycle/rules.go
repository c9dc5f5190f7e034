package lifecycle

import (
	"maps"
	"slices"

	"github.com/hostsched/hostsched/scheduler"
)

// setEntry gives an entry a status, and the flags that follow from it.
func (s *State) setEntry(id scheduler.EntryID, status scheduler.EntryStatus) {
	e := s.Entries[id]
	e.Status, e.Active, e.Complete = status, Active(status), Complete(status)
	s.Entries[id] = e
}

func (s *State) setHost(id scheduler.HostID, status string) {
	if h, ok := s.Hosts[id]; ok {
		h.Status = status
		s.Hosts[id] = h
	}
}

func (s *State) setDirty(id scheduler.HostID, dirty bool) {
	if h, ok := s.Hosts[id]; ok {
		h.Dirty = dirty
		s.Hosts[id] = h
	}
}

// queue adds a task. One without entry is requested by the system, unless somebody else is
// named.
func (s *State) queue(kind Kind, host scheduler.HostID, entry scheduler.EntryID, by scheduler.UserID) {
	if by == 0 {
		by = s.System
	}
	id := TaskID(-1)
	for t := range s.Tasks {
		id = min(id, t-1)
	}
	s.Tasks[id] = Task{Kind: kind, Host: host, Entry: entry, RequestedBy: by}
}

// tasks returns the ids of the tasks for which want is true, in order.
func (s *State) tasks(want func(Task) bool) []TaskID {
	var ids []TaskID
	for _, id := range slices.Sorted(maps.Keys(s.Tasks)) {
		if want(s.Tasks[id]) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (t Task) open() bool { return !t.Complete }

// openOf are the tasks of an entry on a host that are not complete.
func (s *State) openOf(entry scheduler.EntryID, host scheduler.HostID) []TaskID {
	return s.tasks(func(t Task) bool { return t.open() && t.Entry == entry && t.Host == host })
}

// preJobTasks are the open tasks of an entry, Repair apart: that is for the host.
func (s *State) preJobTasks(entry scheduler.EntryID) []TaskID {
	return s.tasks(func(t Task) bool { return t.open() && t.Entry == entry && t.Kind != Repair })
}

// close ends tasks that did not succeed.
func (s *State) close(ids []TaskID) {
	for _, id := range ids {
		t := s.Tasks[id]
		t.Active, t.Complete, t.Success = false, true, false
		s.Tasks[id] = t
	}
}

// drop removes tasks that another one makes needless: they wait, and are for nobody's run.
func (s *State) drop(host scheduler.HostID, kinds ...Kind) {
	for _, id := range s.tasks(func(t Task) bool {
		return t.open() && !t.Active && t.Entry == 0 && t.Host == host && slices.Contains(kinds, t.Kind)
	}) {
		delete(s.Tasks, id)
	}
}

// members are the job's entries, as the planner's rules want them.
func (s *State) members() []scheduler.Member {
	var all []scheduler.Member
	for _, id := range slices.Sorted(maps.Keys(s.Entries)) {
		e := s.Entries[id]
		all = append(all, scheduler.Member{ID: id, Host: e.Host, Hostname: s.Hosts[e.Host].Hostname, Status: e.Status, Subdir: e.Subdir})
	}
	return all
}

// take writes what the planner's rules made of the job's entries. An entry that was stopped
// gives its host back.
func (s *State) take(members []scheduler.Member) {
	for _, m := range members {
		e := s.Entries[m.ID]
		if m.Status == e.Status {
			continue
		}
		if m.Status == scheduler.StatusStopped && e.Status == scheduler.StatusPending {
			s.setHost(e.Host, scheduler.HostReady)
		}
		if m.Status == scheduler.StatusStopped && e.Status == scheduler.StatusQueued && e.Active {
			s.close(s.openOf(m.ID, e.Host))
		}
		e.Subdir = m.Subdir
		s.Entries[m.ID] = e
		s.setEntry(m.ID, m.Status)
	}
}

// onPending is the end of the last task before a run: the entry is ready, and the job may be.
func (s *State) onPending(id scheduler.EntryID) {
	s.setEntry(id, scheduler.StatusPending)
	s.setHost(s.Entries[id].Host, scheduler.HostPending)
	s.take(scheduler.OnPending(s.Job.SynchCount, s.members(), id))
}

// end gives an entry its final status. Without it, others of the job may have no chance any
// more; an abort does not stop them, as in Autotest, because it names whom it ends.
func (s *State) end(id scheduler.EntryID, status scheduler.EntryStatus) {
	s.setEntry(id, status)
	e := s.Entries[id]
	e.Finished = e.Started
	s.Entries[id] = e
	if status != StatusAborted {
		s.take(scheduler.StopUnreachable(s.Job.SynchCount, s.members()))
	}
}

// requeue lets an entry wait again. If it may have any host, it loses this one, and may get
// it back.
func (s *State) requeue(id scheduler.EntryID) {
	s.setEntry(id, scheduler.StatusQueued)
	e := s.Entries[id]
	e.Started, e.Finished, e.Subdir = false, false, ""
	if e.AnyHost {
		delete(s.Ineligible, e.Host)
		e.Host = 0
	}
	s.Entries[id] = e
}

// failed is what follows when a task before a run failed, or was aborted.
func (s *State) failed(t Task) {
	if t.Entry == 0 {
		s.queue(Repair, t.Host, 0, t.RequestedBy)
		return
	}
	e := s.Entries[t.Entry]
	s.close(s.openOf(t.Entry, t.Host))
	repairs := s.countOn(Repair, t.Entry, t.Host)
	if t.Kind == Provision && s.count(Provision, t.Entry) > s.Limits.ProvisionRetries {
		e.Subdir = s.Hosts[t.Host].Hostname
		s.Entries[t.Entry] = e
		s.setEntry(t.Entry, StatusParsing)
	} else {
		s.requeue(t.Entry)
	}
	if repairs < s.Limits.Repairs {
		s.queue(Repair, t.Host, t.Entry, t.RequestedBy)
		return
	}
	s.setHost(t.Host, HostRepairFailed)
	s.failUnlessElsewhere(t.Entry)
}

// failUnlessElsewhere ends an entry that waits for a host that cannot be repaired, if it
// names the host.
func (s *State) failUnlessElsewhere(id scheduler.EntryID) {
	if e := s.Entries[id]; !e.AnyHost && e.Status == scheduler.StatusQueued {
		s.end(id, StatusFailed)
	}
}

func (s *State) count(kind Kind, entry scheduler.EntryID) int {
	return len(s.tasks(func(t Task) bool { return t.Kind == kind && t.Entry == entry }))
}

func (s *State) countOn(kind Kind, entry scheduler.EntryID, host scheduler.HostID) int {
	return len(s.tasks(func(t Task) bool { return t.Kind == kind && t.Entry == entry && t.Host == host }))
}

// afterRun says what becomes of a host after a run (Autotest's GatherLogsTask): cleaned, or
// reset, or both, or ready for the next one.
func (s *State) afterRun(host scheduler.HostID, aborted, ok bool, testsFailed int) {
	reset := !s.Job.RunReset && (!ok || testsFailed > 0)
	clean := aborted || s.Job.RebootAfter == RebootAfterAlways ||
		s.Job.RebootAfter == RebootAfterPassed && ok && testsFailed == 0 ||
		testsFailed > 0 && !reset
	if clean {
		s.queue(Cleanup, host, 0, s.Job.Owner)
	} else {
		s.setHost(host, scheduler.HostReady)
	}
	if reset {
		s.queue(Reset, host, 0, s.Job.Owner)
	}
}
