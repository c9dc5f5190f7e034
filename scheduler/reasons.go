package scheduler

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/bits-and-blooms/bitset"
)

// Code names a reason in a form that programs can compare.
type Code string

// The reasons why an entry got no host. Those listed as lasting do not go away
// by waiting: somebody has to change the job, a host or an ACL group.
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

// Lasting tells whether the entry can never run as things stand, apart from
// having to wait for its turn.
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
	// Text is a sentence for a person.
	Text string
	// Matching hosts carry all required labels and are valid; of these
	// Eligible share an ACL group with the owner; of these some are leased, some
	// locked (and not leased), some move to another shard, and some were given
	// to others in this tick.
	Matching, Eligible, Leased, Locked, Moving, GivenAway int
	// Minimum is the suite's guaranteed minimum, Held what it holds.
	Minimum, Held int
	// Ahead is how many entries of other requests are served before this one.
	Ahead int
}

// String returns the text.
func (r *Reason) String() string { return r.Text }

// explain gives every entry that got no host its reason.
func (p *planner) explain() {
	shared := make(map[*group]*Reason)
	if n := len(p.entries) - len(p.plan.Assignments); n > 0 {
		p.plan.Waiting = make([]Waiting, 0, n)
	}
	for i := range p.entries {
		e := &p.entries[i]
		if e.host >= 0 {
			continue
		}
		if e.reason == nil {
			if shared[e.group] == nil {
				shared[e.group] = p.groupReason(e)
			}
			e.reason = shared[e.group]
		}
		p.plan.Waiting = append(p.plan.Waiting, Waiting{Entry: e.entry.ID, Job: e.job.ID, Reason: e.reason})
	}
}

// groupReason counts what became of the hosts that match a request.
func (p *planner) groupReason(e *pending) *Reason {
	g := e.group
	r := &Reason{
		Matching: int(g.match.labelled.Count()),
		Eligible: int(g.match.eligible.Count()),
		Minimum:  p.minimums[g.key.suite],
		Held:     p.s.Recorder.Held(g.key.suite),
		Ahead:    g.ahead,
	}
	wants := p.wants(g)
	switch {
	case g.key.acls == 0:
		r.Code = NoACLGroup
		r.Text = fmt.Sprintf("owner %q is in no ACL group", e.job.Owner)
		return r
	case r.Matching == 0:
		r.Code = NoMatchingHost
		r.Text = wants + ": no valid host carries all of them"
		if g.match.impossible != "" {
			r.Text = fmt.Sprintf("%s: no host carries %s", wants, g.match.impossible)
		}
		return r
	case r.Eligible == 0:
		r.Code = NoSharedACL
		r.Text = fmt.Sprintf("%s: %d hosts match, none shares an ACL group with owner %q", wants, r.Matching, e.job.Owner)
		return r
	}
	p.countBusy(g.match.eligible, r)
	r.Code, r.Text = HostsBusy, wants+": "+p.busyText(g, r)
	switch {
	case r.Eligible > r.Leased+r.Locked+r.Moving+r.GivenAway:
		r.Code = JobHasHosts
		r.Text += "; every free one already belongs to another entry of the job"
	case r.GivenAway > 0:
		r.Code = Outranked
	}
	return r
}

// what became of an eligible host in this tick
type fate int8

const (
	fateLeased fate = iota
	fateLocked
	fateMoving
	fateGiven
	fateFree
)

func (p *planner) fate(num uint) fate {
	switch h := p.hosts[num]; {
	case h.Leased || h.ActiveEntry:
		return fateLeased
	case h.Locked:
		return fateLocked
	case h.Displaced:
		return fateMoving
	case !p.free.Test(num):
		return fateGiven
	}
	return fateFree
}

func (p *planner) countBusy(eligible *bitset.BitSet, r *Reason) {
	for bit, ok := eligible.NextSet(0); ok; bit, ok = eligible.NextSet(bit + 1) {
		switch p.fate(bit) {
		case fateLeased:
			r.Leased++
		case fateLocked:
			r.Locked++
		case fateMoving:
			r.Moving++
		case fateGiven:
			r.GivenAway++
		}
	}
}

func (p *planner) busyText(g *group, r *Reason) string {
	// Every tick words a reason for every request that waits, so this is done
	// with one buffer.
	b := make([]byte, 0, reasonLength)
	b = append(strconv.AppendInt(b, int64(r.Matching), 10), " hosts match; "...)
	first := true
	add := func(n int, text, details string) {
		if n == 0 {
			return
		}
		if !first {
			b = append(b, ", "...)
		}
		first = false
		b = append(strconv.AppendInt(b, int64(n), 10), ' ')
		b = append(append(b, text...), details...)
	}
	d := p.details(g)
	add(r.Leased, "leased", d.suites)
	add(r.Locked, "locked", d.locks)
	add(r.Moving, "moving to another shard", "")
	add(r.GivenAway, "given to others in this tick", "")
	add(r.Matching-r.Eligible, "only in other ACL groups", d.groups)
	if r.Minimum > 0 {
		b = append(strconv.AppendInt(append(b, "; suite minimum "...), int64(r.Minimum), 10), ", holds "...)
		b = strconv.AppendInt(b, int64(r.Held), 10)
	}
	b = strconv.AppendInt(append(b, "; "...), int64(r.Ahead), 10)
	return string(append(b, " entries ahead"...))
}

// reasonLength is how long the text of a reason usually is at most, in bytes.
const reasonLength = 128

// details are the names behind the numbers of a reason, each in brackets.
type details struct{ suites, locks, groups string }

// shownDetails bounds how many names a reason lists.
const shownDetails = 5

func (p *planner) details(g *group) details {
	if !p.s.Details {
		return details{}
	}
	suites, groups := map[string]bool{}, map[string]bool{}
	var locks []string
	for num, ok := g.match.labelled.NextSet(0); ok; num, ok = g.match.labelled.NextSet(num + 1) {
		h := p.hosts[num]
		switch {
		case !g.match.eligible.Test(num):
			for _, name := range p.groupNames(h) {
				groups[name] = true
			}
		case p.fate(num) == fateLeased:
			if suite := p.s.Recorder.SuiteOf(h.ID); suite != 0 {
				suites[fmt.Sprintf("%d", suite)] = true
			}
		case p.fate(num) == fateLocked:
			locks = append(locks, h.Hostname+lockText(h))
		}
	}
	return details{
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

// wants names the labels a request needs.
func (p *planner) wants(g *group) string {
	deps := p.sets.get(g.key.deps)
	if len(deps) == 0 {
		return "needs any host"
	}
	return "needs " + p.labelNames(deps)
}

func (p *planner) labelNames(ids []int64) string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = p.labels[LabelID(id)].name
	}
	return strings.Join(names, ", ")
}

func (p *planner) noSuchHost(e *pending) *Reason {
	p.problem(e.entry, fmt.Sprintf("entry %d names host %d, which does not exist", e.entry.ID, e.entry.Host))
	return &Reason{Code: NoSuchHost, Text: fmt.Sprintf("names host %d, which does not exist", e.entry.Host)}
}

// namedReason lists everything that keeps the named host from the entry. The
// first code stands for all.
func (p *planner) namedReason(e *pending, num int, codes []Code) *Reason {
	h := p.hosts[num]
	var texts []string
	for _, code := range codes {
		texts = append(texts, p.namedText(e, num, code))
	}
	return &Reason{Code: codes[0], Text: fmt.Sprintf("names host %s, which %s", h.Hostname, strings.Join(texts, " and "))}
}

func (p *planner) namedText(e *pending, num int, code Code) string {
	h := p.hosts[num]
	switch code {
	case HostOnShard:
		return fmt.Sprintf("belongs to shard %d", h.Shard)
	case HostLacksLabels:
		return "lacks " + p.labelNames(p.lacking(e, num))
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
