package scheduler

import (
	"cmp"
	"slices"
	"strings"

	"github.com/bits-and-blooms/bitset"
)

// MakePlan decides one tick. It never fails: rows that make no sense are
// reported in Plan.Problems and passed over, and do not stop the others.
func MakePlan(s *Snapshot) Plan {
	if s.Basis.Paused != "" {
		return Plan{Basis: s.Basis}
	}
	p := newPlanner(s)
	p.leaseTaskHosts()
	p.readRequests()
	p.roundNamed()
	p.roundMinimum()
	p.roundRest()
	p.activate()
	p.release()
	p.move()
	p.explain()
	return p.plan
}

// planner is the working state of one MakePlan. Hosts are referred to by their
// number: the position in the order of hostname, then id.
type planner struct {
	s       *Snapshot
	actions Actions
	plan    Plan

	hosts   []*Host        // by number
	hostNum map[HostID]int // id -> number
	jobs    map[JobID]*jobInfo
	users   map[string]*User // by folded login

	labels      map[LabelID]labelInfo
	labelHosts  map[LabelID]*bitset.BitSet // plain label -> hosts
	staticHosts map[string]*bitset.BitSet  // folded static label name -> hosts
	replaced    map[LabelID]bool
	aclHosts    map[ACLID]*bitset.BitSet
	shared      map[setID]*bitset.BitSet // ACL set -> hosts in any of its groups

	valid *bitset.BitSet // not invalid
	// free shrinks as hosts are given away in this tick.
	free *bitset.BitSet
	// freeAtStart is free before round 0, kept for the reasons.
	freeAtStart *bitset.BitSet

	entries []pending           // in queue order
	given   int                 // how many of them got a host
	groups  []*group            // requests for any host, in serving order
	matches map[matchKey]*match // per (deps, ACLs)
	sets    setTable            // interned label and ACL sets
	// userACLs are the interned ACL groups by user; required and preferred are
	// scratch space.
	userACLs            map[UserID]setID
	required, preferred []int64

	minimums map[JobID]int
	// badMinimums are suites whose keyval is no integer.
	badMinimums map[JobID]string
	siblings    map[JobID][]Sibling
	// synchEntries are the pending entries of jobs whose entries start together.
	synchEntries map[JobID][]*Entry
}

// labelInfo is what a label id stands for.
type labelInfo struct {
	name string
	kind labelKind
}

// jobInfo is a job with what is worked out once for all its entries.
type jobInfo struct {
	*Job
	read    bool // key, user and reason are known
	key     request
	user    *User
	reason  *Reason
	entries int
	// held are the hosts that entries of the job have, had or name: the job
	// cannot be given them a second time.
	held []HostID
}

// pending is an entry with everything looked up.
type pending struct {
	entry *Entry
	job   *jobInfo
	group *group // nil for entries that name a host or cannot be served
	// host is the number of the host given, -1 if none.
	host   int
	round  Round
	reason *Reason
}

func newPlanner(s *Snapshot) *planner {
	p := &planner{
		s:            s,
		actions:      s.Rules.Actions.orDefault(),
		jobs:         make(map[JobID]*jobInfo, len(s.Jobs)),
		users:        make(map[string]*User, len(s.Users)),
		labels:       make(map[LabelID]labelInfo, len(s.Labels)),
		labelHosts:   make(map[LabelID]*bitset.BitSet),
		staticHosts:  make(map[string]*bitset.BitSet),
		replaced:     make(map[LabelID]bool, len(s.ReplacedLabels)),
		aclHosts:     make(map[ACLID]*bitset.BitSet),
		shared:       make(map[setID]*bitset.BitSet),
		matches:      make(map[matchKey]*match),
		userACLs:     make(map[UserID]setID),
		minimums:     make(map[JobID]int),
		badMinimums:  make(map[JobID]string),
		siblings:     make(map[JobID][]Sibling),
		synchEntries: make(map[JobID][]*Entry),
	}
	p.plan.Problems = append(p.plan.Problems, s.Malformed...)
	p.plan.Basis = s.Basis
	for i := range s.Labels {
		name := s.Labels[i].Name
		p.labels[s.Labels[i].ID] = labelInfo{name, p.actions.kind(name)}
	}
	for _, l := range s.ReplacedLabels {
		p.replaced[l] = true
	}
	for i := range s.Users {
		p.users[strings.ToLower(s.Users[i].Login)] = &s.Users[i]
	}
	infos := make([]jobInfo, len(s.Jobs))
	for i := range s.Jobs {
		infos[i].Job = &s.Jobs[i]
		p.jobs[s.Jobs[i].ID] = &infos[i]
	}
	for _, sib := range s.Siblings {
		p.siblings[sib.Job] = append(p.siblings[sib.Job], sib)
		if job := p.jobs[sib.Job]; job != nil && sib.Host != 0 {
			job.held = append(job.held, sib.Host)
		}
	}
	for _, sibs := range p.siblings {
		slices.SortFunc(sibs, func(a, b Sibling) int { return cmp.Compare(a.ID, b.ID) })
	}
	p.numberHosts()
	p.readMinimums()
	return p
}

// numberHosts fixes the order in which equal hosts are given out and builds the
// sets over it.
func (p *planner) numberHosts() {
	n := len(p.s.Hosts)
	p.hosts = make([]*Host, n)
	for i := range p.s.Hosts {
		p.hosts[i] = &p.s.Hosts[i]
	}
	slices.SortFunc(p.hosts, func(a, b *Host) int {
		if c := strings.Compare(a.Hostname, b.Hostname); c != 0 {
			return c
		}
		return cmp.Compare(a.ID, b.ID)
	})
	staticName := make(map[LabelID]string, len(p.s.StaticLabels))
	for _, l := range p.s.StaticLabels {
		staticName[l.ID] = strings.ToLower(l.Name)
	}
	p.hostNum = make(map[HostID]int, n)
	p.valid = bitset.New(uint(n))
	p.free = bitset.New(uint(n))
	for num, h := range p.hosts {
		bit := uint(num)
		p.hostNum[h.ID] = num
		if !h.Invalid {
			p.valid.Set(bit)
		}
		// A host with an active entry is never given out, even when somebody
		// cleared its lease by hand. The original trusted the lease alone.
		if !h.Leased && !h.Locked && !h.ActiveEntry && !h.Displaced {
			p.free.Set(bit)
		}
		for _, l := range h.Labels {
			setFor(p.labelHosts, l, n).Set(bit)
		}
		for _, a := range h.ACLs {
			setFor(p.aclHosts, a, n).Set(bit)
		}
		for _, l := range h.StaticLabels {
			if name, ok := staticName[l]; ok {
				setFor(p.staticHosts, name, n).Set(bit)
			}
		}
	}
}

func setFor[K comparable](m map[K]*bitset.BitSet, key K, n int) *bitset.BitSet {
	set := m[key]
	if set == nil {
		set = bitset.New(uint(n))
		m[key] = set
	}
	return set
}

// leaseTaskHosts leases hosts of frontend tasks before any job is looked at,
// whatever their shard and whether or not they are invalid (Autotest
// host_scheduler._lease_hosts_of_frontend_tasks).
func (p *planner) leaseTaskHosts() {
	seen := make(map[int]bool, len(p.s.TaskHosts))
	for _, id := range p.s.TaskHosts {
		num, ok := p.hostNum[id]
		if !ok || seen[num] {
			continue
		}
		seen[num] = true
		h := p.hosts[num]
		if h.Locked || h.ActiveEntry {
			continue
		}
		p.free.Clear(uint(num))
		if !h.Leased {
			p.plan.Leases = append(p.plan.Leases, Lease{Host: h.ID, Hostname: h.Hostname})
		}
	}
	slices.SortFunc(p.plan.Leases, func(a, b Lease) int { return cmp.Compare(p.hostNum[a.Host], p.hostNum[b.Host]) })
	p.freeAtStart = p.free.Clone()
}

// give takes a host out of the pool for an entry.
func (p *planner) give(e *pending, host int, round Round) {
	p.given++
	e.host = host
	e.round = round
	p.free.Clear(uint(host))
	if e.job.entries > 1 {
		e.job.held = append(e.job.held, p.hosts[host].ID)
	}
}
