package scheduler

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// rules answers questions about a snapshot in the slow and obvious way. The properties
// and the naive planner use it instead of the planner's own code.
type rules struct {
	s     *Snapshot
	jobs  map[JobID]*Job
	hosts map[HostID]*Host
	users map[UserID]*User
	name  map[LabelID]string
}

func rulesOf(s *Snapshot) *rules {
	r := &rules{s, map[JobID]*Job{}, map[HostID]*Host{}, map[UserID]*User{}, map[LabelID]string{}}
	for i := range s.Jobs {
		r.jobs[s.Jobs[i].ID] = &s.Jobs[i]
	}
	for i := range s.Hosts {
		r.hosts[s.Hosts[i].ID] = &s.Hosts[i]
	}
	for i := range s.Users {
		r.users[s.Users[i].ID] = &s.Users[i]
	}
	for _, l := range s.Labels {
		r.name[l.ID] = l.Name
	}
	return r
}

// required returns the labels that a host of the job must carry.
func (r *rules) required(j *Job) []LabelID {
	return slices.DeleteFunc(slices.Clone(j.Deps), func(l LabelID) bool { return DefaultActions().kind(r.name[l]) != labelRequired })
}

func (r *rules) carries(h *Host, l LabelID, named bool) bool {
	replaced := slices.IndexFunc(r.s.ReplacedLabels, func(p ReplacedLabel) bool { return p.ID == l })
	if replaced >= 0 && !named && r.s.Rules.RespectStaticLabels {
		return slices.Contains(h.StaticLabels, r.s.ReplacedLabels[replaced].Static)
	}
	return slices.Contains(h.Labels, l)
}

// free tells whether a host could be assigned to any entry when the tick began.
func (r *rules) free(h *Host) bool {
	away := slices.ContainsFunc(r.s.Away, func(a Away) bool { return a.Host == h.ID })
	return !h.Locked && !draining(r.s, h.ID) && !away && !h.Leased && h.ActiveEntry == 0 && !h.Displaced && !slices.Contains(r.s.Contended.Hosts, h.ID) && !slices.Contains(r.s.TaskHosts, h.ID)
}

func draining(s *Snapshot, id HostID) bool {
	return slices.ContainsFunc(s.Holds, func(h Hold) bool { return h.Draining && h.Host == id })
}

// contended tells whether an entry needs a row that another transaction holds, other than
// that of the host it gets.
func (r *rules) contended(e *Entry) bool {
	c, job := r.s.Contended, r.jobs[e.Job]
	if slices.Contains(c.Entries, e.ID) || e.Host == 0 && slices.Contains(c.Jobs, e.Job) {
		return true
	}
	if r.users[job.User] != nil && slices.Contains(c.Users, job.User) {
		return true
	}
	other := func(job JobID, id EntryID, host HostID) bool {
		return job == e.Job && (slices.Contains(c.Entries, id) || slices.Contains(c.Hosts, host))
	}
	return job.SynchCount > 1 && (slices.ContainsFunc(r.s.Entries, func(e Entry) bool { return other(e.Job, e.ID, e.Host) }) ||
		slices.ContainsFunc(r.s.Siblings, func(e Sibling) bool { return other(e.Job, e.ID, e.Host) }))
}

// eligible returns why a host may not be assigned to an entry, whether or not the host is
// free. It returns nil if it may.
func (r *rules) eligible(e *Entry, h *Host) error {
	job := r.jobs[e.Job]
	named := e.Host != 0
	user := r.users[job.User]
	if user == nil {
		return errors.New("the owner is unknown")
	}
	if r.contended(e) {
		return errors.New("another transaction holds a row that the entry needs")
	}
	for _, l := range r.required(job) {
		if !r.carries(h, l, named) {
			return fmt.Errorf("label %s is missing", r.name[l])
		}
	}
	share := slices.ContainsFunc(user.ACLs, func(a ACLID) bool { return slices.Contains(h.ACLs, a) })
	switch {
	case named && e.Host != h.ID:
		return errors.New("the entry names another host")
	case named && h.Shard != 0 && !r.s.Rules.OnShard:
		return errors.New("the host is a shard's")
	case !named && h.Invalid:
		return errors.New("the host is invalid")
	case !share && (!named || !h.Invalid):
		return errors.New("no common ACL group")
	}
	for _, sib := range r.s.Siblings {
		if sib.Job == e.Job && sib.Host == h.ID {
			return errors.New("another entry of the job has it")
		}
	}
	for _, other := range r.s.Entries {
		if other.ID != e.ID && other.Job == e.Job && other.Host == h.ID {
			return errors.New("another entry of the job names it")
		}
	}
	return nil
}

func (r *rules) entry(id EntryID) *Entry {
	i := slices.IndexFunc(r.s.Entries, func(e Entry) bool { return e.ID == id })
	return &r.s.Entries[i]
}

// before tells whether a is served before b within a round.
func (r *rules) before(a, b *Entry) bool {
	ja, jb := r.jobs[a.Job], r.jobs[b.Job]
	if a.Host != 0 {
		return ja.Priority > jb.Priority
	}
	return cmp.Or(cmp.Compare(jb.Priority, ja.Priority), cmp.Compare(ja.Parent, jb.Parent)) < 0
}

// jobGot tells whether an entry of the job got the host.
func (r *rules) jobGot(p Plan, job JobID, host HostID) bool {
	return slices.ContainsFunc(p.Assignments, func(a Assignment) bool { return a.Job == job && a.Host == host })
}

// hits counts how many of the preferred labels of a job a host carries.
func (r *rules) hits(j *Job, h *Host) int {
	n := 0
	for _, l := range j.Deps {
		if DefaultActions().kind(r.name[l]) == labelProvision && slices.Contains(h.Labels, l) {
			n++
		}
	}
	return n
}

// oneRequest tells whether all entries of a suite that may get any host have the same
// request.
func (r *rules) oneRequest(suite JobID) bool {
	kinds := map[string]bool{}
	for _, e := range r.s.Entries {
		if j := r.jobs[e.Job]; j.Parent == suite && e.Host == 0 {
			deps := slices.Sorted(slices.Values(j.Deps))
			kinds[fmt.Sprint(deps, j.User, j.Priority)] = true
		}
	}
	return len(kinds) == 1
}
