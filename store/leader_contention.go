package store

import (
	"maps"
	"slices"
	"time"

	"github.com/hostsched/hostsched/scheduler"
)

// contention remembers the rows that other clients kept locked lately, for plans to leave
// them alone.
type contention struct {
	rows map[LockedRow]lockedSpan
}

// lockedSpan is since when a row is known to be locked, and until when it is left alone.
type lockedSpan struct{ since, until time.Time }

// A row is left alone for as long again as it is known to be locked, within these bounds:
// most transactions are short, and a client that went away inside of one may keep its rows
// for hours.
const (
	shortestHold = 2 * time.Second
	longestHold  = 30 * time.Second
	// rememberedFor is for how long after that a plan that wants the row again finds out
	// without waiting for it.
	rememberedFor = 10 * time.Second
)

// found notes rows that were just found locked. Entries are left alone for half the time:
// where it cannot be seen whether the host or the entry is the reason, the entry gets
// another host while the host still rests.
func (c *contention) found(rows []LockedRow, now time.Time) {
	for _, row := range rows {
		span, known := c.rows[row]
		if !known {
			span.since = now
		}
		hold := min(longestHold, max(shortestHold, now.Sub(span.since)))
		if row.Table == tableEntries {
			hold /= 2
		}
		span.until = now.Add(hold)
		if c.rows == nil {
			c.rows = make(map[LockedRow]lockedSpan)
		}
		c.rows[row] = span
	}
}

// written forgets the rows that a plan could change or refer to.
func (c *contention) written(applied scheduler.Plan) {
	if len(c.rows) == 0 {
		return
	}
	for _, row := range (unit{assignments: applied.Assignments, changes: applied.Changes}).rowsNeeded() {
		delete(c.rows, row)
	}
	for _, l := range applied.Leases {
		delete(c.rows, LockedRow{tableHosts, int64(l.Host)})
	}
	for _, r := range applied.Releases {
		delete(c.rows, LockedRow{tableHosts, int64(r.Host)})
	}
	for _, m := range applied.Moves {
		delete(c.rows, LockedRow{tableHosts, int64(m.Host)})
	}
}

// any tells whether a plan may want a row that is locked.
func (c *contention) any(now time.Time) bool {
	maps.DeleteFunc(c.rows, func(_ LockedRow, span lockedSpan) bool { return now.After(span.until.Add(rememberedFor)) })
	return len(c.rows) > 0
}

// held are the rows that are left alone now, in order.
func (c *contention) held(now time.Time) (rows []LockedRow) {
	for row, span := range c.rows {
		if now.Before(span.until) {
			rows = append(rows, row)
		}
	}
	slices.SortFunc(rows, compareLocked)
	return rows
}

// Contended are the rows that the next plan leaves alone, because other clients kept them
// locked lately.
func (l *Leader) Contended() (c scheduler.Contended) {
	for _, row := range l.contention.held(time.Now()) {
		switch row.Table {
		case tableHosts:
			c.Hosts = append(c.Hosts, scheduler.HostID(row.ID))
		case tableEntries:
			c.Entries = append(c.Entries, scheduler.EntryID(row.ID))
		case tableJobs:
			c.Jobs = append(c.Jobs, scheduler.JobID(row.ID))
		case tableUsers:
			c.Users = append(c.Users, scheduler.UserID(row.ID))
		}
	}
	return c
}
