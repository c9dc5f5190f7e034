package store_test

import (
	"cmp"
	"database/sql"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// lockRow keeps a row locked, as a client does that went away inside a transaction.
func lockRow(t testing.TB, db *store.DB, table string, id int64) *sql.Tx {
	t.Helper()
	tx, err := db.SQL().BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback() })
	var got int64
	require.NoError(t, tx.QueryRow(fmt.Sprintf("SELECT id FROM %s WHERE id = %d FOR UPDATE", table, id)).Scan(&got))
	return tx
}

// needsRow tells whether an assignment needs a row to be written.
func needsRow(a scheduler.Assignment, row store.LockedRow) bool {
	switch row.Table {
	case "afe_hosts":
		return int64(a.Host) == row.ID
	case "afe_host_queue_entries":
		return int64(a.Entry) == row.ID
	case "afe_jobs":
		return int64(a.Job) == row.ID && !a.Named
	}
	return int64(a.RequestedBy) == row.ID && a.Tasks != 0
}

// fewWaits is time for a few waits for a row on a busy machine, but not for one in each part
// of a plan that is cut in half again and again.
const fewWaits = 6 * sqldb.LockWait

// TestLockedRowHoldsUpItselfOnly: what needs a row that another client keeps locked
// waits; everything else is written in the same Apply, and the next Apply does not wait
// for the row again. So it is on a server that cannot pass over locked rows.
func TestLockedRowHoldsUpItselfOnly(t *testing.T) {
	for table, row := range map[string]func(scheduler.Assignment) int64{
		"afe_host_queue_entries": func(a scheduler.Assignment) int64 { return int64(a.Entry) },
		"afe_hosts":              func(a scheduler.Assignment) int64 { return int64(a.Host) },
		"afe_jobs":               func(a scheduler.Assignment) int64 { return int64(a.Job) },
		"afe_users":              func(a scheduler.Assignment) int64 { return int64(a.RequestedBy) },
	} {
		for _, can := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, passes over %t", table, can), func(t *testing.T) {
				lockedRowHoldsUpItselfOnly(t, table, row, can)
			})
		}
	}
}

func lockedRowHoldsUpItselfOnly(t *testing.T, table string, row func(scheduler.Assignment) int64, canPassOver bool) {
	db := storetest.NewServerLab(t)
	fill, fewest := fillLargeLab, 600
	if !canPassOver {
		db.Dialect.SkipLocked = " SKIP WHAT IT DOES NOT KNOW"
		fill, fewest = func(t testing.TB, db *store.DB) { storetest.FillLab(t, db) }, 10
	}
	fill(t, db)
	l := storetest.TakeOver(t, db, storetest.WholeLab, 10)
	plan := storetest.FullPlan(t, db)
	require.Greater(t, len(plan.Assignments), fewest)
	victim := plan.Assignments[slices.IndexFunc(plan.Assignments, func(a scheduler.Assignment) bool { return !a.Named && a.Tasks != 0 })]
	locked := store.LockedRow{Table: table, ID: row(victim)}
	var want []scheduler.EntryID
	for _, a := range plan.Assignments {
		if needsRow(a, locked) {
			want = append(want, a.Entry)
		}
	}
	other := lockRow(t, db, table, row(victim))
	began := time.Now()
	res, err := l.Apply(t.Context(), plan)
	require.NoError(t, err)
	require.Less(t, time.Since(began), fewWaits)
	require.Equal(t, want, res.Contended)
	require.Empty(t, res.Conflicts, "nobody changed anything")
	require.Equal(t, []store.LockedRow{locked}, res.Locked)
	require.Len(t, res.Applied.Assignments, len(plan.Assignments)-len(want))
	requireApplied(t, db, res.Applied)

	rest := scheduler.Plan{Basis: plan.Basis}
	for _, a := range plan.Assignments {
		if slices.Contains(want, a.Entry) {
			rest.Assignments = append(rest.Assignments, a)
		}
	}
	began = time.Now()
	res, err = l.Apply(t.Context(), rest)
	require.NoError(t, err)
	require.Less(t, time.Since(began), 900*time.Millisecond, "less than the wait for a row")
	require.Equal(t, want, res.Contended)
	require.NotEqual(t, scheduler.Contended{}, l.Contended())

	require.NoError(t, other.Rollback())
	res, err = l.Apply(t.Context(), rest)
	require.NoError(t, err)
	require.Empty(t, res.Contended)
	require.Empty(t, res.Locked)
	requireApplied(t, db, plan)
	require.Equal(t, scheduler.Contended{}, l.Contended(), "what could be written is not contended")
}

// TestRowOfAnUncommittedEntry: an entry that another client has not committed keeps its
// host from getting another one.
func TestRowOfAnUncommittedEntry(t *testing.T) {
	db := storetest.NewServerLab(t)
	storetest.FillLab(t, db)
	l := storetest.TakeOver(t, db, storetest.WholeLab, 1)
	plan := storetest.FullPlan(t, db)
	victim := plan.Assignments[3]
	other, err := db.SQL().Begin()
	require.NoError(t, err)
	t.Cleanup(func() { _ = other.Rollback() })
	_, err = other.Exec("INSERT INTO afe_host_queue_entries (job_id, host_id, status, active, complete, deleted, execution_subdir, aborted) VALUES (1, ?, 'Running', 1, 0, 0, '', 0)", victim.Host)
	require.NoError(t, err)
	res, err := l.Apply(t.Context(), plan)
	require.NoError(t, err)
	require.Equal(t, scheduler.Contended{Hosts: []scheduler.HostID{victim.Host}}, l.Contended())
	require.Equal(t, []scheduler.EntryID{victim.Entry}, res.Contended)
	require.Len(t, res.Applied.Assignments, len(plan.Assignments)-1)
	requireApplied(t, db, res.Applied)
}

// TestLockThatCannotBeSeen: another client keeps a gap of an index locked in which we
// insert. None of our rows is locked, so what is left alone is all that may be the reason.
func TestLockThatCannotBeSeen(t *testing.T) {
	db := storetest.NewServerLab(t)
	storetest.FillLab(t, db)
	storetest.Exec(t, db, "INSERT INTO afe_special_tasks (host_id, task, requested_by_id, is_active, is_complete, success, is_aborted, time_requested) SELECT id, 'Verify', 1, 0, 1, 1, 0, CURRENT_TIMESTAMP FROM afe_hosts")
	l := storetest.TakeOver(t, db, storetest.WholeLab, 1)
	plan := storetest.FullPlan(t, db)
	plan = scheduler.Plan{Basis: plan.Basis, Assignments: slices.DeleteFunc(plan.Assignments, func(a scheduler.Assignment) bool { return a.Tasks == 0 || a.Synch })}
	slices.SortFunc(plan.Assignments, func(a, b scheduler.Assignment) int { return cmp.Compare(a.Host, b.Host) })
	victim, other := plan.Assignments[0], plan.Assignments[len(plan.Assignments)-1]
	plan.Assignments = []scheduler.Assignment{victim, other}
	tx, err := db.SQL().BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback() })
	_, err = tx.Exec("SELECT id FROM afe_special_tasks WHERE host_id = ? FOR UPDATE", victim.Host)
	require.NoError(t, err)
	res, err := l.Apply(t.Context(), plan)
	require.NoError(t, err)
	require.Equal(t, scheduler.Contended{Hosts: []scheduler.HostID{victim.Host}, Entries: []scheduler.EntryID{victim.Entry}}, l.Contended())
	require.Equal(t, []scheduler.EntryID{victim.Entry}, res.Contended)
	require.Equal(t, []scheduler.Assignment{other}, res.Applied.Assignments)
}

// TestContention: a row is left alone for as long again as it is known to be locked,
// within bounds, and an entry for half of that.
func TestContention(t *testing.T) {
	host, entry := store.LockedRow{Table: "afe_hosts", ID: 1}, store.LockedRow{Table: "afe_host_queue_entries", ID: 2}
	at := func(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second))) }
	var c store.Contention
	require.False(t, c.Any(at(0)))
	c.Found([]store.LockedRow{host, entry}, at(0))
	require.Equal(t, []store.LockedRow{entry, host}, c.Held(at(0.9)))
	require.Equal(t, []store.LockedRow{host}, c.Held(at(1.1)), "the entry may get another host")
	require.Empty(t, c.Held(at(2)))
	require.True(t, c.Any(at(2)), "the next plan that wants the host does not wait for it")
	c.Found([]store.LockedRow{host}, at(5))
	require.Equal(t, []store.LockedRow{host}, c.Held(at(9.9)))
	require.Empty(t, c.Held(at(10)))
	c.Found([]store.LockedRow{host}, at(19))
	c.Found([]store.LockedRow{host}, at(100))
	require.Equal(t, []store.LockedRow{host}, c.Held(at(129)))
	require.Empty(t, c.Held(at(130)))
	require.True(t, c.Any(at(139)))
	require.False(t, c.Any(at(141)))
	c.Found([]store.LockedRow{host}, at(200))
	require.Empty(t, c.Held(at(202)), "a new lock")
}

// TestLockedRowOfASynchronousJob: all entries of the job wait with the one.
func TestLockedRowOfASynchronousJob(t *testing.T) {
	db := storetest.NewServerLab(t)
	storetest.FillLab(t, db)
	l := storetest.TakeOver(t, db, storetest.WholeLab, 1)
	plan := storetest.FullPlan(t, db)
	// Two assignments that the plan makes one by one, as if they belonged together.
	job := plan.Assignments[0].Job
	for i := range plan.Assignments {
		if i < 2 || plan.Assignments[i].Synch && plan.Assignments[i].Job == job {
			plan.Assignments[i].Synch, plan.Assignments[i].Job = true, job
		}
	}
	lockRow(t, db, "afe_host_queue_entries", int64(plan.Assignments[1].Entry))
	res, err := l.Apply(t.Context(), plan)
	require.NoError(t, err)
	require.Subset(t, res.Contended, []scheduler.EntryID{plan.Assignments[0].Entry, plan.Assignments[1].Entry})
	require.NotContains(t, res.Contended, plan.Assignments[len(plan.Assignments)-1].Entry)
	requireApplied(t, db, res.Applied)
}

// TestLockedHostHoldsUpItselfOnly: leases, releases and moves leave it out alike.
func TestLockedHostHoldsUpItselfOnly(t *testing.T) {
	db := storetest.NewServerLab(t)
	storetest.FillLab(t, db)
	_, err := db.SQL().Exec("INSERT INTO afe_shards (id, hostname) VALUES (7, 'shard-7')")
	require.NoError(t, err)
	_, err = db.SQL().Exec("UPDATE afe_hosts SET leased = CASE WHEN id <= 5 THEN 1 ELSE 0 END")
	require.NoError(t, err)
	l := storetest.TakeOver(t, db, storetest.WholeLab, 1)
	plan := scheduler.Plan{Basis: storetest.FullPlan(t, db).Basis}
	plan.Basis.Shared = true // so that hosts can be handed over
	for id := scheduler.HostID(1); id <= 5; id++ {
		plan.Releases = append(plan.Releases, scheduler.Release{Host: id})
		plan.Leases = append(plan.Leases, scheduler.Lease{Host: id + 10})
		plan.Moves = append(plan.Moves, scheduler.Move{Host: id + 20, To: 7})
	}
	for _, id := range []int64{3, 13, 23} {
		lockRow(t, db, "afe_hosts", id)
	}
	began := time.Now()
	res, err := l.Apply(t.Context(), plan)
	require.NoError(t, err)
	require.Less(t, time.Since(began), fewWaits)
	require.Len(t, res.Applied.Leases, 4)
	require.Len(t, res.Applied.Releases, 4)
	require.Len(t, res.Applied.Moves, 4)
	require.Equal(t, []store.LockedRow{{Table: "afe_hosts", ID: 3}, {Table: "afe_hosts", ID: 13}, {Table: "afe_hosts", ID: 23}}, res.Locked)
}
