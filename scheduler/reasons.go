package scheduler

import (
	"fmt"
	"strconv"
	"strings"
)

// Code names a reason in a form that programs can compare.
type Code string

// The reasons why an entry got no host. The lasting ones do not go away by waiting:
// somebody has to change the job, a host or an ACL group.
const (
	// Lasting.
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

	// Passing.
	HostsBusy  Code = "hosts_busy"
	Outranked  Code = "outranked"
	HostLocked Code = "host_locked"
	HostLeased Code = "host_leased"
	HostTaken  Code = "host_taken"
	HostMoving Code = "host_moving"
)

// Lasting tells whether the entry can never run unless somebody changes the job, a
// host or an ACL group.
func (c Code) Lasting() bool {
	switch c {
	case HostsBusy, Outranked, HostLocked, HostLeased, HostTaken, HostMoving:
		return false
	}
	return true
}

// Reason explains why an entry waits. The counts are hosts.
type Reason struct {
	Code Code
	// Matching hosts carry all required labels and are valid; of these
	// Eligible share an ACL group with the owner. Of these some are leased, some
	// locked (and not leased), some move to another shard, and some were assigned
	// to others in this tick.
	Matching, Eligible, Leased, Locked, Moving, GivenAway int
	// Minimum is the suite's guaranteed minimum, Held what it holds.
	Minimum, Held int
	// Ahead is how many entries of other requests are served before this one.
	Ahead int

	// text is the whole sentence if it is known from the beginning. The others are
	// worded by String, because a tick has thousands of reasons that nobody reads.
	text       string
	owner      string
	wanted     []int64     // labels that the request needs
	labels     *labelTable // their names
	impossible string      // the label that no host carries
	details    *details
}

// Equal tells whether two reasons say the same.
func (r *Reason) Equal(other *Reason) bool {
	if r == nil || other == nil {
		return r == other
	}
	return r.Code == other.Code && r.counts() == other.counts() && r.String() == other.String()
}

func (r *Reason) counts() [9]int {
	return [...]int{r.Matching, r.Eligible, r.Leased, r.Locked, r.Moving, r.GivenAway, r.Minimum, r.Held, r.Ahead}
}

// String returns a sentence for a person.
func (r *Reason) String() string {
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
			return fmt.Sprintf("%s: no host carries %s", wants, r.impossible)
		}
		return wants + ": no valid host carries all of them"
	case NoSharedACL:
		return fmt.Sprintf("%s: %d hosts match, none shares an ACL group with owner %q", wants, r.Matching, r.owner)
	case JobHasHosts:
		return wants + ": " + r.busyText() + "; every free one already belongs to another entry of the job"
	}
	return wants + ": " + r.busyText()
}

// busyText says what became of the hosts that match.
func (r *Reason) busyText() string {
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
	add(r.Leased, "leased", d.suites)
	add(r.Locked, "locked", d.locks)
	add(r.Moving, "moving to another shard", "")
	add(r.GivenAway, "given to others in this tick", "")
	add(r.Matching-r.Eligible, "only in other ACL groups", d.groups)
	minimum := ""
	if r.Minimum > 0 {
		minimum = fmt.Sprintf("; suite minimum %d, holds %d", r.Minimum, r.Held)
	}
	return fmt.Sprintf("%d hosts match; %s%s; %d entries ahead", r.Matching, strings.Join(parts, ", "), minimum, r.Ahead)
}

// explain sets the reason of every entry that got no host.
func (p *planner) explain() {
	if n := len(p.entries) - p.given; n > 0 {
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

// groupReason counts what became of the hosts that match a request.
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
		r.Code = NoMatchingHost
		return r
	case r.Eligible == 0:
		r.Code = NoSharedACL
		return r
	}
	counts := p.count(m)
	r.Leased, r.Locked, r.Moving, r.GivenAway = counts[outcomeLeased], counts[outcomeLocked], counts[outcomeMoving], counts[outcomeGiven]
	r.details = p.details(g)
	switch {
	case r.Eligible > r.Leased+r.Locked+r.Moving+r.GivenAway:
		r.Code = JobHasHosts
	case r.GivenAway > 0:
		r.Code = Outranked
	default:
		r.Code = HostsBusy
	}
	return r
}

// hostOutcome is what became of an eligible host in this tick.
type hostOutcome int8

const (
	outcomeFree hostOutcome = iota
	outcomeLeased
	outcomeLocked
	outcomeMoving
	outcomeGiven
	outcomeKinds
)

// outcomeCounts says how many hosts had which outcome.
type outcomeCounts [outcomeKinds]int

// outcome may be asked once all hosts of the tick are assigned.
func (p *planner) outcome(num int32) hostOutcome {
	if p.outcomes == nil {
		p.outcomes = make([]hostOutcome, len(p.hosts))
		for n, h := range p.hosts {
			p.outcomes[n] = p.findOutcome(n, h)
		}
	}
	return p.outcomes[num]
}

func (p *planner) findOutcome(num int, h *Host) hostOutcome {
	switch {
	case h.Leased || h.ActiveEntry:
		return outcomeLeased
	case h.Locked:
		return outcomeLocked
	case h.Displaced:
		return outcomeMoving
	case !p.free.Test(uint(num)):
		return outcomeGiven
	}
	return outcomeFree
}

// count counts the outcomes of a match's eligible hosts, once per match.
func (p *planner) count(m *match) *outcomeCounts {
	if !m.counted {
		m.counted = true
		for _, num := range m.eligible {
			m.counts[p.outcome(num)]++
		}
	}
	return &m.counts
}

// details are the names behind the numbers of a reason, each in brackets.
type details struct{ suites, locks, groups string }

// shownDetails bounds how many names a reason lists.
const shownDetails = 5

func (p *planner) details(g *group) *details {
	if !p.s.Details {
		return nil
	}
	suites, groups := map[string]bool{}, map[string]bool{}
	var locks []string
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
		case p.outcome(num) == outcomeLocked:
			locks = append(locks, h.Hostname+lockText(h))
		}
	}
	return &details{
		suites: inBrackets("by suites ", sortedKeys(suites)),
		locks:  inBrackets("", locks),
		groups: inBrackets("", sortedKeys(groups)),
	}
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

func inBrackets(prefix string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	more := ""
	if n := len(names) - shownDetails; n > 0 {
		names, more = names[:shownDetails], fmt.Sprintf(" and %d more", n)
	}
	return " (" + prefix + strings.Join(names, ", ") + more + ")"
}

func (p *planner) noSuchHost(e *pending) *Reason {
	p.problem(e.entry, fmt.Sprintf("entry %d names host %d, which does not exist", e.entry.ID, e.entry.Host))
	return &Reason{Code: NoSuchHost, text: fmt.Sprintf("names host %d, which does not exist", e.entry.Host)}
}

// namedReason lists everything that keeps the named host from the entry. The
// first code stands for all.
func (p *planner) namedReason(e *pending, num int, codes []Code) *Reason {
	h := p.hosts[num]
	var texts []string
	for _, code := range codes {
		texts = append(texts, p.namedText(e, num, code))
	}
	return &Reason{Code: codes[0], text: fmt.Sprintf("names host %s, which %s", h.Hostname, strings.Join(texts, " and "))}
}

func (p *planner) namedText(e *pending, num int, code Code) string {
	h := p.hosts[num]
	switch code {
	case HostOnShard:
		return fmt.Sprintf("belongs to shard %d", h.Shard)
	case HostLacksLabels:
		return "lacks " + p.labels.namesOf(p.lacking(e, num))
	case HostACL:
		return fmt.Sprintf("shares no ACL group with owner %q", e.job.Owner)
	case HostLocked:
		return "is locked" + lockText(h)
	case HostMoving:
		return "is moving to another shard"
	case HostTaken:
		return "was given to another entry in this tick"
	}
	if suite := p.s.Recorder.SuiteOf(h.ID); suite != 0 {
		return fmt.Sprintf("is leased by suite %d", suite)
	}
	return "is leased"
}

// lockText says since when a host is locked and why, as far as is known.
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
