package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hostsched/hostsched/store/sqldb"
)

// LockedRow is a row that another client kept locked while a plan was written.
type LockedRow struct {
	Table string
	ID    int64
}

func (r LockedRow) String() string { return fmt.Sprintf("%s %d", r.Table, r.ID) }

// Tables whose rows are locked while a plan is written.
const (
	tableHosts   = "afe_hosts"
	tableEntries = "afe_host_queue_entries"
	tableJobs    = "afe_jobs"
	tableUsers   = "afe_users"
)

// rowsNeeded are the rows that must be locked to write a unit. A row that refers to a
// job or a user locks that one's row against its deletion.
func (u unit) rowsNeeded() []LockedRow {
	needed := u.rowsChanged()
	for _, as := range u.assignments {
		if !as.Named {
			needed = append(needed, LockedRow{tableJobs, int64(as.Job)})
		}
		if as.Tasks != 0 {
			needed = append(needed, LockedRow{tableUsers, int64(as.RequestedBy)})
		}
	}
	return needed
}

// rowsChanged are those that a unit changes.
func (u unit) rowsChanged() (needed []LockedRow) {
	for _, as := range u.assignments {
		needed = append(needed, LockedRow{tableHosts, int64(as.Host)}, LockedRow{tableEntries, int64(as.Entry)})
	}
	for _, c := range u.changes {
		needed = append(needed, LockedRow{tableEntries, int64(c.Entry)})
		if c.Host != 0 {
			needed = append(needed, LockedRow{tableHosts, int64(c.Host)})
		}
	}
	return needed
}

// writeHosts writes a chunk of changes of hosts, less those whose rows another client
// keeps locked.
func writeHosts[T any](ctx context.Context, a *applier, all []T, host func(T) int64, write func([]T) error) error {
	needs := func(v T) []LockedRow { return []LockedRow{{tableHosts, host(v)}} }
	looked := a.l.contended.Load()
	all, err := withoutLocked(ctx, a, all, needs)
	if err != nil || len(all) == 0 {
		return err
	}
	err = write(all)
	if !sqldb.IsLockWait(err) {
		return err
	}
	a.l.contended.Store(true)
	if !looked {
		return writeHosts(ctx, a, all, host, write)
	}
	if len(all) == 1 {
		a.res.Locked = append(a.res.Locked, needs(all[0])...)
		return nil
	}
	if err := writeHosts(ctx, a, all[:len(all)/2], host, write); err != nil {
		return err
	}
	return writeHosts(ctx, a, all[len(all)/2:], host, write)
}

// withoutLocked returns what can be written without waiting for another client. It
// looks only after a chunk had to wait for too long, in this Apply or the last one, so
// that it costs no statement otherwise.
func withoutLocked[T any](ctx context.Context, a *applier, all []T, needs func(T) []LockedRow) ([]T, error) {
	if !a.l.contended.Load() {
		return all, nil
	}
	ids := make(map[string][]int64)
	for _, v := range all {
		for _, row := range needs(v) {
			ids[row.Table] = append(ids[row.Table], row.ID)
		}
	}
	locked, err := a.locked(ctx, ids)
	if err != nil {
		return nil, err
	}
	for row := range locked {
		a.res.Locked = append(a.res.Locked, row)
	}
	isLocked := func(row LockedRow) bool { return locked[row] }
	var kept []T
	for _, v := range all {
		if !slices.ContainsFunc(needs(v), isLocked) {
			kept = append(kept, v)
		}
	}
	return kept, nil
}

// locked returns which rows of each table another client keeps locked.
func (a *applier) locked(ctx context.Context, ids map[string][]int64) (map[LockedRow]bool, error) {
	locked, err := a.lookWith(ctx, ids, a.passedOver)
	if sqldb.IsSyntax(err) {
		return a.lookWith(ctx, ids, a.refused)
	}
	return locked, err
}

// lookWith asks for the locked rows of each table.
func (a *applier) lookWith(ctx context.Context, ids map[string][]int64, ask func(context.Context, sqldb.Querier, lookup, func(int64)) error) (map[LockedRow]bool, error) {
	locked := make(map[LockedRow]bool)
	err := a.write(ctx, "look for rows that others keep locked", func(ctx context.Context, tx sqldb.Querier) error {
		clear(locked)
		for table, all := range ids {
			if err := ask(ctx, tx, a.lookup(table, all), func(id int64) { locked[LockedRow{table, id}] = true }); err != nil {
				return err
			}
		}
		return nil
	})
	return locked, err
}

// lookup is the question for rows of a table. Jobs and users are only referred to, which
// leaves them to others who do the same.
type lookup struct {
	ids  []int64
	from string
	lock string
}

func (a *applier) lookup(table string, ids []int64) lookup {
	q := lookup{ids: ids, from: "SELECT id FROM " + table + a.l.db.Dialect.ByKey + " WHERE id IN ", lock: a.l.db.Dialect.ForUpdate}
	if table == tableJobs || table == tableUsers {
		q.lock = a.l.db.Dialect.ForShare
	}
	return q
}

// passedOver finds locked rows in two queries. What exists, but is passed over, is locked;
// what does not exist any more is not.
func (a *applier) passedOver(ctx context.Context, tx sqldb.Querier, q lookup, locked func(int64)) error {
	free := make(map[int64]bool)
	if err := sqldb.EachID(ctx, tx, q.from+sqldb.List(q.ids)+q.lock+a.l.db.Dialect.SkipLocked, func(id int64) { free[id] = true }); err != nil {
		return err
	}
	missing := slices.DeleteFunc(slices.Clone(q.ids), func(id int64) bool { return free[id] })
	if len(missing) == 0 {
		return nil
	}
	return sqldb.EachID(ctx, tx, q.from+sqldb.List(missing), locked)
}

// refused finds them on a server that can only refuse a query as a whole: it halves the
// rows until the locked ones stand alone, and never waits.
func (a *applier) refused(ctx context.Context, tx sqldb.Querier, q lookup, locked func(int64)) error {
	err := sqldb.EachID(ctx, tx, q.from+sqldb.List(q.ids)+q.lock+a.l.db.Dialect.NoWait, func(int64) {})
	if !sqldb.IsLockWait(err) {
		return err
	}
	if len(q.ids) == 1 {
		locked(q.ids[0])
		return nil
	}
	for _, half := range [][]int64{q.ids[:len(q.ids)/2], q.ids[len(q.ids)/2:]} {
		if err := a.refused(ctx, tx, lookup{half, q.from, q.lock}, locked); err != nil {
			return err
		}
	}
	return nil
}

// foundLocked ends an Apply. Later ones look for locked rows before they write for as long
// as their plans may want those that were found.
func (l *Leader) foundLocked(res *Result) {
	slices.SortFunc(res.Locked, compareLocked)
	res.Locked = slices.Compact(res.Locked)
	now := time.Now()
	l.contention.written(res.Applied)
	l.contention.found(res.Locked, now)
	l.contended.Store(l.contention.any(now))
}

func compareLocked(a, b LockedRow) int {
	return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.ID, b.ID))
}
