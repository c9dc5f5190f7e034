package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"

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
)

// rowsNeeded are the rows that must be locked to write a unit. A row that refers to a
// job locks the job's row against its deletion.
func (u unit) rowsNeeded() (needed []LockedRow) {
	for _, as := range u.assignments {
		needed = append(needed, LockedRow{tableHosts, int64(as.Host)}, LockedRow{tableEntries, int64(as.Entry)})
		if !as.Named {
			needed = append(needed, LockedRow{tableJobs, int64(as.Job)})
		}
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

// locked returns which rows of each table another client keeps locked. A server that
// cannot tell says that there is none.
func (a *applier) locked(ctx context.Context, ids map[string][]int64) (map[LockedRow]bool, error) {
	locked := make(map[LockedRow]bool)
	err := a.write(ctx, "look for rows that others keep locked", func(ctx context.Context, tx sqldb.Querier) error {
		clear(locked)
		for table, all := range ids {
			if err := a.lockedIn(ctx, tx, table, all, locked); err != nil {
				return err
			}
		}
		return nil
	})
	if sqldb.IsSyntax(err) {
		return nil, nil
	}
	return locked, err
}

// lockedIn adds the rows of one table. Jobs are only referred to, which leaves them
// to others who do the same. What exists, but is passed over, is locked; what does not
// exist any more is not.
func (a *applier) lockedIn(ctx context.Context, tx sqldb.Querier, table string, ids []int64, locked map[LockedRow]bool) error {
	skip := a.l.db.Dialect.SkipLocked
	if table == tableJobs {
		skip = a.l.db.Dialect.SkipLockedShared
	}
	free := make(map[int64]bool)
	from := "SELECT id FROM " + table + a.l.db.Dialect.ByKey + " WHERE id IN "
	if err := sqldb.EachID(ctx, tx, from+sqldb.List(ids)+skip, func(id int64) { free[id] = true }); err != nil {
		return err
	}
	missing := slices.DeleteFunc(slices.Clone(ids), func(id int64) bool { return free[id] })
	if len(missing) == 0 {
		return nil
	}
	return sqldb.EachID(ctx, tx, from+sqldb.List(missing), func(id int64) { locked[LockedRow{table, id}] = true })
}

// foundLocked ends an Apply: the next one looks for locked rows before it writes if
// this one found any, because its plan will mostly want them again.
func (l *Leader) foundLocked(res *Result) {
	slices.SortFunc(res.Locked, func(a, b LockedRow) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.ID, b.ID))
	})
	res.Locked = slices.Compact(res.Locked)
	l.contended.Store(len(res.Locked) > 0)
}
