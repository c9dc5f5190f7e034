package scheduler

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/bits-and-blooms/bitset"
)

// setID refers to an interned, sorted set of label or ACL ids; 0 is the empty
// set.
type setID int

// setTable interns id sets, so that requests compare by a few integers.
type setTable struct {
	ids  map[string]setID
	sets [][]int64
	buf  []byte
}

// intern sorts ids in place and returns the set's id.
func (t *setTable) intern(ids []int64) setID {
	if len(ids) == 0 {
		return 0
	}
	if t.ids == nil {
		t.ids = make(map[string]setID)
		t.sets = [][]int64{nil}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	t.buf = t.buf[:0]
	for _, id := range ids {
		t.buf = binary.BigEndian.AppendUint64(t.buf, uint64(id))
	}
	if id, ok := t.ids[string(t.buf)]; ok {
		return id
	}
	id := setID(len(t.sets))
	t.sets = append(t.sets, slices.Clone(ids))
	t.ids[string(t.buf)] = id
	return id
}

func (t *setTable) get(id setID) []int64 {
	if id == 0 {
		return nil
	}
	return t.sets[id]
}

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
	entries []int // indexes into planner.entries
	// asked is how many hosts the group has asked for, in vain or not.
	asked int
	// next is the index of the first entry that may still lack a host.
	next int
	// ahead is how many entries of other requests come before this one.
	ahead int
	match *match
}

type matchKey struct{ deps, acls setID }

// match is the set of hosts that carry the deps and share an ACL group,
// computed once per (deps, ACLs).
type match struct {
	// labelled carry all deps and are valid.
	labelled *bitset.BitSet
	// eligible are those of labelled that share an ACL group.
	eligible *bitset.BitSet
	// impossible names a dep that no host can ever satisfy, if there is one.
	impossible string
}

// readRequests sorts the pending entries into queue order and groups those that
// ask for any host by equal request.
func (p *planner) readRequests() {
	p.entries = make([]pending, 0, len(p.s.Entries))
	for _, q := range p.queue() {
		p.entries = append(p.entries, pending{entry: q.entry, job: q.job, host: -1})
	}
	groups := make(map[request]*group)
	for i := range p.entries {
		e := &p.entries[i]
		if e.job.SynchCount > 1 {
			p.synchEntries[e.job.ID] = append(p.synchEntries[e.job.ID], e.entry)
		}
		if e.entry.Host != 0 {
			e.job.held = append(e.job.held, e.entry.Host)
		}
		p.readRequest(i, groups)
	}
	slices.SortStableFunc(p.groups, func(a, b *group) int {
		return cmp.Or(cmp.Compare(b.key.priority, a.key.priority), cmp.Compare(a.key.suite, b.key.suite))
	})
	ahead := 0
	for _, g := range p.groups {
		g.ahead = ahead
		ahead += len(g.entries)
	}
}

// queued is an entry with its job, and its place in the queue in plain numbers.
type queued struct {
	entry    *Entry
	job      *jobInfo
	priority int64
	rank     int8 // entries that name a host, then those with a meta_host
	suite    JobID
}

// queue returns the pending entries in the order of the queue: priority, entries
// that name a host, entries with a meta_host, suite (none first), job, entry
// (Autotest JobQueryManager.get_pending_queue_entries). Entries without job are
// reported and left out.
func (p *planner) queue() []queued {
	all := make([]queued, 0, len(p.s.Entries))
	for i := range p.s.Entries {
		e := &p.s.Entries[i]
		job := p.jobs[e.Job]
		if job == nil {
			p.problem(e, fmt.Sprintf("entry %d belongs to job %d, which does not exist", e.ID, e.Job))
			continue
		}
		job.entries++
		q := queued{entry: e, job: job, priority: job.Priority, suite: job.Parent}
		if e.Host == 0 {
			q.rank += 2
		}
		if e.MetaHost == 0 {
			q.rank++
		}
		all = append(all, q)
	}
	return sortQueue(all)
}

// place is what entries of one part of the queue have in common.
type place struct {
	priority int64
	rank     int8
	suite    JobID
}

// sortQueue sorts the queue by parts: there are far fewer of them than entries,
// and databases tend to give the rows of each in order of their ids, so that
// often nothing is left to sort.
func sortQueue(all []queued) []queued {
	number := make(map[place]int)
	var places []place
	var sizes []int
	in := make([]int32, len(all)) // entry -> number of its part
	for i, q := range all {
		at := place{q.priority, q.rank, q.suite}
		n, known := number[at]
		if !known {
			n = len(places)
			number[at] = n
			places, sizes = append(places, at), append(sizes, 0)
		}
		in[i] = int32(n)
		sizes[n]++
	}
	order := slices.SortedFunc(slices.Values(places), comparePlaces)
	begin, end := make([]int, len(places)), 0
	for _, at := range order {
		n := number[at]
		begin[n] = end
		end += sizes[n]
	}
	out, next := make([]queued, len(all)), slices.Clone(begin)
	for i, q := range all {
		out[next[in[i]]] = q
		next[in[i]]++
	}
	for n := range places {
		part := out[begin[n]:next[n]]
		if !slices.IsSortedFunc(part, compareIDs) {
			slices.SortFunc(part, compareIDs)
		}
	}
	return out
}

func comparePlaces(a, b place) int {
	return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(a.rank, b.rank), cmp.Compare(a.suite, b.suite))
}

func compareIDs(a, b queued) int {
	if a.entry.Job != b.entry.Job {
		return cmp.Compare(a.entry.Job, b.entry.Job)
	}
	return cmp.Compare(a.entry.ID, b.entry.ID)
}

// groupSize is room for the entries of a usual group.
const groupSize = 16

func (p *planner) readRequest(i int, groups map[request]*group) {
	e := &p.entries[i]
	if !e.job.read {
		p.readJob(e.job)
	}
	if e.reason = e.job.reason; e.reason != nil {
		if e.reason.Code == Malformed {
			p.problem(e.entry, fmt.Sprintf("entry %d: %s", e.entry.ID, e.reason.Text))
		}
		return
	}
	if e.entry.Host != 0 {
		return
	}
	g := groups[e.job.key]
	if g == nil {
		g = &group{key: e.job.key, entries: make([]int, 0, groupSize), match: p.match(matchKey{e.job.key.deps, e.job.key.acls})}
		groups[e.job.key] = g
		p.groups = append(p.groups, g)
	}
	e.group = g
	g.entries = append(g.entries, i)
}

// readJob works out what the entries of a job ask for, or why they cannot be
// served.
func (p *planner) readJob(job *jobInfo) {
	job.read = true
	job.user = p.userOf(job.Owner)
	if job.user == nil {
		// The original acquires a one-time host for such an entry and then
		// crashes; any other request of an unknown owner is never served.
		job.reason = &Reason{Code: UnknownOwner, Text: fmt.Sprintf("owner %q has no row in afe_users", job.Owner)}
		return
	}
	if value, bad := p.badMinimums[job.Parent]; bad {
		job.reason = &Reason{Code: BadMinimum, Text: fmt.Sprintf("keyval suite_min_duts of suite %d is %q, which is no integer", job.Parent, value)}
		return
	}
	key, ok := p.jobRequest(job.Job, job.user)
	if !ok {
		job.reason = &Reason{Code: Malformed, Text: fmt.Sprintf("job %d depends on a label that does not exist", job.ID)}
		return
	}
	job.key = key
}

// userOf finds a user by login, without regard to case.
func (p *planner) userOf(login string) *User {
	if u := p.users[login]; u != nil {
		return u
	}
	return p.users[strings.ToLower(login)]
}

// jobRequest sorts a job's labels into required and preferred ones. ok is false
// if one of them does not exist.
func (p *planner) jobRequest(job *Job, user *User) (key request, ok bool) {
	key = request{suite: job.Parent, priority: job.Priority}
	required, preferred := p.required[:0], p.preferred[:0]
	for _, l := range job.Deps {
		info, ok := p.labels[l]
		if !ok {
			return key, false
		}
		switch info.kind {
		case labelRequired:
			required = append(required, int64(l))
		case labelProvision:
			preferred = append(preferred, int64(l))
		}
	}
	key.deps = p.sets.intern(required)
	key.preferred = p.sets.intern(preferred)
	key.acls = p.aclsOf(user)
	p.required, p.preferred = required, preferred
	return key, true
}

// aclsOf interns the ACL groups of a user, once per user.
func (p *planner) aclsOf(user *User) setID {
	if id, ok := p.userACLs[user.ID]; ok {
		return id
	}
	acls := make([]int64, len(user.ACLs))
	for i, a := range user.ACLs {
		acls[i] = int64(a)
	}
	id := p.sets.intern(acls)
	p.userACLs[user.ID] = id
	return id
}

// match finds the hosts that carry the deps and share an ACL group (Autotest
// rdb.AvailableHostQueryManager.find_hosts), without looking at leases.
func (p *planner) match(key matchKey) *match {
	if m := p.matches[key]; m != nil {
		return m
	}
	m := &match{labelled: p.valid.Clone()}
	for _, l := range p.sets.get(key.deps) {
		set := p.hostsWith(LabelID(l))
		if set == nil || set.None() {
			m.impossible = p.labels[LabelID(l)].name
			m.labelled.ClearAll()
			break
		}
		m.labelled.InPlaceIntersection(set)
	}
	m.eligible = m.labelled.Intersection(p.sharing(key.acls))
	p.matches[key] = m
	return m
}

// hostsWith returns the hosts that satisfy a dep. A replaced label counts only
// as a static label of the same name.
func (p *planner) hostsWith(l LabelID) *bitset.BitSet {
	if p.s.Rules.RespectStaticLabels && p.replaced[l] {
		return p.staticHosts[strings.ToLower(p.labels[l].name)]
	}
	return p.labelHosts[l]
}

// sharing returns the set of the hosts in any of the ACL groups, computed once
// per set of groups.
func (p *planner) sharing(acls setID) *bitset.BitSet {
	if union := p.shared[acls]; union != nil {
		return union
	}
	union := bitset.New(uint(len(p.hosts)))
	p.shared[acls] = union
	for _, a := range p.sets.get(acls) {
		if set := p.aclHosts[ACLID(a)]; set != nil {
			union.InPlaceUnion(set)
		}
	}
	return union
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
	// A map is enough for lookups; problems must come in a fixed order.
	for _, suite := range sortedKeys(p.badMinimums) {
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
