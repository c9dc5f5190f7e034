package scheduler

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// planFunc is MakePlan or a mutant of it.
type planFunc func(*Snapshot) Plan

// property is something true of every plan, and a planner that is broken in
// just this respect.
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
	{"only eligible hosts: active entry", onlyEligible, mutateHosts(func(h *Host) { h.ActiveEntry = false })},
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
			if h.Ready && !h.Locked && !h.ActiveEntry && !h.OpenTask {
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

// onCopy runs a planner on a copy of its own, so that a mutant may change it.
func onCopy(plan planFunc) planFunc {
	return func(s *Snapshot) Plan { return plan(clone(s)) }
}

func clone(s *Snapshot) *Snapshot {
	c := *s
	c.Hosts, c.Jobs, c.Entries = slices.Clone(s.Hosts), slices.Clone(s.Jobs), slices.Clone(s.Entries)
	c.Labels, c.Users, c.Siblings = slices.Clone(s.Labels), slices.Clone(s.Users), slices.Clone(s.Siblings)
	c.StaticLabels, c.ReplacedLabels = slices.Clone(s.StaticLabels), slices.Clone(s.ReplacedLabels)
	c.Minimums, c.TaskHosts = slices.Clone(s.Minimums), slices.Clone(s.TaskHosts)
	return &c
}

func TestProperties(t *testing.T) {
	for _, p := range properties {
		t.Run(p.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				s := labs().Draw(t, "lab")
				if err := p.holds(s, onCopy(MakePlan)); err != nil {
					t.Fatalf("%v\n%s", err, MakePlan(s))
				}
			})
		})
	}
}

// mutantTries is how many labs a mutant may survive.
const mutantTries = 20000

// TestMutants breaks the planner in one respect at a time; the property must
// notice.
func TestMutants(t *testing.T) {
	gen := labs()
	for _, p := range properties {
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

// rules answers questions about a snapshot in the slow and obvious way.
type rules struct {
	s     *Snapshot
	jobs  map[JobID]*Job
	hosts map[HostID]*Host
	users map[string]*User
	name  map[LabelID]string
}

func rulesOf(s *Snapshot) *rules {
	r := &rules{s, map[JobID]*Job{}, map[HostID]*Host{}, map[string]*User{}, map[LabelID]string{}}
	for i := range s.Jobs {
		r.jobs[s.Jobs[i].ID] = &s.Jobs[i]
	}
	for i := range s.Hosts {
		r.hosts[s.Hosts[i].ID] = &s.Hosts[i]
	}
	for i := range s.Users {
		r.users[strings.ToLower(s.Users[i].Login)] = &s.Users[i]
	}
	for _, l := range append(slices.Clone(s.Labels), s.StaticLabels...) {
		r.name[l.ID] = l.Name
	}
	return r
}

// required are the labels an entry's host must carry.
func (r *rules) required(j *Job) []LabelID {
	return slices.DeleteFunc(slices.Clone(j.Deps), func(l LabelID) bool { return DefaultActions().kind(r.name[l]) != labelRequired })
}

func (r *rules) carries(h *Host, l LabelID, named bool) bool {
	if !named && r.s.Rules.RespectStaticLabels && slices.Contains(r.s.ReplacedLabels, l) {
		return slices.ContainsFunc(h.StaticLabels, func(st LabelID) bool { return r.name[st] == r.name[l] })
	}
	return slices.Contains(h.Labels, l)
}

// free tells whether a host could be given to anybody when the tick began.
func (r *rules) free(h *Host) bool {
	return !h.Locked && !h.Leased && !h.ActiveEntry && !h.Displaced && !slices.Contains(r.s.TaskHosts, h.ID)
}

// eligible tells why a host may not go to an entry, whoever has it now.
func (r *rules) eligible(e *Entry, h *Host) error {
	job := r.jobs[e.Job]
	named := e.Host != 0
	user := r.users[strings.ToLower(job.Owner)]
	if user == nil {
		return errors.New("the owner is unknown")
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

// before tells whether a is served before b within a round.
func (r *rules) before(a, b *Entry) bool {
	ja, jb := r.jobs[a.Job], r.jobs[b.Job]
	if a.Host != 0 {
		return ja.Priority > jb.Priority
	}
	return cmp.Or(cmp.Compare(jb.Priority, ja.Priority), cmp.Compare(ja.Parent, jb.Parent)) < 0
}

// noInversion: whoever waits could not have used a host that went, in the same
// round, to somebody who comes later.
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

// waitsForGood: entries that no free host helps.
func waitsForGood(w Waiting) bool {
	return w.Reason.Code == JobStopped || w.Reason.Code == BadMinimum || w.Reason.Code == UnknownOwner
}

// gaveBack tells whether a job was stopped in this tick, after its entries had
// got hosts: those are free from the next tick on.
func gaveBack(p Plan) bool {
	return slices.ContainsFunc(p.Waiting, func(w Waiting) bool { return w.Reason.Code == JobStopped })
}

// jobGot tells whether another entry of the job got the host.
func (r *rules) jobGot(p Plan, job JobID, host HostID) bool {
	return slices.ContainsFunc(p.Assignments, func(a Assignment) bool { return a.Job == job && a.Host == host })
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

// hits counts the preferred labels of a job on a host.
func (r *rules) hits(j *Job, h *Host) int {
	n := 0
	for _, l := range j.Deps {
		if DefaultActions().kind(r.name[l]) == labelProvision && slices.Contains(h.Labels, l) {
			n++
		}
	}
	return n
}

// preferredFirst: no host that stays free would have been better.
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

// minimumsFirst: round 1 gives a suite no more than its minimum lacks, and no
// host goes to anybody in round 2 that a suite still lacking could have used.
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
	// A suite whose requests all are of one kind asks for its whole budget, so
	// while it lacks hosts none that it can use goes to round 2.
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

// oneRequest tells whether all entries of a suite for any host ask for the same.
func (r *rules) oneRequest(suite JobID) bool {
	kinds := map[string]bool{}
	for _, e := range r.s.Entries {
		if j := r.jobs[e.Job]; j.Parent == suite && e.Host == 0 {
			deps := slices.Sorted(slices.Values(j.Deps))
			kinds[fmt.Sprint(deps, strings.ToLower(j.Owner), j.Priority)] = true
		}
	}
	return len(kinds) == 1
}

// orderIrrelevant reverses and rotates everything that comes in a list.
func orderIrrelevant(s *Snapshot, plan planFunc) error {
	c := clone(s)
	slices.Reverse(c.Hosts)
	slices.Reverse(c.Jobs)
	slices.Reverse(c.Entries)
	slices.Reverse(c.Labels)
	slices.Reverse(c.Users)
	slices.Reverse(c.Siblings)
	slices.Reverse(c.TaskHosts)
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

// ordered gives problems, which come in the order of the rows, a fixed one.
func ordered(p Plan) Plan {
	slices.SortFunc(p.Problems, func(a, b Problem) int { return strings.Compare(a.Text, b.Text) })
	return p
}

// emptyAfterApply applies plans until nothing is released any more; then there
// must be nothing left to do. (A released host can be assigned one tick later.)
func emptyAfterApply(s *Snapshot, plan planFunc) error {
	world := clone(s)
	var p Plan
	// Every release needs a lease, so this ends; the bound is for mutants.
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
		h.ActiveEntry = a.Status != StatusStopped
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
			h.Ready, h.ActiveEntry = true, false
		}
	}
	s.Entries = slices.DeleteFunc(s.Entries, func(e Entry) bool { return gone[e.ID] })
	for _, r := range p.Releases {
		hosts[r.Host].Leased = false
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
		unused := h.Leased && !h.Locked && h.Ready && !h.ActiveEntry && !h.OpenTask
		if released[h.ID] != unused {
			return fmt.Errorf("host %d: released %t, unused %t", h.ID, released[h.ID], unused)
		}
	}
	return nil
}

// movesUnused: exactly the displaced hosts that nobody uses move, and home.
func movesUnused(s *Snapshot, plan planFunc) error {
	p := plan(s)
	moved := map[HostID]ShardID{}
	for _, m := range p.Moves {
		moved[m.Host] = m.To
	}
	for _, h := range s.Hosts {
		used := h.Leased || h.ActiveEntry || h.OpenTask || slices.ContainsFunc(p.Leases, func(l Lease) bool { return l.Host == h.ID })
		to, moves := moved[h.ID]
		if moves != (h.Displaced && !used) || moves && to != h.Home {
			return fmt.Errorf("host %d: moves %t to %d, displaced %t, home %d, used %t", h.ID, moves, to, h.Displaced, h.Home, used)
		}
	}
	return nil
}

// accountedFor: every pending entry has a host, waits, or was stopped, and every
// reason says something.
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

// TestRecorderKeptEqualsRebuilt plays ticks in which entries end and hosts are
// released, by the tick and by hand: the recorder kept along is the one rebuilt
// from the hosts that are held.
func TestRecorderKeptEqualsRebuilt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := labs().Draw(t, "lab")
		kept := NewRecorder(nil)
		s.Recorder = kept
		truth := map[HostID]JobID{}
		for range rapid.IntRange(1, 6).Draw(t, "ticks") {
			kept.ForgetUnleased(s.Hosts)
			p := MakePlan(clone(s))
			kept.Record(p)
			for _, a := range p.Assignments {
				if a.Suite != 0 && a.Status != StatusStopped {
					truth[a.Host] = a.Suite
				}
			}
			for _, r := range p.Releases {
				delete(truth, r.Host)
			}
			apply(s, p)
			s.Recorder = kept
			for i := range s.Hosts {
				h := &s.Hosts[i]
				if h.ActiveEntry && chance(t, 40) { // its entry ends
					h.ActiveEntry, h.OpenTask, h.Ready = false, false, true
				}
				if h.Leased && chance(t, 10) { // somebody clears the lease
					h.Leased = false
					delete(truth, h.ID)
				}
			}
		}
		kept.ForgetUnleased(s.Hosts)
		if !maps.Equal(kept.Hosts(), truth) {
			t.Fatalf("kept %v, held %v", kept.Hosts(), truth)
		}
		rebuilt := NewRecorder(nil)
		for h, suite := range truth {
			rebuilt.hold(h, suite)
		}
		if !reflect.DeepEqual(kept.Suites(), rebuilt.Suites()) {
			t.Fatalf("kept %v, rebuilt %v", kept.Suites(), rebuilt.Suites())
		}
	})
}

func TestMakePlanOfNothing(t *testing.T) {
	require.True(t, MakePlan(&Snapshot{}).Empty())
}
