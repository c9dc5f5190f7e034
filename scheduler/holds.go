package scheduler

import (
	"cmp"
	"fmt"
	"slices"
)

// Hold is a hold of a host beyond the flag that keeps it locked: when its lock ends, and
// a drain, under which nobody new gets the host while whoever has it may finish. Times are
// milliseconds since 1970 by the database's clock, and 0 for none.
type Hold struct {
	Host HostID
	// LockUntil is when the present lock of the host ends. Of a lock that took the place
	// of the one with an end, nothing is known here.
	LockUntil int64
	Draining  bool
	// Deadline is when the drain aborts what still uses the host, if Abort is true.
	Deadline int64
	Abort    bool
	// Bad means that the lab holds the host because it failed again and again: nobody new
	// gets it, as if it were draining, but it becomes no lock.
	Bad bool
	// By is who drains the host, or that it is bad, and Reason why.
	By, Reason string
	// Abortable are the active entries of the host that nobody has aborted. They are known
	// once the deadline is past.
	Abortable []HeldEntry
}

// Away is a host whose agent takes nothing new, because it is silent, drained, stopped or
// unfit. Nobody new gets the host, who would only wait for the agent; whoever has it keeps it.
type Away struct {
	Host HostID
	// Agent is the name of the agent, and Reason why it takes nothing.
	Agent, Reason string
}

// HeldEntry is an active entry of a draining host.
type HeldEntry struct {
	Entry EntryID
	Job   JobID
}

// LockOver tells whether the lock ends at a time.
func (h *Hold) LockOver(now int64) bool { return h.LockUntil != 0 && h.LockUntil <= now }

// Overdue tells whether what uses the host is to be aborted at a time.
func (h *Hold) Overdue(now int64) bool {
	return h.Draining && h.Abort && h.Deadline != 0 && h.Deadline <= now
}

// Unlock ends a lock whose time is over.
type Unlock struct {
	Host     HostID
	Hostname string
}

// Drained is a host that nobody uses any more: the drain becomes a lock.
type Drained struct {
	Host       HostID
	Hostname   string
	By, Reason string
}

// Abort aborts an entry that still uses a draining host after the deadline.
type Abort struct {
	Entry      EntryID
	Job        JobID
	Host       HostID
	By, Reason string
}

// findDrains notes which hosts are draining, or bad, and whose agents take nothing.
func (p *planner) findDrains() {
	if len(p.s.Away) > 0 {
		p.away = make(map[HostID]*Away, len(p.s.Away))
	}
	for i := range p.s.Away {
		p.away[p.s.Away[i].Host] = &p.s.Away[i]
	}
	for i := range p.s.Holds {
		if h := &p.s.Holds[i]; h.Draining || h.Bad {
			if p.drains == nil {
				p.drains = make(map[HostID]*Hold)
			}
			p.drains[h.Host] = h
		}
	}
}

// endHolds ends locks whose time is over, locks hosts that are drained, and aborts what
// uses a draining host for too long. A host that a person has locked meanwhile goes on
// draining: its drain becomes a lock when that one ends, so that neither ends the other.
func (p *planner) endHolds() {
	if len(p.s.Holds) == 0 {
		return
	}
	now, released := p.s.Now*1000, make(map[HostID]bool, len(p.plan.Releases))
	for _, r := range p.plan.Releases {
		released[r.Host] = true
	}
	for _, hold := range p.holdsInOrder() {
		num, known := p.hostNum.get(int64(hold.Host))
		if !known || p.contended.hosts[hold.Host] {
			continue
		}
		h := p.hosts[num]
		if h.Locked && hold.LockOver(now) {
			p.plan.Unlocks = append(p.plan.Unlocks, Unlock{Host: h.ID, Hostname: h.Hostname})
		}
		if hold.Draining && !h.Locked && (h.unused() || released[h.ID]) {
			p.plan.Drained = append(p.plan.Drained, Drained{Host: h.ID, Hostname: h.Hostname, By: hold.By, Reason: hold.Reason})
		}
		if !hold.Overdue(now) {
			continue
		}
		for _, e := range hold.Abortable {
			p.plan.Aborts = append(p.plan.Aborts, Abort{Entry: e.Entry, Job: e.Job, Host: h.ID, By: hold.By, Reason: hold.Reason})
		}
	}
}

// holdsInOrder are the holds by host.
func (p *planner) holdsInOrder() []*Hold {
	out := make([]*Hold, len(p.s.Holds))
	for i := range p.s.Holds {
		out[i] = &p.s.Holds[i]
	}
	slices.SortFunc(out, func(a, b *Hold) int { return cmp.Compare(a.Host, b.Host) })
	return out
}

// unused tells whether nobody uses the host. A task that waits for a lease does not: it
// gets none while the host drains. A host whose repair failed stays leased.
func (h *Host) unused() bool {
	return h.ActiveEntry == 0 && (!h.Leased || !h.OpenTask && h.Status == HostRepairFailed)
}

// awayText says which agent serves a host, and why it takes nothing.
func (p *planner) awayText(id HostID) string {
	return fmt.Sprintf(" (agent %s: %s)", p.away[id].Agent, p.away[id].Reason)
}

// drainText says who drains a host and why, as far as this is known.
func (p *planner) drainText(id HostID) string {
	hold := p.drains[id]
	switch {
	case hold == nil || hold.By == "" && hold.Reason == "":
		return ""
	case hold.By == "":
		return " (" + hold.Reason + ")"
	}
	return " (" + hold.By + ": " + hold.Reason + ")"
}
