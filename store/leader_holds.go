package store

import (
	"cmp"
	"context"
	"slices"
	"strconv"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// notDraining restricts afe_hosts to hosts that are not draining at this moment, and that
// the lab does not hold as bad.
const notDraining = " AND NOT EXISTS (SELECT 1 FROM hostsched_hosts d WHERE d.host_id = afe_hosts.id AND d.drain_since IS NOT NULL)" +
	" AND NOT EXISTS (SELECT 1 FROM hostsched_host_epochs b WHERE b.host_id = afe_hosts.id AND b.bad_since IS NOT NULL)"

// unsaidReason is why a host is locked that was drained for a reason which its column
// cannot contain.
const unsaidReason = "drained; the journal says why"

// heldHosts begins a query for hosts h with their rows d of hostsched_hosts. The rows of
// both are locked, so that people who change a hold come before or after.
const heldHosts = "SELECT h.id FROM hostsched_hosts d JOIN afe_hosts h ON h.id = d.host_id WHERE d.host_id IN "

// holds ends the locks whose time is over, locks the hosts that are drained, and aborts
// what uses draining hosts for too long. What a person changed meanwhile is left alone.
func (a *applier) holds(ctx context.Context, plan scheduler.Plan) error {
	if err := eachHold(ctx, a, plan.Unlocks, func(u scheduler.Unlock) scheduler.HostID { return u.Host }, a.unlock); err != nil {
		return err
	}
	if err := eachHold(ctx, a, plan.Drained, func(d scheduler.Drained) scheduler.HostID { return d.Host }, a.lockDrained); err != nil {
		return err
	}
	return eachHold(ctx, a, plan.Aborts, func(b scheduler.Abort) scheduler.HostID { return b.Host }, a.abortHeld)
}

// eachHold writes changes of holds in chunks.
func eachHold[T any](ctx context.Context, a *applier, all []T, host func(T) scheduler.HostID, write func(context.Context, []T) error) error {
	id := func(v T) int64 { return int64(host(v)) }
	for chunk := range chunks(&a.l.chunkSizer, all) {
		if err := writeHosts(ctx, a, chunk, id, func(chunk []T) error { return write(ctx, chunk) }); err != nil {
			return err
		}
	}
	return nil
}

// lockHeld locks those of the hosts for which a condition holds, and returns their ids.
func (a *applier) lockHeld(ctx context.Context, tx sqldb.Querier, hosts []int64, condition string) (map[int64]bool, []int64, error) {
	held, ids := make(map[int64]bool), []int64(nil)
	query := heldHosts + sqldb.List(hosts) + " AND " + condition + ownerCondition("h.", *a.l.basis) + " ORDER BY h.id" + a.l.db.Dialect.ForUpdate
	err := sqldb.EachID(ctx, tx, query, func(id int64) { held[id], ids = true, append(ids, id) })
	return held, ids, err
}

func (a *applier) unlock(ctx context.Context, chunk []scheduler.Unlock) error {
	d := a.l.db.Dialect
	hosts := sqldb.IDsOf(chunk, func(u scheduler.Unlock) int64 { return int64(u.Host) })
	var done map[int64]bool
	err := a.writeOnce(ctx, "end locks whose time is over", func(ctx context.Context, tx sqldb.Querier) (err error) {
		var ids []int64
		if done, ids, err = a.lockHeld(ctx, tx, hosts, SameLock+" AND d.lock_until <= "+d.NowMillis); err != nil || len(ids) == 0 {
			return err
		}
		in := sqldb.List(ids)
		err = run(ctx, tx, []statement{
			{-1, "UPDATE afe_hosts" + d.ByKey + " SET locked = 0, locked_by_id = NULL, lock_time = NULL, lock_reason = '' WHERE id IN " + in, nil},
			{-1, "UPDATE hostsched_hosts SET lock_until = NULL, lock_time = NULL, locked_by_id = NULL WHERE host_id IN " + in, nil},
		})
		if err != nil {
			return err
		}
		return a.l.db.Note(ctx, tx, a.l.hostEvents(eventUnlocked, "its time was over", ids)...)
	})
	if err != nil {
		return err
	}
	for _, u := range chunk {
		if done[int64(u.Host)] {
			a.res.Applied.Unlocks = append(a.res.Applied.Unlocks, u)
		}
	}
	return nil
}

// drainedNow finds draining hosts that nobody uses or keeps locked.
const drainedNow = "d.drain_since IS NOT NULL AND h.locked = 0 AND NOT EXISTS (SELECT 1 FROM afe_host_queue_entries q WHERE q.host_id = h.id AND q.active = 1)" +
	" AND (h.leased = 0 OR h.status = '" + scheduler.HostRepairFailed + "' AND h.id NOT IN " + BusyHosts + ")"

func (a *applier) lockDrained(ctx context.Context, chunk []scheduler.Drained) error {
	d := a.l.db.Dialect
	chunk = slices.SortedFunc(slices.Values(chunk), func(x, y scheduler.Drained) int { return cmp.Compare(x.Host, y.Host) })
	who, said, err := a.peopleOf(ctx, chunk)
	if err != nil {
		return err
	}
	hosts := sqldb.IDsOf(chunk, func(v scheduler.Drained) int64 { return int64(v.Host) })
	var done map[int64]bool
	err = a.writeOnce(ctx, "lock drained hosts", func(ctx context.Context, tx sqldb.Querier) (err error) {
		var ids []int64
		if done, ids, err = a.lockHeld(ctx, tx, hosts, drainedNow); err != nil || len(ids) == 0 {
			return err
		}
		var by, why []sqldb.Pair
		var args []any
		var events []Event
		for _, v := range chunk {
			id := int64(v.Host)
			if !done[id] {
				continue
			}
			by = append(by, sqldb.Pair{Key: id, Value: idOrNull(who[v.By])})
			why = append(why, sqldb.Pair{Key: id, Value: "?"})
			args = append(args, said[v.Reason])
			drained := a.l.event(eventDrained, v.Host, 0, 0, v.Reason)
			drained.Subject = v.Hostname
			events = append(events, drained, Event{Kind: eventLocked, Shard: drained.Shard, Host: id, Who: v.By, Subject: v.Hostname, Reason: v.Reason})
		}
		in := sqldb.List(ids)
		err = run(ctx, tx, []statement{
			{-1, "UPDATE afe_hosts" + d.ByKey + " SET locked = 1, dirty = 1, lock_time = " + d.Now + ", locked_by_id = " + sqldb.CaseOf(by, "") + ", lock_reason = " + sqldb.CaseOf(why, "") + " WHERE id IN " + in, args},
			{-1, "UPDATE hostsched_hosts SET lock_until = NULL, lock_time = NULL, locked_by_id = NULL, drain_since = NULL, drain_by = '', drain_reason = '', drain_deadline = NULL, drain_abort = 0 WHERE host_id IN " + in, nil},
		})
		if err != nil {
			return err
		}
		return a.l.db.Note(ctx, tx, events...)
	})
	if err != nil {
		return err
	}
	for _, v := range chunk {
		if done[int64(v.Host)] {
			a.res.Applied.Drained = append(a.res.Applied.Drained, v)
		}
	}
	return nil
}

// peopleOf finds the users who drained hosts, and what of their reasons can be said in
// afe_hosts: its character set may lack what they consist of.
func (a *applier) peopleOf(ctx context.Context, chunk []scheduler.Drained) (users map[string]int64, said map[string]string, err error) {
	var names, reasons []string
	for _, v := range chunk {
		names, reasons = append(names, v.By), append(reasons, v.Reason)
	}
	said = make(map[string]string)
	err = a.l.db.Read(ctx, func(r *sqldb.Reader) {
		users = RowsNamed(r, tableUsers, "login", "", names)
		for _, reason := range reasons {
			said[reason] = unsaidReason
		}
		for _, reason := range storable(r, tableHosts, "lock_reason", reasons) {
			said[reason] = reason
		}
	})
	return users, said, sqldb.Explain(err, "find who drained hosts", a.l.db.Target())
}

func (a *applier) abortHeld(ctx context.Context, chunk []scheduler.Abort) error {
	d := a.l.db.Dialect
	var names []string
	for _, v := range chunk {
		names = append(names, v.By)
	}
	var users map[string]int64
	err := a.l.db.Read(ctx, func(r *sqldb.Reader) { users = RowsNamed(r, tableUsers, "login", "", names) })
	if err != nil {
		return sqldb.Explain(err, "find who drained hosts", a.l.db.Target())
	}
	entries := sqldb.IDsOf(chunk, func(v scheduler.Abort) int64 { return int64(v.Entry) })
	query := "SELECT q.id FROM hostsched_hosts d JOIN afe_hosts h ON h.id = d.host_id JOIN afe_host_queue_entries q ON q.host_id = h.id WHERE q.active = 1 AND q.complete = 0 AND q.aborted = 0" +
		" AND d.drain_since IS NOT NULL AND d.drain_abort = 1 AND d.drain_deadline <= " + d.NowMillis + " AND q.id IN " + sqldb.List(entries) + ownerCondition("h.", *a.l.basis) + d.ForUpdate
	done := make(map[int64]bool)
	err = a.writeOnce(ctx, "abort what uses draining hosts", func(ctx context.Context, tx sqldb.Querier) error {
		clear(done)
		if err := sqldb.EachID(ctx, tx, query, func(id int64) { done[id] = true }); err != nil || len(done) == 0 {
			return err
		}
		var ids []int64
		var events []Event
		var rows []byte
		for _, v := range chunk {
			id := int64(v.Entry)
			if !done[id] {
				continue
			}
			ids = append(ids, id)
			events = append(events, a.l.event(eventAborted, v.Host, v.Job, v.Entry, "the host drains for "+v.By+", and the deadline is past: "+v.Reason))
			if user := users[v.By]; user != 0 {
				rows = append(append(append(sqldb.Tuple(rows, id, user), ", "...), d.Now...), ')')
			}
		}
		statements := []statement{{len(ids), "UPDATE afe_host_queue_entries" + d.ByKey + " SET aborted = 1 WHERE id IN " + sqldb.List(ids), nil}}
		if len(rows) > 0 {
			statements = add(statements, -1, d.InsertIgnore+" afe_aborted_host_queue_entries (queue_entry_id, aborted_by_id, aborted_on) VALUES "+string(rows))
		}
		if err := run(ctx, tx, statements); err != nil {
			return err
		}
		return a.l.db.Note(ctx, tx, events...)
	})
	if err != nil {
		return err
	}
	for _, v := range chunk {
		if done[int64(v.Entry)] {
			a.res.Applied.Aborts = append(a.res.Applied.Aborts, v)
		}
	}
	return nil
}

func idOrNull(id int64) string {
	if id == 0 {
		return "NULL"
	}
	return strconv.FormatInt(id, 10)
}
