package store

import (
	"slices"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// SameLock finds the locks of hosts h that are those of hostsched_hosts d: another lock,
// whoever made it in which way, has another time or another person.
const SameLock = "h.locked = 1 AND h.lock_time = d.lock_time AND (h.locked_by_id = d.locked_by_id OR h.locked_by_id IS NULL AND d.locked_by_id IS NULL)"

// readHolds reads the drains of hosts, and when their present locks end, as far as that may
// have changed. It tells whether any is different, or became due as time went by: whatever
// else stays the same, a plan then has something to do.
func (lab *labRows) readHolds(r *sqldb.Reader, stale func(tables ...string) bool, moved bool) (changed bool) {
	s := &lab.snapshot
	if stale("hostsched_hosts", "hostsched_host_epochs") || moved || len(s.Holds) > 0 && stale("afe_hosts") {
		changed = renew(&s.Holds, holdsIn(r, lab.own), sameHold)
	}
	due := 0
	for i := range s.Holds {
		h := &s.Holds[i]
		h.Abortable = nil
		if h.LockOver(s.Now * 1000) {
			due++
		}
		if h.Overdue(s.Now * 1000) {
			due++
			h.Abortable = lab.queue.abortable(h.Host)
		}
		due += len(h.Abortable)
	}
	changed = changed || due != lab.due
	lab.due = due
	return changed
}

// heldBad is said in the place of who drains a host if the lab holds it as bad.
const heldBad = "held as bad"

func holdsIn(r *sqldb.Reader, own Ownership) (holds []scheduler.Hold) {
	r.Rows("SELECT h.id, CASE WHEN "+SameLock+" THEN d.lock_until END, CASE WHEN d.drain_since IS NULL THEN 0 ELSE 1 END, d.drain_deadline, COALESCE(d.drain_abort, 0), d.drain_by, d.drain_reason, CASE WHEN b.bad_since IS NULL THEN 0 ELSE 1 END, b.bad_reason"+
		" FROM (SELECT host_id FROM hostsched_hosts WHERE lock_until IS NOT NULL OR drain_since IS NOT NULL UNION SELECT host_id FROM hostsched_host_epochs WHERE bad_since IS NOT NULL) x"+
		" JOIN afe_hosts h ON h.id = x.host_id LEFT JOIN hostsched_hosts d ON d.host_id = h.id LEFT JOIN hostsched_host_epochs b ON b.host_id = h.id WHERE 1 = 1"+own.Hosts+" ORDER BY h.id", func(v sqldb.Row) {
		draining, abort, bad := v.Int(2), v.Int(4), v.Int(7)
		hold := scheduler.Hold{
			Host: scheduler.HostID(v.Int(0).N), LockUntil: v.Int(1).N,
			Draining: draining.Flag(), Deadline: v.Int(3).N, Abort: abort.Flag(), By: v.Text(5), Reason: v.Text(6), Bad: bad.Flag(),
		}
		if hold.Bad && !hold.Draining {
			hold.By, hold.Reason = heldBad, v.Text(8)
		}
		holds = append(holds, hold)
	})
	return holds
}

func sameHold(a, b scheduler.Hold) bool {
	return a.Host == b.Host && a.LockUntil == b.LockUntil && a.Draining == b.Draining && a.Bad == b.Bad && a.Deadline == b.Deadline && a.Abort == b.Abort && a.By == b.By && a.Reason == b.Reason
}

// abortable lists the active entries of a host that nobody has aborted.
func (q *queueRows) abortable(host scheduler.HostID) (entries []scheduler.HeldEntry) {
	for i := range q.live {
		if e := &q.live[i]; e.entry.Host == host && e.flags&isActive != 0 && e.flags&isAborted == 0 {
			entries = append(entries, scheduler.HeldEntry{Entry: e.entry.ID, Job: e.entry.Job})
		}
	}
	return slices.Clip(entries)
}
