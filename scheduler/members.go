package scheduler

import (
	"cmp"
	"slices"
)

// Member is an entry of a job, as far as the job's entries start and stop together.
type Member struct {
	ID       EntryID
	Host     HostID
	Hostname string
	Status   EntryStatus
	// Subdir is execution_subdir.
	Subdir string
}

// OnPending returns the members of a job after one of them has become Pending: it starts
// the job if synchCount members are Pending, and stops it if so many never can be. The
// result is sorted by id. It is the planner's own rule, for those who run jobs.
func OnPending(synchCount int, members []Member, id EntryID) []Member {
	js := jobOf(synchCount, members)
	js.onPending(id)
	return js.members()
}

// StopUnreachable returns the members of a job after one of them ended: those that have not
// begun are stopped if synchCount of them can never start together any more.
func StopUnreachable(synchCount int, members []Member) []Member {
	js := jobOf(synchCount, members)
	if js.count(EntryStatus.notYetRun) < synchCount {
		js.stop()
	}
	return js.members()
}

func jobOf(synchCount int, members []Member) *jobState {
	js := &jobState{job: &Job{SynchCount: synchCount}}
	for _, m := range members {
		es := &entryState{id: m.ID, hostID: m.Host, from: m.Status, status: m.Status, subdir: m.Subdir, assignment: -1}
		if m.Host != 0 {
			es.host = &Host{ID: m.Host, Hostname: m.Hostname}
		}
		js.entries = append(js.entries, es)
		if n, ok := groupNumber(m.Subdir); ok {
			js.groups = max(js.groups, n+1)
		}
	}
	slices.SortFunc(js.entries, func(a, b *entryState) int { return cmp.Compare(a.id, b.id) })
	return js
}

func (js *jobState) members() []Member {
	out := make([]Member, len(js.entries))
	for i, es := range js.entries {
		out[i] = Member{ID: es.id, Host: es.hostID, Hostname: hostnameOf(es.host), Status: es.status, Subdir: es.subdir}
	}
	return out
}
