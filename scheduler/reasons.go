package scheduler

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Code names a reason in a form that programs can compare.
type Code string

// The reasons why an entry got no host.
const (
	// The lasting reasons do not go away by waiting, because somebody has to change the
	// job, a host or an ACL group.
	UnknownOwner    Code = "unknown_owner"
	NoACLGroup      Code = "no_acl_group"
	NoMatchingHost  Code = "no_matching_host"
	NoSharedACL     Code = "no_shared_acl"
	NoSuchHost      Code = "no_such_host"
	HostOnShard     Code = "host_on_shard"
	HostLacksLabels Code = "host_lacks_labels"
	HostACL         Code = "host_acl"
	BadMinimum      Code = "bad_minimum"
	Malformed       Code = "malformed"
	JobStopped      Code = "job_stopped"
	JobHasHosts     Code = "job_has_hosts"

	// The other reasons go away when hosts become free.
	HostsBusy  Code = "hosts_busy"
	Outranked  Code = "outranked"
	HostLocked Code = "host_locked"
	HostLeased Code = "host_leased"
	HostTaken  Code = "host_taken"
	HostMoving Code = "host_moving"
	// HostDraining goes away when whoever drains the host ends that.
	HostDraining Code = "host_draining"
	// AgentAway goes away when the agent of the host takes something again.
	AgentAway Code = "agent_away"

	// These go away when transactions of other clients end.
	HostContended  Code = "host_contended"
	EntryContended Code = "entry_contended"
)

// Lasting tells whether the entry can never run unless somebody changes the job, a
// host or an ACL group.
func (c Code) Lasting() bool {
	switch c {
	case HostsBusy, Outranked, HostLocked, HostLeased, HostTaken, HostMoving, HostDraining, AgentAway, HostContended, EntryContended:
		return false
	}
	return true
}

// Reason explains why an entry waits.
type Reason struct {
	Code Code
	// Matching is how many valid hosts carry all required labels. Eligible is how many of
	// these share an ACL group with the owner. The others count what became of the
	// eligible hosts: they are leased, locked but not leased, draining, served by an agent that
	// takes nothing, contended, moving to another shard, wanted by special tasks without entry, or were
	// assigned to other entries in this tick.
	Matching, Eligible, Leased, Locked, Draining, Away, Contended, Moving, ForTasks, GivenAway int
	// Minimum is the guaranteed minimum of the suite, and Held how many hosts it holds.
	Minimum, Held int
	// Ahead is how many entries of other requests are served before this one.
	Ahead int

	// text is the whole sentence if it is known from the beginning. Otherwise String words
	// it from the fields below, because a tick has thousands of reasons that nobody reads.
	text       string
	owner      string
	wanted     []int64     // labels that the request requires
	labels     *labelTable // has the names of the labels
	impossible string      // the label that no host carries
	elsewhere  string      // which other shards have hosts that carry them
	details    *details
}

// Equal tells whether two reasons say the same.
func (r *Reason) Equal(other *Reason) bool {
	if r == nil || other == nil {
		return r == other
	}
	return r.Code == other.Code && r.counts() == other.counts() && r.String() == other.String()
}

func (r *Reason) counts() [13]int {
	return [...]int{r.Matching, r.Eligible, r.Leased, r.Locked, r.Draining, r.Away, r.Contended, r.Moving, r.ForTasks, r.GivenAway, r.Minimum, r.Held, r.Ahead}
}

// Own are entries that belong together, which are no others to whoever asks for one of them.
type Own struct {
	// Name is what they are called.
	Name string
	Has  func(EntryID) bool
}

// Tried are the entries of a submission that is only tried.
var Tried = Own{"this same submission", func(id EntryID) bool { return id >= FirstTried }}

// String returns a sentence for a person.
func (r *Reason) String() string { return r.TextFor(Tried) }

// TextFor returns a sentence for a person who asks for some entries.
func (r *Reason) TextFor(own Own) string {
	if r.text != "" {
		return r.text
	}
	wants := "needs any host"
	if len(r.wanted) > 0 {
		wants = "needs " + r.labels.namesOf(r.wanted)
	}
	switch r.Code {
	case NoACLGroup:
		return fmt.Sprintf("owner %q is in no ACL group", r.owner)
	case NoMatchingHost:
		if r.impossible != "" {
			return fmt.Sprintf("%s: no host carries %s%s", wants, r.impossible, r.elsewhere)
		}
		return wants + ": no valid host carries all of them" + r.elsewhere
	case NoSharedACL:
		return fmt.Sprintf("%s: %s, none in an ACL group of owner %q", wants, r.matchingText(), r.owner)
	}
	text := wants + ": " + r.busyText(own)
	if r.Eligible > r.busy() {
		text += "; every free one already belongs to another entry of the job"
	}
	return text
}

// busy is how many of the eligible hosts nobody could have been given in this tick, or somebody
// was.
func (r *Reason) busy() int {
	return r.Leased + r.Locked + r.Draining + r.Away + r.Contended + r.Moving + r.ForTasks + r.GivenAway
}

// busyText says what became of the hosts that match.
func (r *Reason) busyText(own Own) string {
	var parts []string
	d := r.details
	if d == nil {
		d = &details{}
	}
	add := func(n int, text, details string) {
		if n > 0 {
			parts = append(parts, strconv.Itoa(n)+" "+text+details)
		}
	}
	add(r.Leased, "leased", bracketed(entriesText("to ", d.leasedTo), r.idleText(), d.suites))
	add(r.Locked, "locked", d.locks)
	add(r.Draining, "draining", d.drains)
	add(r.Away, "without an agent that takes anything", d.away)
	add(r.Contended, "held by another transaction", "")
	add(r.Moving, "moving to another shard", "")
	add(r.ForTasks, "wanted by special tasks", "")
	same, others := r.Given(own)
	add(same.Hosts, same.Text, "")
	add(others.Hosts, others.Text, bracketed(entriesText("", others.Entries)))
	add(r.Matching-r.Eligible, "only in other ACL groups", d.groups)
	texts := []string{r.matchingText()}
	if len(parts) > 0 {
		texts = append(texts, strings.Join(parts, ", "))
	}
	if r.Minimum > 0 {
		texts = append(texts, fmt.Sprintf("suite minimum %d, holds %d", r.Minimum, r.Held))
	}
	return strings.Join(append(texts, counted(r.Ahead, "entry", "entries")+" ahead"), "; ")
}

func (r *Reason) matchingText() string { return counted(r.Matching, "host matches", "hosts match") }

// counted is a number with its noun.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// Listed are the first of many entries, as an answer lists them whose numbers say how many
// there are: thousands may wait for the same thousands.
func Listed(entries []EntryID) []EntryID { return entries[:min(len(entries), listedEntries)] }

const listedEntries = 20

// LeasedTo are the active entries that have hosts which the entry could have had, by id, as
// far as the snapshot asks for details.
func (r *Reason) LeasedTo() []EntryID {
	if r.details == nil {
		return nil
	}
	return r.details.leasedTo
}

// Given is how many hosts were given away in a tick, and to whom: Entries are those that are
// not the asker's own, as far as they are known.
type Given struct {
	Hosts   int
	Text    string
	Entries []EntryID
}

// Given says to whom hosts were given in this tick, as far as the snapshot asks for details:
// somebody who asks for some entries is not told that others take what these get themselves.
func (r *Reason) Given(own Own) (same, others Given) {
	same.Text, others.Text = "given to other entries of "+own.Name+" in this tick", "given to others in this tick"
	if r.details != nil {
		for _, id := range r.details.holders {
			if own.Has(id) {
				same.Hosts++
			} else {
				others.Entries = append(others.Entries, id)
			}
		}
	}
	others.Hosts = r.GivenAway - same.Hosts
	return same, others
}

func entriesText(prefix string, ids []EntryID) string {
	noun := "entries "
	if len(ids) == 1 {
		noun = "entry "
	}
	shown := ids[:min(len(ids), shownDetails)] // of thousands
	texts := make([]string, len(shown))
	for i, id := range shown {
		texts[i] = strconv.FormatInt(int64(id), 10)
	}
	return someOf(prefix+noun, texts, len(ids)-len(shown))
}

// explain lists every entry that got no host, with its reason. The entries of a group
// share a reason.
func (p *planner) explain() {
	if n := len(p.entries) - p.assigned; n > 0 {
		p.plan.Waiting = make([]Waiting, 0, n)
	}
	for i := range p.entries {
		e := &p.entries[i]
		if e.host >= 0 {
			continue
		}
		if e.reason == nil {
			g := p.groupFor(e)
			if g.reason == nil {
				g.reason = p.groupReason(g, e)
			}
			e.reason = g.reason
		}
		p.plan.Waiting = append(p.plan.Waiting, Waiting{Entry: e.entry.ID, Job: e.job.ID, Reason: e.reason})
	}
}

// groupReason explains why entries of a group wait, from what became of the hosts that
// match. e is one of these entries.
func (p *planner) groupReason(g *group, e *pending) *Reason {
	m := g.match
	r := p.reasons.next()
	*r = Reason{
		Matching: len(m.labelled), Eligible: len(m.eligible),
		Minimum: p.minimums[g.key.suite], Held: p.s.Recorder.Held(g.key.suite), Ahead: g.ahead,
		owner: e.job.Owner, wanted: p.sets.get(m.deps), labels: p.labels,
	}
	if set := &p.labelSets[m.deps]; set.impossible != nil {
		r.impossible = set.impossible.name
	}
	switch {
	case g.key.acls == 0:
		r.Code = NoACLGroup
		return r
	case r.Matching == 0:
		r.Code, r.elsewhere = NoMatchingHost, p.elsewhere(r.wanted)
		return r
	case r.Eligible == 0:
		r.Code = NoSharedACL
		return r
	}
	counts := p.count(m)
	r.Leased, r.Locked, r.Draining, r.Away, r.Contended = counts[outcomeLeased], counts[outcomeLocked], counts[outcomeDraining], counts[outcomeAway], counts[outcomeContended]
	r.Moving, r.ForTasks, r.GivenAway = counts[outcomeMoving], counts[outcomeTask], counts[outcomeTaken]
	r.details = p.details(g)
	switch {
	case r.busy() == 0: // all of them are free, and the job had each before
		r.Code = JobHasHosts
	case r.GivenAway > 0:
		r.Code = Outranked
	case r.Contended > 0:
		r.Code = HostContended
	default:
		r.Code = HostsBusy
	}
	return r
}

// outcomeCounts says how many hosts had which outcome.
type outcomeCounts [outcomeKinds]int

// count counts the outcomes of the eligible hosts of a match. It does so once for each
// match.
func (p *planner) count(m *match) *outcomeCounts {
	if !m.counted {
		m.counted = true
		for _, num := range m.eligible {
			m.counts[p.outcome(num)]++
		}
	}
	return &m.counts
}

// details are the names behind the numbers of a reason, ready to be printed, and which entries
// have hosts, by id, or got them, in the order of the queue.
type details struct {
	suites, locks, drains, away, groups string
	leasedTo, holders                   []EntryID
}

// idleText says how many leased hosts no entry has.
func (r *Reason) idleText() string {
	if r.details == nil || r.Leased == len(r.details.leasedTo) {
		return ""
	}
	return fmt.Sprintf("%d to none, for special tasks or not yet released", r.Leased-len(r.details.leasedTo))
}

// shownDetails bounds how many names a reason lists.
const shownDetails = 5

func (p *planner) details(g *group) *details {
	if !p.s.Details {
		return nil
	}
	suites, groups := map[string]bool{}, map[string]bool{}
	var locks, drains, away []string
	var holders []int32
	var leasedTo []EntryID
	acls := p.sharing(g.key.acls)
	for _, num := range g.match.labelled {
		h := p.hosts[num]
		switch {
		case !acls.has(int(num)):
			for _, name := range p.groupNames(h) {
				groups[name] = true
			}
		case p.outcome(num) == outcomeLeased:
			if suite := p.s.Recorder.SuiteOf(h.ID); suite != 0 {
				suites[fmt.Sprintf("%d", suite)] = true
			}
			if h.ActiveEntry != 0 {
				leasedTo = append(leasedTo, h.ActiveEntry)
			}
		case p.outcome(num) == outcomeLocked:
			locks = append(locks, h.Hostname+lockText(h))
		case p.outcome(num) == outcomeDraining:
			drains = append(drains, h.Hostname+p.drainText(h.ID))
		case p.outcome(num) == outcomeAway:
			away = append(away, h.Hostname+p.awayText(h.ID))
		case p.outcome(num) == outcomeTaken:
			if e, ok := p.holderOf(num); ok {
				holders = append(holders, e)
			}
		}
	}
	slices.Sort(holders)
	slices.Sort(leasedTo)
	return &details{
		suites:   suitesText(slices.Sorted(maps.Keys(suites))),
		locks:    bracketed(listed("", locks)),
		drains:   bracketed(listed("", drains)),
		away:     bracketed(listed("", away)),
		leasedTo: leasedTo,
		holders:  p.idsOf(holders),
		groups:   bracketed(listed("", slices.Sorted(maps.Keys(groups)))),
	}
}

// idsOf are the ids of entries at positions in the queue.
func (p *planner) idsOf(positions []int32) []EntryID {
	ids := make([]EntryID, len(positions))
	for i, e := range positions {
		ids[i] = p.entries[e].entry.ID
	}
	return ids
}

// holderOf returns the position in the queue of the entry that got a host in this tick. It
// must be called after all rounds. ok is false if the host went to a frontend task, or
// back from an entry of a job that was stopped.
func (p *planner) holderOf(num int32) (entry int32, ok bool) {
	if p.holders == nil {
		p.holders = make(map[int32]int32, p.assigned)
		for i := range p.entries {
			if host := p.entries[i].host; host >= 0 {
				p.holders[host] = int32(i)
			}
		}
	}
	entry, ok = p.holders[num]
	return entry, ok
}

func (p *planner) groupNames(h *Host) []string {
	var names []string
	for _, a := range h.ACLs {
		for _, g := range p.s.ACLGroups {
			if g.ID == a {
				names = append(names, g.Name)
			}
		}
	}
	return names
}

func suitesText(ids []string) string {
	if len(ids) == 1 {
		return "for suite " + ids[0]
	}
	return listed("for suites ", ids)
}

// listed names some of many after a prefix. It is empty if there are none.
func listed(prefix string, names []string) string {
	shown := names[:min(len(names), shownDetails)]
	return someOf(prefix, shown, len(names)-len(shown))
}

func someOf(prefix string, names []string, more int) string {
	if len(names) == 0 {
		return ""
	}
	text := prefix + strings.Join(names, ", ")
	if more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// bracketed puts what there is of some texts into brackets.
func bracketed(texts ...string) string {
	texts = slices.DeleteFunc(texts, func(text string) bool { return text == "" })
	if len(texts) == 0 {
		return ""
	}
	return " (" + strings.Join(texts, ", ") + ")"
}

// lockText says since when a host is locked and why, as far as this is known.
func lockText(h *Host) string {
	var parts []string
	if h.LockedSince != "" {
		parts = append(parts, "since "+h.LockedSince)
	}
	if h.LockReason != "" {
		parts = append(parts, h.LockReason)
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}
