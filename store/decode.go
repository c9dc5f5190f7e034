package store

import (
	"database/sql"
	"fmt"
	"strconv"
	"strings"

	"github.com/hostsched/hostsched/scheduler"
)

// integer decodes an integer column without ever failing: MySQL guarantees what
// is in it, SQLite stores whatever it is given. A value that is no integer is
// bad, and the row is reported instead of stopping the tick.
type integer struct {
	n     int64
	valid bool // not NULL and not bad
	bad   bool
}

// Scan implements sql.Scanner.
func (v *integer) Scan(src any) error {
	*v = integer{}
	switch s := src.(type) {
	case nil:
	case int64:
		v.n, v.valid = s, true
	case []byte:
		v.parse(string(s))
	case string:
		v.parse(s)
	default:
		v.bad = true
	}
	return nil
}

func (v *integer) parse(s string) {
	n, err := strconv.ParseInt(s, 10, 64)
	v.n, v.valid, v.bad = n, err == nil, err != nil
}

// flag is the value of a boolean column; NULL and nonsense count as set.
// Autotest compares such columns with 0, so only a plain 0 is clear.
func (v *integer) flag() bool { return !v.valid || v.n != 0 }

// anyBad tells whether one of the values is no integer.
func anyBad(values ...*integer) bool {
	for _, v := range values {
		if v.bad {
			return true
		}
	}
	return false
}

func (r *reader) malformed(s *scheduler.Snapshot, entry int64, format string, args ...any) {
	s.Malformed = append(s.Malformed, scheduler.Problem{Entry: scheduler.EntryID(entry), Text: fmt.Sprintf(format, args...)})
}

// scanHost decodes a row of afe_hosts. A host with nonsense in it is taken for
// locked: it is not given out and not released until somebody looks at it.
func (r *reader) scanHost(s *scheduler.Snapshot, scan scanner) (scheduler.Host, error) {
	var hostname, status, reason, since sql.NullString
	var id, locked, invalid, leased, dirty, protection, shardID integer
	err := scan(&id, &hostname, &status, &locked, &invalid, &leased, &dirty, &protection, &shardID, &reason, &since)
	h := scheduler.Host{
		ID: scheduler.HostID(id.n), Hostname: hostname.String, Status: status.String, LockReason: reason.String, LockedSince: since.String,
		Ready:  !status.Valid || strings.EqualFold(status.String, scheduler.HostReady),
		Locked: locked.flag(), Leased: leased.flag(), Invalid: invalid.flag(), Dirty: dirty.n != 0,
		Shard: scheduler.ShardID(shardID.n),
	}
	if protection.n == int64(scheduler.DoNotVerify) {
		h.Protection = scheduler.DoNotVerify
	}
	if anyBad(&id, &locked, &invalid, &leased, &dirty, &protection, &shardID) {
		r.malformed(s, 0, "host %d (%s) has a value that is no integer; it counts as locked", h.ID, h.Hostname)
		h.Locked, h.LockReason = true, "malformed row"
	}
	return h, err
}

// scanEntry decodes a pending entry with its job. ok is false for a row with
// nonsense in it, which is reported and passed over.
func (r *reader) scanEntry(s *scheduler.Snapshot, scan scanner) (e scheduler.Entry, job scheduler.Job, ok bool, err error) {
	var entry, entryJob, host, meta, id, priority, parent, synch, verify, reset, reboot, age integer
	var owner sql.NullString
	err = scan(&entry, &entryJob, &host, &meta, &id, &owner, &priority, &parent, &synch, &verify, &reset, &reboot, &age)
	if err != nil {
		return e, job, false, err
	}
	if anyBad(&entry, &entryJob, &host, &meta, &id, &priority, &parent, &synch, &verify, &reset, &reboot) {
		r.malformed(s, entry.n, "entry %d, or its job %d, has a value that is no integer", entry.n, entryJob.n)
		return e, job, false, nil
	}
	e = scheduler.Entry{
		ID: scheduler.EntryID(entry.n), Job: scheduler.JobID(entryJob.n),
		Host: scheduler.HostID(host.n), MetaHost: scheduler.LabelID(meta.n),
	}
	job = scheduler.Job{
		ID: scheduler.JobID(id.n), Owner: owner.String,
		Priority: priority.n, Parent: scheduler.JobID(parent.n), SynchCount: int(synch.n),
		RunVerify: verify.n != 0, RunReset: reset.n != 0, RebootBefore: rebootBefore(reboot.n), QueuedSeconds: age.n,
	}
	if !priority.valid {
		job.Priority = scheduler.NoPriority
	}
	if !age.valid {
		job.QueuedSeconds = -1
	}
	return e, job, true, nil
}

// rebootBefore treats values that Autotest does not know like Never, as it does.
func rebootBefore(n int64) scheduler.RebootBefore {
	if n == int64(scheduler.RebootIfDirty) || n == int64(scheduler.RebootAlways) {
		return scheduler.RebootBefore(n)
	}
	return scheduler.RebootNever
}
