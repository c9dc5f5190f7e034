package scheduler

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// planFunc is MakePlan or a mutant of it.
type planFunc func(*Snapshot) Plan

// property is something that is true of every plan, together with a mutant of the
// planner that is broken in just this respect.
type property struct {
	name   string
	holds  func(s *Snapshot, plan planFunc) error
	mutant planFunc
}

var properties = []property{
	{"no host twice", noHostTwice, func(s *Snapshot) Plan {
		p := MakePlan(s)
		if n := len(p.Assignments); n > 1 {
			p.Assignments[n-1].Host = p.Assignments[0].Host
		}
		return p
	}},
	{"no entry twice", noEntryTwice, func(s *Snapshot) Plan {
		p := MakePlan(s)
		if n := len(p.Assignments); n > 0 {
			p.Waiting = append(p.Waiting, Waiting{Entry: p.Assignments[0].Entry, Reason: &Reason{}})
		}
		return p
	}},
	{"only eligible hosts: labels", onlyEligible, mutateJobs(func(j *Job) { j.Deps = nil })},
	{"only eligible hosts: ACL", onlyEligible, mutateHosts(func(h *Host) { h.ACLs = []ACLID{1, 2} })},
	{"only eligible hosts: locked", onlyEligible, mutateHosts(func(h *Host) { h.Locked = false })},
	{"only eligible hosts: leased", onlyEligible, mutateHosts(func(h *Host) { h.Leased = false })},
	{"only eligible hosts: active entry", onlyEligible, mutateHosts(func(h *Host) { h.ActiveEntry = 0 })},
	{"only eligible hosts: invalid", onlyEligible, mutateHosts(func(h *Host) { h.Invalid = false })},
	{"only eligible hosts: static labels", onlyEligible, mutateRules(func(r *Rules) { r.RespectStaticLabels = !r.RespectStaticLabels })},
	{"only eligible hosts: shard", onlyEligible, mutateRules(func(r *Rules) { r.OnShard = true })},
	{"only eligible hosts: host of a sibling", onlyEligible, mutate(func(s *Snapshot) { s.Siblings = nil })},
	{"no priority inversion inside a round", noInversion, mutateJobs(func(j *Job) { j.Priority = -j.Priority })},
	{"no priority inversion inside a round: suites", noInversion, mutateJobs(func(j *Job) {
		if j.Parent != 0 {
			j.Parent = 4 - j.Parent
		}
	})},
	{"preferred hosts first", preferredFirst, mutateRules(func(r *Rules) {
		r.Actions = DefaultActions()
		r.Actions.Other = append(r.Actions.Other, r.Actions.Provision...)
		r.Actions.Provision = nil
	})},
	{"minimums first", minimumsFirst, mutate(func(s *Snapshot) { s.Minimums = nil })},
	{"minimums not exceeded", minimumsFirst, mutate(func(s *Snapshot) { s.Recorder = nil })},
	{"nothing placeable left unplaced", nothingLeft, func(s *Snapshot) Plan {
		p := MakePlan(s)
		if n := len(p.Assignments); n > 0 {
			a := p.Assignments[n-1]
			p.Assignments = p.Assignments[:n-1]
			p.Waiting = append(p.Waiting, Waiting{Entry: a.Entry, Job: a.Job, Reason: &Reason{Code: Outranked}})
		}
		return p
	}},
	{"input order irrelevant", orderIrrelevant, func(s *Snapshot) Plan {
		for i := range s.Hosts { // ties by position instead of name
			s.Hosts[i].Hostname = fmt.Sprintf("%05d", i)
		}
		return MakePlan(s)
	}},
	{"plan after apply is empty: leases", emptyAfterApply, func(s *Snapshot) Plan {
		p := MakePlan(s)
		for _, h := range s.TaskHosts { // also those that are leased
			p.Leases = append(p.Leases, Lease{Host: h})
		}
		return p
	}},
	{"plan after apply is empty: releases", emptyAfterApply, func(s *Snapshot) Plan {
		p := MakePlan(s)
		for _, h := range s.Hosts { // also those that are not leased
			if h.Ready && !h.Locked && h.ActiveEntry == 0 && !h.OpenTask {
				p.Releases = append(p.Releases, Release{Host: h.ID})
			}
		}
		return p
	}},
	{"releases only what is unused", releasesUnused, mutateHosts(func(h *Host) { h.OpenTask = false })},
	{"releases all that is unused", releasesUnused, func(s *Snapshot) Plan {
		p := MakePlan(s)
		p.Releases = p.Releases[min(1, len(p.Releases)):]
		return p
	}},
	{"only eligible hosts: moving away", onlyEligible, mutateHosts(func(h *Host) { h.Displaced = false })},
	{"moves only what is unused", movesUnused, mutateHosts(func(h *Host) { h.OpenTask = false })},
	{"moves all that is unused", movesUnused, func(s *Snapshot) Plan {
		p := MakePlan(s)
		p.Moves = p.Moves[min(1, len(p.Moves)):]
		return p
	}},
	{"contended rows are left alone: hosts", contendedAlone, mutate(func(s *Snapshot) { s.Contended.Hosts = nil })},
	{"contended rows are left alone: entries", contendedAlone, mutate(func(s *Snapshot) { s.Contended.Entries = nil })},
	{"contended rows are left alone: jobs", contendedAlone, mutate(func(s *Snapshot) { s.Contended.Jobs = nil })},
	{"contended rows are left alone: users", contendedAlone, mutate(func(s *Snapshot) { s.Contended.Users = nil })},
	{"only eligible hosts: draining", onlyEligible, mutate(func(s *Snapshot) { s.Holds = nil })},
	{"only eligible hosts: agent away", onlyEligible, mutate(func(s *Snapshot) { s.Away = nil })},
	{"holds end as they should: nobody's other lock", holdsEnd, mutate(func(s *Snapshot) { s.Now += 100 })},
	{"holds end as they should: what is used goes on", holdsEnd, mutateHosts(func(h *Host) { h.Leased, h.ActiveEntry = false, 0 })},
	{"holds end as they should: contended", holdsEnd, mutate(func(s *Snapshot) { s.Contended.Hosts = nil })},
	{"every entry is accounted for", accountedFor, func(s *Snapshot) Plan {
		p := MakePlan(s)
		p.Waiting = p.Waiting[min(1, len(p.Waiting)):]
		return p
	}},
}

func mutate(change func(*Snapshot)) planFunc {
	return func(s *Snapshot) Plan {
		change(s)
		return MakePlan(s)
	}
}

func mutateJobs(change func(*Job)) planFunc {
	return mutate(func(s *Snapshot) {
		for i := range s.Jobs {
			change(&s.Jobs[i])
		}
	})
}

func mutateHosts(change func(*Host)) planFunc {
	return mutate(func(s *Snapshot) {
		for i := range s.Hosts {
			change(&s.Hosts[i])
		}
	})
}

func mutateRules(change func(*Rules)) planFunc { return mutate(func(s *Snapshot) { change(&s.Rules) }) }

// onCopy runs a planner on its own copy of the snapshot, so that a mutant may change it.
func onCopy(plan planFunc) planFunc {
	return func(s *Snapshot) Plan { return plan(clone(s)) }
}

func clone(s *Snapshot) *Snapshot {
	c := *s
	c.Hosts, c.Jobs, c.Entries = slices.Clone(s.Hosts), slices.Clone(s.Jobs), slices.Clone(s.Entries)
	c.Labels, c.Users, c.Siblings = slices.Clone(s.Labels), slices.Clone(s.Users), slices.Clone(s.Siblings)
	c.ReplacedLabels = slices.Clone(s.ReplacedLabels)
	c.Holds, c.Away = slices.Clone(s.Holds), slices.Clone(s.Away)
	c.Minimums, c.TaskHosts = slices.Clone(s.Minimums), slices.Clone(s.TaskHosts)
	return &c
}

func TestProperties(t *testing.T) {
	requireAll(t, slices.Concat(properties, optimalProperties, agingProperties), labs())
}

// requireAll checks that properties hold in labs.
func requireAll(t *testing.T, all []property, labs *rapid.Generator[*Snapshot]) {
	for _, p := range all {
		t.Run(p.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				s := labs.Draw(t, "lab")
				if err := p.holds(s, onCopy(MakePlan)); err != nil {
					t.Fatalf("%v\n%s", err, MakePlan(s))
				}
			})
		})
	}
}

// mutantTries is how many labs are tried before a mutant counts as survivor.
const mutantTries = 20000

// TestMutants breaks the planner in one respect at a time. The property for this respect
// must fail, or else it proves nothing.
func TestMutants(t *testing.T) {
	gen := labs()
	for _, p := range slices.Concat(properties, optimalProperties, agingProperties) {
		t.Run(p.name, func(t *testing.T) {
			for seed := range mutantTries {
				s := gen.Example(seed)
				if err := p.holds(s, onCopy(p.mutant)); err != nil {
					t.Logf("killed by lab %d: %v", seed, err)
					return
				}
			}
			t.Fatalf("the mutant survived %d labs", mutantTries)
		})
	}
}

func noHostTwice(s *Snapshot, plan planFunc) error {
	seen := map[HostID]EntryID{}
	for _, a := range plan(s).Assignments {
		if other, ok := seen[a.Host]; ok {
			return fmt.Errorf("host %d goes to entries %d and %d", a.Host, other, a.Entry)
		}
		seen[a.Host] = a.Entry
	}
	return nil
}

func noEntryTwice(s *Snapshot, plan planFunc) error {
	p := plan(s)
	seen := map[EntryID]bool{}
	for _, a := range p.Assignments {
		if seen[a.Entry] {
			return fmt.Errorf("entry %d gets two hosts", a.Entry)
		}
		seen[a.Entry] = true
	}
	for _, w := range p.Waiting {
		if seen[w.Entry] {
			return fmt.Errorf("entry %d gets a host and waits", w.Entry)
		}
	}
	return nil
}

func onlyEligible(s *Snapshot, plan planFunc) error {
	r := rulesOf(s)
	for _, a := range plan(s).Assignments {
		h := r.hosts[a.Host]
		if !r.free(h) {
			return fmt.Errorf("host %d is not free", a.Host)
		}
		if err := r.eligible(r.entry(a.Entry), h); err != nil {
			return fmt.Errorf("entry %d on host %d: %w", a.Entry, a.Host, err)
		}
	}
	return nil
}

// noInversion checks that an entry that waits could not have used a host which an entry
// further back in the queue got in the same round.
func noInversion(s *Snapshot, plan planFunc) error {
	r := rulesOf(s)
	p := plan(s)
	for _, w := range p.Waiting {
		e := r.entry(w.Entry)
		if waitsForGood(w) {
			continue
		}
		for _, a := range p.Assignments {
			later := r.entry(a.Entry)
			sameRound := (a.Round == RoundNamed) == (e.Host != 0) && a.Round != RoundMinimum
			if sameRound && r.before(e, later) && r.eligible(e, r.hosts[a.Host]) == nil && !r.jobGot(p, e.Job, a.Host) {
				return fmt.Errorf("entry %d waits while host %d went to entry %d, which comes later", w.Entry, a.Host, a.Entry)
			}
		}
	}
	return nil
}

// waitsForGood tells whether an entry waits for something other than a free host.
func waitsForGood(w Waiting) bool {
	return w.Reason.Code == JobStopped || w.Reason.Code == BadMinimum || w.Reason.Code == UnknownOwner || w.Reason.Code == EntryContended
}

// gaveBack tells whether a job was stopped in this tick after its entries had got hosts.
// Such hosts are free from the next tick on.
func gaveBack(p Plan) bool {
	return slices.ContainsFunc(p.Waiting, func(w Waiting) bool { return w.Reason.Code == JobStopped })
}

func nothingLeft(s *Snapshot, plan planFunc) error {
	r := rulesOf(s)
	p := plan(s)
	given := map[HostID]bool{}
	for _, a := range p.Assignments {
		given[a.Host] = true
	}
	if gaveBack(p) {
		return nil
	}
	for _, w := range p.Waiting {
		if waitsForGood(w) {
			continue
		}
		for i := range s.Hosts {
			h := &s.Hosts[i]
			if r.free(h) && !given[h.ID] && r.eligible(r.entry(w.Entry), h) == nil {
				return fmt.Errorf("entry %d waits (%s) while host %d is free", w.Entry, w.Reason, h.ID)
			}
		}
	}
	return nil
}

// preferredFirst checks that no host that stays free carries more of the preferred labels
// than the host that an entry got.
func preferredFirst(s *Snapshot, plan planFunc) error {
	r := rulesOf(s)
	p := plan(s)
	given := map[HostID]bool{}
	for _, a := range p.Assignments {
		given[a.Host] = true
	}
	if gaveBack(p) {
		return nil
	}
	for _, a := range p.Assignments {
		e := r.entry(a.Entry)
		for i := range s.Hosts {
			h := &s.Hosts[i]
			if r.free(h) && !given[h.ID] && r.eligible(e, h) == nil && r.hits(r.jobs[e.Job], h) > r.hits(r.jobs[e.Job], r.hosts[a.Host]) {
				return fmt.Errorf("entry %d got host %d although host %d carries more preferred labels", a.Entry, a.Host, h.ID)
			}
		}
	}
	return nil
}

// minimumsFirst checks that a suite gets no more hosts in round 1 than it lacks to its
// minimum. It also checks that round 2 assigns no host that a suite below its minimum
// could have used.
func minimumsFirst(s *Snapshot, plan planFunc) error {
	r := rulesOf(s)
	p := plan(s)
	lacks := map[JobID]int{}
	for _, m := range s.Minimums {
		if n, ok := parseMinimum(m.Value); ok {
			lacks[m.Suite] = max(0, n-s.Recorder.Held(m.Suite))
		}
	}
	for _, a := range p.Assignments {
		if a.Round != RoundMinimum {
			continue
		}
		if lacks[a.Suite]--; lacks[a.Suite] < 0 {
			return fmt.Errorf("suite %d gets more than its minimum lacks", a.Suite)
		}
	}
	// A suite whose entries all have the same request asks for all that it lacks. So
	// while it lacks hosts, none that it can use is left for round 2.
	for suite, n := range lacks {
		if n == 0 || !r.oneRequest(suite) {
			continue
		}
		for _, w := range p.Waiting {
			e := r.entry(w.Entry)
			if r.jobs[e.Job].Parent != suite || e.Host != 0 || waitsForGood(w) {
				continue
			}
			for _, a := range p.Assignments {
				if a.Round == RoundRest && r.eligible(e, r.hosts[a.Host]) == nil && !r.jobGot(p, e.Job, a.Host) {
					return fmt.Errorf("suite %d lacks %d hosts while host %d goes to entry %d in round 2", suite, n, a.Host, a.Entry)
				}
			}
		}
	}
	return nil
}

// orderIrrelevant checks that the plan stays the same when every list of the snapshot is
// reversed or rotated.
func orderIrrelevant(s *Snapshot, plan planFunc) error {
	c := clone(s)
	slices.Reverse(c.Hosts)
	slices.Reverse(c.Jobs)
	slices.Reverse(c.Entries)
	slices.Reverse(c.Labels)
	slices.Reverse(c.Users)
	slices.Reverse(c.Siblings)
	slices.Reverse(c.TaskHosts)
	slices.Reverse(c.Holds)
	if n := len(c.Entries); n > 1 {
		c.Entries = append(c.Entries[n/2:], c.Entries[:n/2]...)
	}
	for i := range c.Hosts {
		c.Hosts[i].Labels = slices.Clone(c.Hosts[i].Labels)
		slices.Reverse(c.Hosts[i].Labels)
	}
	if diff := gocmp.Diff(ordered(plan(s)), ordered(plan(c))); diff != "" {
		return errors.New(diff)
	}
	return nil
}

// ordered sorts the problems of a plan, because they come in the order of the rows.
func ordered(p Plan) Plan {
	slices.SortFunc(p.Unlocks, func(a, b Unlock) int { return cmp.Compare(a.Host, b.Host) })
	slices.SortFunc(p.Drained, func(a, b Drained) int { return cmp.Compare(a.Host, b.Host) })
	slices.SortFunc(p.Aborts, func(a, b Abort) int { return cmp.Compare(a.Entry, b.Entry) })
	slices.SortFunc(p.Problems, func(a, b Problem) int { return strings.Compare(a.Text, b.Text) })
	return p
}

// emptyAfterApply applies plans until nothing is released any more, because a released
// host can be assigned one tick later. Then the plan must be empty.
func emptyAfterApply(s *Snapshot, plan planFunc) error {
	world := clone(s)
	var p Plan
	// Every release needs a lease, so the planner comes to an end. A mutant may not.
	for range 2*len(s.Hosts) + 3 {
		p = plan(world)
		if p.Empty() {
			return nil
		}
		apply(world, p)
	}
	return fmt.Errorf("there is always something left to do: %s", p)
}

// apply does to a snapshot what the store does to the database.
func apply(s *Snapshot, p Plan) {
	hosts := rulesOf(s).hosts
	s.Recorder = NewRecorder(slices.Collect(func(yield func(Holding) bool) {
		for h, suite := range s.Recorder.Hosts() {
			if !yield(Holding{h, suite}) {
				return
			}
		}
	}))
	s.Recorder.Record(p)
	for _, l := range p.Leases {
		hosts[l.Host].Leased = true
	}
	gone := map[EntryID]bool{}
	for _, a := range p.Assignments {
		h := hosts[a.Host]
		h.Leased = true
		gone[a.Entry] = true
		s.Siblings = append(s.Siblings, Sibling{ID: a.Entry, Job: a.Job, Host: a.Host, Status: a.Status, Subdir: a.Subdir})
		if a.Status != StatusStopped {
			h.ActiveEntry = a.Entry
		}
		h.OpenTask = h.OpenTask || a.Tasks != 0
		h.Ready = a.Status == StatusStopped || (a.Tasks != 0 && h.Ready)
	}
	for _, c := range p.Changes {
		gone[c.Entry] = true
		i := slices.IndexFunc(s.Siblings, func(sib Sibling) bool { return sib.ID == c.Entry })
		if i < 0 {
			s.Siblings = append(s.Siblings, Sibling{ID: c.Entry, Job: c.Job, Host: c.Host})
			i = len(s.Siblings) - 1
		}
		s.Siblings[i].Status, s.Siblings[i].Subdir = c.Status, c.Subdir
		if h := hosts[c.Host]; h != nil && c.From == StatusPending && c.Status == StatusStopped {
			h.Ready, h.ActiveEntry = true, 0
		}
	}
	s.Entries = slices.DeleteFunc(s.Entries, func(e Entry) bool { return gone[e.ID] })
	for _, r := range p.Releases {
		hosts[r.Host].Leased = false
	}
	for _, u := range p.Unlocks {
		hosts[u.Host].Locked = false
		i := slices.IndexFunc(s.Holds, func(h Hold) bool { return h.Host == u.Host })
		s.Holds[i].LockUntil = 0
	}
	for _, d := range p.Drained {
		hosts[d.Host].Locked = true
		s.Holds = slices.DeleteFunc(s.Holds, func(h Hold) bool { return h.Host == d.Host })
	}
	for i := range s.Holds {
		s.Holds[i].Abortable = slices.DeleteFunc(slices.Clone(s.Holds[i].Abortable), func(e HeldEntry) bool {
			return slices.ContainsFunc(p.Aborts, func(a Abort) bool { return a.Entry == e.Entry })
		})
	}
	moved := map[HostID]bool{}
	for _, m := range p.Moves {
		moved[m.Host] = true
	}
	s.Hosts = slices.DeleteFunc(s.Hosts, func(h Host) bool { return moved[h.ID] })
	s.Entries = slices.DeleteFunc(s.Entries, func(e Entry) bool { return moved[e.Host] })
}

func releasesUnused(s *Snapshot, plan planFunc) error {
	p := plan(s)
	if slices.ContainsFunc(p.Assignments, func(a Assignment) bool { return a.Status == StatusStopped }) {
		return nil // such hosts come and go within the tick
	}
	released := map[HostID]bool{}
	for _, r := range p.Releases {
		released[r.Host] = true
	}
	for _, h := range s.Hosts {
		unused := h.Leased && !h.Locked && h.Ready && h.ActiveEntry == 0 && !h.OpenTask && !slices.Contains(s.Contended.Hosts, h.ID)
		if released[h.ID] != unused {
			return fmt.Errorf("host %d: released %t, unused %t", h.ID, released[h.ID], unused)
		}
	}
	return nil
}

// movesUnused checks that the displaced hosts that nobody uses move to their shards, and
// that no other host moves.
func movesUnused(s *Snapshot, plan planFunc) error {
	p := plan(s)
	moved := map[HostID]ShardID{}
	for _, m := range p.Moves {
		moved[m.Host] = m.To
	}
	for _, h := range s.Hosts {
		used := h.Leased || h.ActiveEntry != 0 || h.OpenTask || slices.Contains(s.Contended.Hosts, h.ID) || slices.ContainsFunc(p.Leases, func(l Lease) bool { return l.Host == h.ID })
		to, moves := moved[h.ID]
		if moves != (h.Displaced && !used) || moves && to != h.Home {
			return fmt.Errorf("host %d: moves %t to %d, displaced %t, home %d, used %t", h.ID, moves, to, h.Displaced, h.Home, used)
		}
	}
	return nil
}

// holdsEnd checks that exactly those locks end whose time is over, that exactly those drains
// become locks whose hosts nobody uses or keeps locked, and that only what is overdue is
// aborted.
func holdsEnd(s *Snapshot, plan planFunc) error {
	p := plan(s)
	var unlocks, drained []HostID
	var aborts []EntryID
	for _, hold := range s.Holds {
		i := slices.IndexFunc(s.Hosts, func(h Host) bool { return h.ID == hold.Host })
		if i < 0 || slices.Contains(s.Contended.Hosts, hold.Host) {
			continue
		}
		h := s.Hosts[i]
		if h.Locked && hold.LockUntil > 0 && hold.LockUntil <= s.Now*1000 {
			unlocks = append(unlocks, h.ID)
		}
		idle := slices.ContainsFunc(p.Releases, func(r Release) bool { return r.Host == h.ID }) || !h.Leased || h.Status == "Repair Failed" && !h.OpenTask
		if hold.Draining && !h.Locked && h.ActiveEntry == 0 && idle {
			drained = append(drained, h.ID)
		}
		if hold.Draining && hold.Abort && hold.Deadline > 0 && hold.Deadline <= s.Now*1000 {
			for _, e := range hold.Abortable {
				aborts = append(aborts, e.Entry)
			}
		}
	}
	got := ordered(p)
	slices.Sort(unlocks)
	slices.Sort(drained)
	slices.Sort(aborts)
	same := slices.EqualFunc(got.Unlocks, unlocks, func(u Unlock, id HostID) bool { return u.Host == id }) &&
		slices.EqualFunc(got.Drained, drained, func(d Drained, id HostID) bool { return d.Host == id }) &&
		slices.EqualFunc(got.Aborts, aborts, func(a Abort, id EntryID) bool { return a.Entry == id })
	if !same {
		return fmt.Errorf("unlocks %v, drained %v, aborts %v; planned %v, %v, %v", unlocks, drained, aborts, got.Unlocks, got.Drained, got.Aborts)
	}
	return nil
}

// contendedAlone checks that nothing is planned that needs a contended row.
func contendedAlone(s *Snapshot, plan planFunc) error {
	r, c := rulesOf(s), s.Contended
	p := plan(s)
	var hosts []HostID
	var entries []EntryID
	for _, l := range p.Leases {
		hosts = append(hosts, l.Host)
	}
	for _, rel := range p.Releases {
		hosts = append(hosts, rel.Host)
	}
	for _, m := range p.Moves {
		hosts = append(hosts, m.Host)
	}
	for _, change := range p.Changes {
		hosts, entries = append(hosts, change.Host), append(entries, change.Entry)
	}
	for _, a := range p.Assignments {
		hosts, entries = append(hosts, a.Host), append(entries, a.Entry)
		if slices.Contains(c.Users, a.RequestedBy) || !a.Named && slices.Contains(c.Jobs, a.Job) || r.contended(r.entry(a.Entry)) {
			return fmt.Errorf("entry %d needs a contended row", a.Entry)
		}
	}
	if slices.ContainsFunc(hosts, func(h HostID) bool { return slices.Contains(c.Hosts, h) }) {
		return fmt.Errorf("contended are the hosts %v, planned %v", c.Hosts, hosts)
	}
	if slices.ContainsFunc(entries, func(e EntryID) bool { return slices.Contains(c.Entries, e) }) {
		return fmt.Errorf("contended are the entries %v, planned %v", c.Entries, entries)
	}
	return nil
}

// accountedFor checks that every pending entry gets a host, waits, or is stopped, and that
// every reason has a text.
func accountedFor(s *Snapshot, plan planFunc) error {
	p := plan(s)
	seen := map[EntryID]bool{}
	for _, a := range p.Assignments {
		seen[a.Entry] = true
	}
	for _, w := range p.Waiting {
		seen[w.Entry] = true
		if w.Reason == nil || w.Reason.Code == "" || w.Reason.String() == "" {
			return fmt.Errorf("entry %d waits without a reason", w.Entry)
		}
	}
	for _, e := range s.Entries {
		if !seen[e.ID] {
			return fmt.Errorf("entry %d is not accounted for", e.ID)
		}
	}
	return nil
}

func TestMakePlanOfNothing(t *testing.T) {
	require.True(t, MakePlan(&Snapshot{}).Empty())
}
