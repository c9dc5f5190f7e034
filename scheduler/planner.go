package scheduler

import (
	"cmp"
	"slices"
	"strings"

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
	p.roundMinimum()
	p.roundRest()
	p.conclude()
	return p.plan
}

// conclude decides what follows from the assigned hosts. Only synchronous jobs that
// are stopped change which entry has a host; the entries that wait are known after
// that.
func (p *planner) conclude() {
	act := func() {
		p.activate()
		p.release()
		p.move()
	}
	if len(p.synchEntries) > 0 {
		act()
		p.explain()
		return
	}
	inParallel(p.explain, act)
}

// inParallel runs two steps at the same time that share no data. A panic in either
// step becomes a panic of the caller.
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

// planner is the working state of one MakePlan. Hosts are referred to by their
// number: the position in the order of hostname, then id.
type planner struct {
	s       *Snapshot
	actions Actions
	plan    Plan

	hosts   []*Host // by number
	hostNum lookup  // id -> number
	jobNum  lookup  // id -> position in jobs
	jobs    []jobInfo
	users   map[string]*userInfo // by folded login
	// owner is the result of the last search, which was for ownerLogin; it is nil if
	// there is no such user.
	owner      *userInfo
	ownerLogin string

	labels      *labelTable
	labelHosts  hostSets            // by plain label
	staticHosts map[string]*hostSet // by folded static label name
	replaced    map[LabelID]bool
	aclHosts    hostSets
	shared      map[setID]*hostSet // ACL set -> hosts in any of its groups

	valid *hostSet // not invalid
	// free are the hosts that may still be assigned in this tick.
	free *bitset.BitSet
	// freeAtStart is what free was before round 0. The reasons need it.
	freeAtStart *bitset.BitSet

	entries  []pending // in queue order
	given    int       // how many of them got a host
	requests []request
	numbers  []int32 // of requests + 1, by hash, open addressing
	groups   []group // requests for any host, in serving order
	groupOf  []int32 // request -> group

	sets      setTable   // interned label and ACL sets
	labelSets []labelled // by label set
	matches   slab[match]
	lists     arena
	// depLists are the label lists of jobs as they were read; asked has what each
	// list asks for.
	depLists setTable
	asked    []asked
	// deps, required and preferred are scratch space.
	deps, required, preferred []int64
	tiers                     [][]int32
	carried                   []*hostSet

	minimums map[JobID]int
	// badMinimums are the suites whose keyval is not an integer.
	badMinimums map[JobID]string
	spoilt      map[JobID]bool // those of pending entries
	siblings    map[JobID][]Sibling
	// synchEntries are the pending entries of jobs whose entries start together.
	synchEntries map[JobID][]*Entry
	outcomes     []hostOutcome // by host, once all hosts of the tick are assigned
	reasons      slab[Reason]
}

// userInfo is a user with the interned set of the ACL groups.
type userInfo struct {
	*User
	acls setID
}

// jobInfo is a job with what is computed once for all its entries.
type jobInfo struct {
	*Job
	user   *userInfo
	reason *Reason
	// held are the hosts that entries of the job have, had or name. They cannot be
	// assigned to the job a second time.
	held    []HostID
	request int32 // number, if read and without reason
	entries int32
	read    bool // request, user and reason are known
}

// pending is an entry with everything looked up.
type pending struct {
	entry  *Entry
	job    *jobInfo
	reason *Reason
	// host is the number of the assigned host, -1 if there is none.
	host  int32
	round Round
}

func newPlanner(s *Snapshot) *planner {
	p := &planner{
		s:            s,
		actions:      s.Rules.Actions.orDefault(),
		users:        make(map[string]*userInfo, len(s.Users)),
		replaced:     make(map[LabelID]bool, len(s.ReplacedLabels)),
		shared:       make(map[setID]*hostSet),
		minimums:     make(map[JobID]int),
		badMinimums:  make(map[JobID]string),
		spoilt:       make(map[JobID]bool),
		siblings:     make(map[JobID][]Sibling),
		synchEntries: make(map[JobID][]*Entry),
		sets:         newSetTable(len(s.Jobs)),
		depLists:     newSetTable(len(s.Jobs)),
		asked:        make([]asked, 1),
		requests:     make([]request, 0, len(s.Jobs)/2),
	}
	p.plan.Problems = append(p.plan.Problems, s.Malformed...)
	p.plan.Basis = s.Basis
	p.labels = newLabelTable(s.Labels, p.actions)
	for _, l := range s.ReplacedLabels {
		p.replaced[l] = true
	}
	for i := range s.Users {
		p.readUser(&s.Users[i])
	}
	p.jobNum = newLookup(len(s.Jobs), func(i int) int64 { return int64(s.Jobs[i].ID) })
	p.jobs = make([]jobInfo, len(s.Jobs))
	for i := range s.Jobs {
		p.jobs[i].Job = &s.Jobs[i]
	}
	p.readSiblings()
	p.readMinimums()
	return p
}

func (p *planner) readUser(u *User) {
	acls := make([]int64, len(u.ACLs))
	for i, a := range u.ACLs {
		acls[i] = int64(a)
	}
	p.users[strings.ToLower(u.Login)] = &userInfo{User: u, acls: p.sets.intern(acls)}
}

func (p *planner) job(id JobID) *jobInfo {
	if i, ok := p.jobNum.get(int64(id)); ok {
		return &p.jobs[i]
	}
	return nil
}

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

// CompareHosts is the order in which a plan assigns equal hosts: by hostname,
// then id. MakePlan is faster if the hosts of the snapshot are in this order.
func CompareHosts(a, b *Host) int {
	if c := strings.Compare(a.Hostname, b.Hostname); c != 0 {
		return c
	}
	return cmp.Compare(a.ID, b.ID)
}

// numberHosts numbers the hosts in the order in which equal hosts are assigned, and
// builds the sets of hosts. A host that is leased, locked, in use or displaced is
// not free, which is what keeps it from being assigned.
func (p *planner) numberHosts() {
	n := len(p.s.Hosts)
	p.hosts = make([]*Host, n)
	for i := range p.s.Hosts {
		p.hosts[i] = &p.s.Hosts[i]
	}
	if !slices.IsSortedFunc(p.hosts, CompareHosts) {
		slices.SortFunc(p.hosts, CompareHosts)
	}
	p.hostNum = newLookup(n, func(i int) int64 { return int64(p.hosts[i].ID) })
	p.valid = newHostSet(n)
	p.free = bitset.New(uint(n))
	p.labelHosts.hosts, p.aclHosts.hosts = n, n
	for num, h := range p.hosts {
		if !h.Invalid {
			p.valid.add(num)
		}
		// A host with an active entry is never assigned, even when somebody
		// cleared its lease by hand. The original trusts the lease alone.
		if !h.Leased && !h.Locked && !h.ActiveEntry && !h.Displaced {
			p.free.Set(uint(num))
		}
		for _, l := range h.Labels {
			p.labelHosts.of(int64(l)).add(num)
		}
		for _, a := range h.ACLs {
			p.aclHosts.of(int64(a)).add(num)
		}
	}
	p.readStaticLabels()
}

func (p *planner) readStaticLabels() {
	p.staticHosts = make(map[string]*hostSet)
	names := make(map[LabelID]string, len(p.s.StaticLabels))
	for _, l := range p.s.StaticLabels {
		names[l.ID] = strings.ToLower(l.Name)
	}
	for num, h := range p.hosts {
		for _, l := range h.StaticLabels {
			name, ok := names[l]
			if !ok {
				continue
			}
			if p.staticHosts[name] == nil {
				p.staticHosts[name] = newHostSet(len(p.hosts))
			}
			p.staticHosts[name].add(num)
		}
	}
}

// leaseTaskHosts leases hosts of frontend tasks before any job is considered,
// whatever their shard and whether or not they are invalid (Autotest
// host_scheduler._lease_hosts_of_frontend_tasks).
func (p *planner) leaseTaskHosts() {
	var nums []int
	for _, id := range p.s.TaskHosts {
		if num, ok := p.hostNum.get(int64(id)); ok {
			nums = append(nums, num)
		}
	}
	slices.Sort(nums)
	for _, num := range slices.Compact(nums) {
		h := p.hosts[num]
		if h.Locked || h.ActiveEntry {
			continue
		}
		p.free.Clear(uint(num))
		if !h.Leased {
			p.plan.Leases = append(p.plan.Leases, Lease{Host: h.ID, Hostname: h.Hostname})
		}
	}
	p.freeAtStart = p.free.Clone()
}

// give assigns a free host to an entry.
func (p *planner) give(e *pending, num int, round Round) {
	p.given++
	e.host = int32(num)
	e.round = round
	p.free.Clear(uint(num))
	if e.job.entries > 1 {
		e.job.held = append(e.job.held, p.hosts[num].ID)
	}
}
