package scheduler

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// request is what an entry asks for. Entries with equal requests are served as
// one group (Autotest rdb_requests.AcquireHostRequest).
type request struct {
	deps      setID // labels the host must carry
	preferred setID // labels it should carry
	acls      setID // ACL groups of the owner
	suite     JobID
	priority  int64
}

// group is a request for any host with its entries in queue order.
type group struct {
	key     request
	number  int32   // of the request
	entries []int32 // indexes into planner.entries
	// asked is how many hosts the group has asked for, whether it got them or not.
	asked int
	// next is the index of the first entry that may still lack a host.
	next int
	// ahead is how many entries of other requests come before this one.
	ahead  int
	match  *match
	reason *Reason
}

// readRequests sorts the pending entries into queue order and computes what they
// ask for.
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

// group collects the entries of each request for any host, and puts the
// requests into serving order.
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
		}
	}
}

// compareGroups is the serving order: priority, then suite.
func compareGroups(a, b group) int {
	if a.key.priority != b.key.priority {
		return cmp.Compare(b.key.priority, a.key.priority)
	}
	return cmp.Compare(a.key.suite, b.key.suite)
}

// wantsAny tells whether an entry can be served with any host that matches.
func (e *pending) wantsAny() bool { return e.entry.Host == 0 && e.reason == nil }

// groupFor returns the group of an entry that wants any host.
func (p *planner) groupFor(e *pending) *group { return &p.groups[p.groupOf[e.job.request]] }

// queue returns the pending entries in the order of the queue: priority, entries
// that name a host, entries with a meta_host, suite (none first), job, entry
// (Autotest JobQueryManager.get_pending_queue_entries). Entries without job are
// reported and left out.
//
// It sorts by parts: there are far fewer of them than entries, and databases
// tend to give the rows of each in order of their ids, so that often nothing is
// left to sort.
func (p *planner) queue() []pending {
	parts := partition{number: make(map[place]int32), in: make([]int32, 0, len(p.s.Entries))}
	for i := range p.s.Entries {
		e := &p.s.Entries[i]
		job := p.job(e.Job)
		if job == nil {
			p.problem(e, fmt.Sprintf("entry %d belongs to job %d, which does not exist", e.ID, e.Job))
			parts.in = append(parts.in, noPart)
			continue
		}
		job.entries++
		parts.add(placeOf(e, job))
	}
	begin := parts.begin()
	next := slices.Clone(begin)
	out := make([]pending, parts.size)
	for i, n := range parts.in {
		if n == noPart {
			continue
		}
		e := &p.s.Entries[i]
		out[next[n]] = pending{entry: e, job: p.job(e.Job), host: -1}
		next[n]++
	}
	for n := range begin {
		part := out[begin[n]:next[n]]
		if !slices.IsSortedFunc(part, compareIDs) {
			slices.SortFunc(part, compareIDs)
		}
	}
	return out
}

// place is what entries of one part of the queue have in common.
type place struct {
	priority int64
	rank     int8 // entries that name a host, then those with a meta_host
	suite    JobID
}

func placeOf(e *Entry, job *jobInfo) place {
	at := place{priority: job.Priority, suite: job.Parent}
	if e.Host == 0 {
		at.rank += 2
	}
	if e.MetaHost == 0 {
		at.rank++
	}
	return at
}

// partition divides the entries by their places.
type partition struct {
	number map[place]int32
	places []place
	sizes  []int
	size   int
	in     []int32 // entry -> number of its part
}

// noPart is the part of entries that are left out.
const noPart = -1

func (q *partition) add(at place) {
	q.size++
	// Neighbours are often of one suite.
	if n := len(q.in); n > 0 && q.in[n-1] != noPart && at == q.places[q.in[n-1]] {
		q.in = append(q.in, q.in[n-1])
		q.sizes[q.in[n]]++
		return
	}
	n, known := q.number[at]
	if !known {
		n = int32(len(q.places))
		q.number[at] = n
		q.places, q.sizes = append(q.places, at), append(q.sizes, 0)
	}
	q.in = append(q.in, n)
	q.sizes[n]++
}

// begin is where each part begins in the queue.
func (q *partition) begin() []int {
	begin, end := make([]int, len(q.places)), 0
	for _, at := range slices.SortedFunc(slices.Values(q.places), comparePlaces) {
		n := q.number[at]
		begin[n] = end
		end += q.sizes[n]
	}
	return begin
}

func comparePlaces(a, b place) int {
	return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(a.rank, b.rank), cmp.Compare(a.suite, b.suite))
}

func compareIDs(a, b pending) int {
	if a.entry.Job != b.entry.Job {
		return cmp.Compare(a.entry.Job, b.entry.Job)
	}
	return cmp.Compare(a.entry.ID, b.entry.ID)
}

func (p *planner) readRequest(e *pending) {
	if !e.job.read {
		p.readJob(e.job)
	}
	if e.reason = e.job.reason; e.reason != nil && e.reason.Code == Malformed {
		p.problem(e.entry, fmt.Sprintf("entry %d: %s", e.entry.ID, e.reason))
	}
}

// readJob computes what the entries of a job ask for, or why they cannot be served.
func (p *planner) readJob(job *jobInfo) {
	job.read = true
	job.user = p.userOf(job.Owner)
	if job.user == nil {
		// The original acquires a one-time host for such an entry and then
		// crashes; any other request of an unknown owner is never served.
		job.reason = &Reason{Code: UnknownOwner, text: fmt.Sprintf("owner %q has no row in afe_users", job.Owner)}
		return
	}
	if value, bad := p.badMinimums[job.Parent]; bad {
		p.spoilt[job.Parent] = true
		job.reason = &Reason{Code: BadMinimum, text: fmt.Sprintf("keyval suite_min_duts of suite %d is %q, which is no integer", job.Parent, value)}
		return
	}
	key, ok := p.jobRequest(job)
	if !ok {
		job.reason = &Reason{Code: Malformed, text: fmt.Sprintf("job %d depends on a label that does not exist", job.ID)}
		return
	}
	job.request = p.number(key)
}

// number interns a request.
func (p *planner) number(key request) int32 {
	if p.numbers == nil {
		p.numbers = make([]int32, slotsFor(len(p.jobs)))
	}
	slot := p.slot(&key)
	if n := p.numbers[slot]; n != 0 {
		return n - 1
	}
	p.requests = append(p.requests, key)
	p.numbers[slot] = int32(len(p.requests))
	if 2*len(p.requests) > len(p.numbers) {
		p.numbers = make([]int32, 2*len(p.numbers))
		for i := range p.requests {
			p.numbers[p.slot(&p.requests[i])] = int32(i + 1)
		}
	}
	return int32(len(p.requests) - 1)
}

// slot finds where the number of a request is, or would be.
func (p *planner) slot(key *request) uint64 {
	mask := uint64(len(p.numbers) - 1)
	for i := key.hash() & mask; ; i = (i + 1) & mask {
		if n := p.numbers[i]; n == 0 || p.requests[n-1] == *key {
			return i
		}
	}
}

func (r *request) hash() uint64 {
	h := uint64(fnvOffset)
	for _, v := range [...]uint64{uint64(r.deps)<<32 | uint64(r.preferred), uint64(r.acls), uint64(r.suite), uint64(r.priority)} {
		h = (h ^ v) * fnvPrime
		h ^= h >> 29
	}
	return h
}

// userOf finds a user by login, without regard to case. Neighbours are often of
// one owner.
func (p *planner) userOf(login string) *userInfo {
	if p.owner != nil && login == p.ownerLogin {
		return p.owner
	}
	u := p.users[login]
	if u == nil {
		u = p.users[strings.ToLower(login)]
	}
	p.owner, p.ownerLogin = u, login
	return u
}

// asked is what a list of labels asks for: labels that a host must have, and
// labels that it should have. impossible: one of them does not exist.
type asked struct {
	deps, preferred setID
	impossible      bool
}

// jobRequest sorts a job's labels into required and preferred ones. ok is false
// if one of them does not exist. Many jobs have the same list of labels, so each
// list is sorted once.
func (p *planner) jobRequest(job *jobInfo) (key request, ok bool) {
	p.deps = p.deps[:0]
	for _, l := range job.Deps {
		p.deps = append(p.deps, int64(l))
	}
	list := int(p.depLists.put(p.deps))
	if list == len(p.asked) {
		p.asked = append(p.asked, p.ask(job.Deps))
	}
	a := &p.asked[list]
	return request{suite: job.Parent, priority: job.Priority, acls: job.user.acls, deps: a.deps, preferred: a.preferred}, !a.impossible
}

func (p *planner) ask(labels []LabelID) asked {
	required, preferred := p.required[:0], p.preferred[:0]
	for _, l := range labels {
		info := p.labels.get(l)
		if !info.known {
			return asked{impossible: true}
		}
		switch info.kind {
		case labelRequired:
			required = append(required, int64(l))
		case labelProvision:
			preferred = append(preferred, int64(l))
		}
	}
	p.required, p.preferred = required, preferred
	return asked{deps: p.sets.intern(required), preferred: p.sets.intern(preferred)}
}

// readMinimums parses the suite_min_duts keyvals of suites as Python's int()
// does: surrounding white space and a sign are allowed, negative means none.
func (p *planner) readMinimums() {
	for _, m := range p.s.Minimums {
		n, ok := parseMinimum(m.Value)
		if !ok {
			p.badMinimums[m.Suite] = m.Value
			continue
		}
		p.minimums[m.Suite] = n
	}
}

// reportMinimums reports the keyvals that keep entries waiting.
func (p *planner) reportMinimums() {
	for _, suite := range sortedKeys(p.spoilt) {
		p.plan.Problems = append(p.plan.Problems, Problem{Text: fmt.Sprintf(
			"suite %d: keyval suite_min_duts is %q, which is no integer; its entries wait until it is corrected", suite, p.badMinimums[suite])})
	}
}

func parseMinimum(value string) (int, bool) {
	digits := strings.TrimSpace(value)
	negative := strings.HasPrefix(digits, "-")
	if negative || strings.HasPrefix(digits, "+") {
		digits = digits[1:]
	}
	if digits == "" {
		return 0, false
	}
	n := 0
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return 0, false
		}
		// Larger values than any lab has hosts all mean the same.
		n = min(n*10+int(c-'0'), math.MaxInt32)
	}
	if negative {
		return 0, true
	}
	return n, true
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (p *planner) problem(e *Entry, text string) {
	p.plan.Problems = append(p.plan.Problems, Problem{Entry: e.ID, Text: text})
}
