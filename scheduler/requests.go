package scheduler

import (
	"cmp"
	"fmt"
	"slices"
)

// request is what an entry requires of a host, and its rank in the queue. Entries with
// equal requests are served as one group (Autotest rdb_requests.AcquireHostRequest).
type request struct {
	deps      setID // labels that the host must carry
	preferred setID // labels that the host should carry
	acls      setID // ACL groups of the job's owner
	suite     JobID
	priority  int64
}

// group is a request, with the entries in queue order that may get any host.
type group struct {
	key     request
	number  int32   // the position of the request in planner.requests
	entries []int32 // positions in planner.entries
	// asked is how many hosts the rounds tried to assign to the group so far, whether or
	// not there were so many.
	asked int
	// next is the position in entries of the first one that may still lack a host.
	next int
	// ahead is how many entries of other groups are served before this one.
	ahead int
	match *match
	// ranked is nil until it is needed, and always under PolicyExact. mixed is true if any
	// job of the group has had hosts, so that its entries may have a demand of their own.
	ranked *ranked
	mixed  bool
	// chosen are the positions of the entries that a minimum is for, if that had to be chosen.
	chosen []int32
	reason *Reason
}

// readRequests sorts the pending entries into queue order and computes their requests.
func (p *planner) readRequests() {
	p.entries = p.queue()
	for i := range p.entries {
		e := &p.entries[i]
		if e.job.SynchCount > 1 {
			p.synchEntries[e.job.ID] = append(p.synchEntries[e.job.ID], e.entry)
		}
		if e.entry.Host != 0 {
			e.job.held = append(e.job.held, e.entry.Host)
		}
		p.readRequest(e)
	}
	p.reportMinimums()
}

// group collects the entries of each request that may get any host, and puts the groups
// into the order in which they are served.
func (p *planner) group() {
	p.groupOf = make([]int32, len(p.requests))
	sizes := make([]int32, len(p.requests))
	p.groups = make([]group, 0, len(p.requests))
	anyHost := 0
	for i := range p.entries {
		e := &p.entries[i]
		if !e.wantsAny() {
			continue
		}
		n := e.job.request
		if sizes[n] == 0 {
			p.groups = append(p.groups, group{key: p.requests[n], number: n})
		}
		sizes[n]++
		anyHost++
	}
	if !slices.IsSortedFunc(p.groups, compareGroups) {
		slices.SortStableFunc(p.groups, compareGroups)
	}
	room := make([]int32, anyHost)
	ahead := 0
	for i := range p.groups {
		g := &p.groups[i]
		n := int(sizes[g.number])
		g.entries, room = room[:0:n], room[n:]
		g.ahead = ahead
		g.match = p.matching(g.key.deps, g.key.acls)
		p.groupOf[g.number] = int32(i)
		ahead += n
	}
	for i := range p.entries {
		if e := &p.entries[i]; e.wantsAny() {
			g := p.groupFor(e)
			g.entries = append(g.entries, int32(i))
			g.mixed = g.mixed || len(e.job.held) > 0
		}
	}
}

// compareGroups is the order in which groups are served: by priority, then by suite.
// Among equal ones the first in the queue is served first.
func compareGroups(a, b group) int {
	if a.key.priority != b.key.priority {
		return cmp.Compare(b.key.priority, a.key.priority)
	}
	return cmp.Compare(a.key.suite, b.key.suite)
}

// wantsAny tells whether an entry may get any host that matches. An entry that already
// has a reason to wait may not.
func (e *pending) wantsAny() bool { return e.entry.Host == 0 && e.reason == nil }

// groupFor returns the group of an entry that wants any host.
func (p *planner) groupFor(e *pending) *group { return &p.groups[p.groupOf[e.job.request]] }

// readRequest gives an entry the reason of its job, if there is one, or that of a
// contended row. What a job asks for
// is the same for all its entries, so it is computed once.
func (p *planner) readRequest(e *pending) {
	if !e.job.read {
		p.readJob(e.job)
	}
	if e.reason = e.job.reason; e.reason != nil && e.reason.Code == Malformed {
		p.problem(e.entry, fmt.Sprintf("entry %d: %s", e.entry.ID, e.reason))
	}
	if e.reason == nil {
		e.reason = p.contended.reason(e)
	}
}

// readJob computes the request of a job's entries, or the reason why they cannot be
// served.
func (p *planner) readJob(job *jobInfo) {
	job.read = true
	job.user = p.users[job.User]
	if job.user == nil {
		// The original acquires a one-time host for such an entry and then crashes.
		// It never serves any other request of an unknown owner.
		job.reason = &Reason{Code: UnknownOwner, text: fmt.Sprintf("owner %q has no row in afe_users", job.Owner)}
		return
	}
	if value, bad := p.badMinimums[job.Parent]; bad {
		p.blockedSuites[job.Parent] = true
		job.reason = &Reason{Code: BadMinimum, text: fmt.Sprintf("keyval suite_min_duts of suite %d is %q, which is no integer", job.Parent, value)}
		return
	}
	key, ok := p.jobRequest(job)
	if !ok {
		job.reason = &Reason{Code: Malformed, text: "its job depends on a label that does not exist"}
		return
	}
	job.request = p.number(key)
}

// number returns the position of a request in planner.requests. A new request is
// appended.
func (p *planner) number(key request) int32 {
	n, known := p.numbers[key]
	if !known {
		n = int32(len(p.requests))
		p.numbers[key] = n
		p.requests = append(p.requests, key)
	}
	return n
}

// jobRequest computes the request of a job. ok is false if one of its labels does not
// exist. Many jobs depend on the same list of labels, so each list is sorted into
// required and preferred ones only once.
func (p *planner) jobRequest(job *jobInfo) (key request, ok bool) {
	p.deps = p.deps[:0]
	for _, l := range job.Deps {
		p.deps = append(p.deps, int64(l))
	}
	list := int(p.depLists.put(p.deps))
	if list == len(p.requirements) {
		p.requirements = append(p.requirements, p.sortLabels(job.Deps))
	}
	a := &p.requirements[list]
	return request{suite: job.Parent, priority: job.rank, acls: job.user.acls, deps: a.deps, preferred: a.preferred}, !a.impossible
}

// problem reports an entry that cannot be served because of malformed rows.
func (p *planner) problem(e *Entry, text string) {
	p.plan.Problems = append(p.plan.Problems, Problem{Entry: e.ID, Text: text})
}
