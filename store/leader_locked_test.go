package store_test

import (
	"database/sql"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store"
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

// TestLockedRowHoldsUpItselfOnly: what needs a row that another client keeps locked
// waits; everything else is written in the same Apply, and the next Apply does not wait
// for the row again.
func TestLockedRowHoldsUpItselfOnly(t *testing.T) {
	for table, row := range map[string]func(scheduler.Assignment) int64{
		"afe_host_queue_entries": func(a scheduler.Assignment) int64 { return int64(a.Entry) },
		"afe_hosts":              func(a scheduler.Assignment) int64 { return int64(a.Host) },
		"afe_jobs":               func(a scheduler.Assignment) int64 { return int64(a.Job) },
	} {
		t.Run(table, func(t *testing.T) {
			db := storetest.NewServerLab(t)
			fillLargeLab(t, db)
			l := storetest.TakeOver(t, db, storetest.WholeLab, 10)
			plan := storetest.FullPlan(t, db)
			require.Greater(t, len(plan.Assignments), 600)
			victim := plan.Assignments[slices.IndexFunc(plan.Assignments, func(a scheduler.Assignment) bool { return !a.Named })]
			var want []scheduler.EntryID
			for _, a := range plan.Assignments {
				if row(a) == row(victim) && (table != "afe_jobs" || !a.Named) {
					want = append(want, a.Entry)
				}
			}
			other := lockRow(t, db, table, row(victim))
			began := time.Now()
			res, err := l.Apply(t.Context(), plan)
			require.NoError(t, err)
			require.Less(t, time.Since(began), 3*time.Second)
			require.Equal(t, want, res.Conflicts)
			require.Equal(t, []store.LockedRow{{Table: table, ID: row(victim)}}, res.Locked)
			require.Len(t, res.Applied.Assignments, len(plan.Assignments)-len(want))
			requireOnlyApplied(t, db, res)

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
			require.Equal(t, want, res.Conflicts)

			require.NoError(t, other.Rollback())
			res, err = l.Apply(t.Context(), rest)
			require.NoError(t, err)
			require.Empty(t, res.Conflicts)
			require.Empty(t, res.Locked)
			requireApplied(t, db, plan)
		})
	}
}

// TestLockedRowThatCannotBeSeen: an index entry that another client has not committed
// keeps a host from getting an entry, without any row of ours being locked.
func TestLockedRowThatCannotBeSeen(t *testing.T) {
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
	require.Contains(t, res.Conflicts, victim.Entry)
	require.Len(t, res.Applied.Assignments, len(plan.Assignments)-len(res.Conflicts))
	require.Len(t, res.Conflicts, 1)
	requireApplied(t, db, res.Applied)
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
	require.Subset(t, res.Conflicts, []scheduler.EntryID{plan.Assignments[0].Entry, plan.Assignments[1].Entry})
	require.NotContains(t, res.Conflicts, plan.Assignments[len(plan.Assignments)-1].Entry)
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
	require.Less(t, time.Since(began), 3*time.Second)
	require.Len(t, res.Applied.Leases, 4)
	require.Len(t, res.Applied.Releases, 4)
	require.Len(t, res.Applied.Moves, 4)
	require.Equal(t, []store.LockedRow{{Table: "afe_hosts", ID: 3}, {Table: "afe_hosts", ID: 13}, {Table: "afe_hosts", ID: 23}}, res.Locked)
}
