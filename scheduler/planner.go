package scheduler

import (
	"cmp"
	"slices"

	"github.com/bits-and-blooms/bitset"
)

// MakePlan decides one tick. It never fails: malformed rows are reported in
// Plan.Problems and skipped, and all others are served.
func MakePlan(s *Snapshot) Plan {
	if s.Basis.Paused != "" {
		return Plan{Basis: s.Basis}
	}
	p := newPlanner(s)
	inParallel(func() {
		p.numberHosts()
		p.leaseTaskHosts()
	}, p.readRequests)
	p.group()
	p.roundNamed()
	p.beginMatching()
	p.roundMinimum()
	p.roundRest()
	p.keepPromises()
	p.conclude()
	return p.plan
}

// conclude decides what follows from the assigned hosts. A synchronous job that is
// stopped takes the hosts from its entries again, so with such jobs the entries that
// wait are known only afterwards. Without them both steps can run at the same time.
func (p *planner) conclude() {
	act := func() {
		p.activate()
		p.release()
		p.endHolds()
		p.move()
	}
	if len(p.synchEntries) > 0 {
		act()
		p.explain()
		return
	}
	inParallel(p.explain, act)
}

// inParallel runs two steps at the same time. They must not share data that one of them
// changes. A panic in either step becomes a panic of the caller, who may recover from it.
func inParallel(a, b func()) {
	done := make(chan any, 1)
	go func() {
		defer func() { done <- recover() }()
		a()
	}()
	b()
	if p := <-done; p != nil {
		panic(p)
	}
}

// planner is the working state of one MakePlan. It refers to hosts by their number,
// which is the position in the order of CompareHosts.
type planner struct {
	s       *Snapshot
	actions Actions
	plan    Plan
	// contended are the rows that cannot be written.
	contended contended
	// drains are the holds of draining hosts.
	drains map[HostID]*Hold
	// away are the hosts whose agents take nothing new.
	away map[HostID]*Away

	hosts   []*Host // by number
	hostNum lookup  // id -> number
	jobNum  lookup  // id -> position in jobs
	jobs    []jobInfo
	users   map[UserID]*userInfo

	labels      *labelTable
	labelHosts  []*hostSet           // by position of the plain label in the snapshot
	staticHosts map[LabelID]*hostSet // by id of the static label
	replaced    map[LabelID]LabelID  // label -> static label, 0 if there is none of its name
	aclHosts    map[ACLID]*hostSet
	shared      map[setID]*hostSet // ACL set -> hosts in any of its groups

	valid *hostSet // hosts that are not marked as invalid
	// free are the hosts that may still be assigned in this tick.
	free *bitset.BitSet
	// freeAtStart is a copy of free from before round 0. It distinguishes hosts that this
	// tick assigned from those that were leased before.
	freeAtStart *bitset.BitSet

	entries  []pending // in queue order
	assigned int       // how many entries got a host
	requests []request
	numbers  map[request]int32 // request -> position in requests
	groups   []group           // requests for any host, in serving order
	groupOf  []int32           // request -> group

	sets      setTable   // interned label and ACL sets
	labelSets []labelled // by label set
	matches   slab[match]
	rankeds   slab[ranked]
	rankedBy  map[rankedKey]*ranked
	demands   slab[demand]
	demandsBy map[demandKey]*demand
	matcher   *matcher // nil unless the policy is PolicyOptimal
	refusals  setTable // interned sets of hosts that jobs are refused
	lists     arena
	// depLists are the different lists of labels that jobs depend on, in the order of
	// the snapshot. requirements has what each list requires.
	depLists     setTable
	requirements []requirements
	// The following are scratch space, which is used again for each job or request.
	deps, required, preferred []int64
	refused                   []int64
	tiers                     [][]int32
	carried                   []*hostSet

	minimums map[JobID]int
	// badMinimums are the suites whose keyval is not an integer.
	badMinimums map[JobID]string
	// blockedSuites are the suites of badMinimums that have pending entries.
	blockedSuites map[JobID]bool
	siblings      map[JobID][]Sibling
	// synchEntries are the pending entries of jobs whose entries start together.
	synchEntries map[JobID][]*Entry
	outcomes     []hostOutcome   // by host, nil until all rounds are over
	holders      map[int32]int32 // host -> position in entries, nil until all rounds are over
	takers       map[int]EntryID // host -> entry that got it in round 0, with details only
	reasons      slab[Reason]
}

// userInfo is a user with the interned set of the user's ACL groups.
type userInfo struct {
	*User
	acls setID
}

// jobInfo is a job with what is computed once for all its entries.
type jobInfo struct {
	*Job
	user *userInfo
	// rank is the priority with what the job gained by waiting.
	rank   int64
	reason *Reason
	// held are the hosts that entries of the job have, had or name. They cannot be
	// assigned to the job a second time.
	held []HostID
	// demand is that of the job's entries which may get any host, nil until it is needed, and
	// always under PolicyExact.
	demand *demand
	// request is the position in planner.requests. It is set if read is true and there
	// is no reason.
	request int32
	// entries is how many pending entries the job has.
	entries int32
	// read is true once request, user and reason are known.
	read bool
}

// pending is a pending entry with its job, and with what the tick decided about it.
type pending struct {
	entry  *Entry
	job    *jobInfo
	reason *Reason
	// host is the number of the assigned host, and -1 if there is none.
	host  int32
	round Round
}

func newPlanner(s *Snapshot) *planner {
	p := &planner{
		s:             s,
		actions:       s.Rules.Actions.orDefault(),
		users:         make(map[UserID]*userInfo, len(s.Users)),
		staticHosts:   make(map[LabelID]*hostSet),
		aclHosts:      make(map[ACLID]*hostSet),
		replaced:      make(map[LabelID]LabelID, len(s.ReplacedLabels)),
		shared:        make(map[setID]*hostSet),
		minimums:      make(map[JobID]int),
		badMinimums:   make(map[JobID]string),
		blockedSuites: make(map[JobID]bool),
		siblings:      make(map[JobID][]Sibling),
		synchEntries:  make(map[JobID][]*Entry),
		sets:          newSetTable(len(s.Jobs)),
		depLists:      newSetTable(len(s.Jobs)),
		requirements:  make([]requirements, 1),
		requests:      make([]request, 0, len(s.Jobs)/2),
		numbers:       make(map[request]int32, len(s.Jobs)/4),
	}
	p.plan.Problems = append(p.plan.Problems, s.Malformed...)
	p.plan.Basis = s.Basis
	p.contended = contendedIn(s)
	p.findDrains()
	p.labels = newLabelTable(s.Labels, p.actions)
	for _, l := range s.ReplacedLabels {
		p.replaced[l.ID] = l.Static
	}
	for i := range s.Users {
		p.readUser(&s.Users[i])
	}
	p.jobNum = newLookup(len(s.Jobs), func(i int) int64 { return int64(s.Jobs[i].ID) })
	p.jobs = make([]jobInfo, len(s.Jobs))
	for i := range s.Jobs {
		p.jobs[i].Job = &s.Jobs[i]
		p.jobs[i].rank = s.rank(&s.Jobs[i])
	}
	p.readSiblings()
	p.readMinimums()
	return p
}

// readUser makes a user known by id.
func (p *planner) readUser(u *User) {
	acls := make([]int64, len(u.ACLs))
	for i, a := range u.ACLs {
		acls[i] = int64(a)
	}
	p.users[u.ID] = &userInfo{User: u, acls: p.sets.intern(acls)}
}

// job finds a job of the snapshot by id, and returns nil if there is none.
func (p *planner) job(id JobID) *jobInfo {
	if i, ok := p.jobNum.get(int64(id)); ok {
		return &p.jobs[i]
	}
	return nil
}

// readSiblings notes the siblings of pending entries by job, and the hosts that they
// keep from being assigned to the job again.
func (p *planner) readSiblings() {
	for _, sib := range p.s.Siblings {
		p.siblings[sib.Job] = append(p.siblings[sib.Job], sib)
		if job := p.job(sib.Job); job != nil && sib.Host != 0 {
			job.held = append(job.held, sib.Host)
		}
	}
	for _, sibs := range p.siblings {
		slices.SortFunc(sibs, func(a, b Sibling) int { return cmp.Compare(a.ID, b.ID) })
	}
}

// give gives a free host to an entry.
func (p *planner) give(e *pending, num int32, round Round) {
	p.assigned++
	e.host = num
	e.round = round
	p.free.Clear(uint(num))
}

// assign gives a free host to an entry. It notes the host in the job only if the job has
// other entries, because only these could be assigned the host a second time.
func (p *planner) assign(e *pending, num int, round Round) {
	p.give(e, int32(num), round)
	if e.job.entries > 1 {
		e.job.held = append(e.job.held, p.hosts[num].ID)
	}
}
