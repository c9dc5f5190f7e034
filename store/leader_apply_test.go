package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// requireApplied compares the database with a plan, row by row.
func requireApplied(t testing.TB, db *store.DB, plan scheduler.Plan) {
	t.Helper()
	for _, a := range plan.Assignments {
		var host, active, complete, tasks, ineligible int64
		var status string
		require.NoError(t, db.SQL().QueryRow("SELECT host_id, active, complete, status FROM afe_host_queue_entries WHERE id = ?", a.Entry).Scan(&host, &active, &complete, &status))
		require.EqualValues(t, a.Host, host)
		require.Equal(t, string(a.Status), status)
		require.Equal(t, a.Status != scheduler.StatusStopped, active == 1)
		require.Equal(t, a.Status == scheduler.StatusStopped, complete == 1)
		require.NoError(t, db.SQL().QueryRow("SELECT COUNT(*) FROM afe_special_tasks WHERE queue_entry_id = ? AND host_id = ? AND requested_by_id = ?", a.Entry, a.Host, a.RequestedBy).Scan(&tasks))
		require.EqualValues(t, len(a.Tasks.Names()), tasks, "special tasks of entry %d", a.Entry)
		require.NoError(t, db.SQL().QueryRow("SELECT COUNT(*) FROM afe_ineligible_host_queues WHERE job_id = ? AND host_id = ?", a.Job, a.Host).Scan(&ineligible))
		require.EqualValues(t, 1, ineligible)
	}
}

func TestApplyWritesThePlan(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillLab(t, db)
		l := storetest.TakeOver(t, db, storetest.WholeLab, 1)
		plan := storetest.FullPlan(t, db)
		require.NotEmpty(t, plan.Leases)
		require.NotEmpty(t, plan.Releases)
		res, err := l.Apply(t.Context(), plan)
		require.NoError(t, err)
		require.Empty(t, res.Conflicts)
		require.Equal(t, plan, res.Applied)
		requireApplied(t, db, plan)
		for _, r := range plan.Releases {
			require.Zero(t, storetest.Count(t, db, fmt.Sprintf("SELECT leased FROM afe_hosts WHERE id = %d", r.Host)))
		}
	})
}

// TestApplyInChunks: a plan larger than a chunk takes several transactions and
// comes out whole.
func TestApplyInChunks(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		_, err := simlab.Create(t.Context(), db.SQL(), simlab.Spec{Seed: 2, Hosts: 5000, Boards: 2, Suites: 12, Entries: 8000})
		require.NoError(t, err)
		l := storetest.TakeOver(t, db, storetest.WholeLab, 1)
		plan := storetest.FullPlan(t, db)
		require.Greater(t, len(plan.Assignments), 3000)
		res, err := l.Apply(t.Context(), plan)
		require.NoError(t, err)
		require.GreaterOrEqual(t, res.Transactions, 3)
		require.Equal(t, plan, res.Applied, "in the order of the plan")
		require.Equal(t, len(plan.Assignments), storetest.Count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries WHERE active = 1"))
		require.Equal(t, len(plan.Assignments), storetest.Count(t, db, "SELECT COUNT(*) FROM afe_hosts WHERE leased = 1"))
		require.Empty(t, storetest.FullPlan(t, db).Assignments)
	})
}

func TestChunkThatFailsHalfWayLeavesNothing(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillLab(t, db)
		l := storetest.TakeOver(t, db, storetest.WholeLab, 1)
		plan := storetest.FullPlan(t, db)
		plan.Leases, plan.Releases = nil, nil
		before := storetest.Dump(t, db)
		broken := errors.New("the machine room is on fire")
		db.FailInChunk(func() error { return broken })
		res, err := l.Apply(t.Context(), plan)
		require.ErrorIs(t, err, broken)
		require.True(t, res.Applied.Empty())
		require.Equal(t, before, storetest.Dump(t, db))
		db.FailInChunk(nil)
		_, err = l.Apply(t.Context(), plan)
		require.NoError(t, err)
		requireApplied(t, db, plan)
	})
}

// TestRowsChangedByAnotherClient: what others changed after the snapshot is
// left out; everything else is written.
func TestRowsChangedByAnotherClient(t *testing.T) {
	change := map[string]string{
		"entry aborted":         "UPDATE afe_host_queue_entries SET aborted = 1 WHERE id = %[1]d",
		"entry given a host":    "UPDATE afe_host_queue_entries SET host_id = 59 WHERE id = %[1]d",
		"entry stopped":         "UPDATE afe_host_queue_entries SET status = 'Stopped', complete = 1 WHERE id = %[1]d",
		"host locked":           "UPDATE afe_hosts SET locked = 1 WHERE id = %[2]d",
		"host leased":           "UPDATE afe_hosts SET leased = 1 WHERE id = %[2]d",
		"host in an active use": "INSERT INTO afe_host_queue_entries (" + simlab.EntryColumns + ") VALUES (9999, 1, %[2]d, NULL, 'Running', 1, 0, 0, 0, '')",
	}
	for name, text := range change {
		t.Run(name, func(t *testing.T) {
			storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
				storetest.FillLab(t, db)
				l := storetest.TakeOver(t, db, storetest.WholeLab, 1)
				plan := storetest.FullPlan(t, db)
				victim := plan.Assignments[3]
				_, err := db.SQL().Exec(fmt.Sprintf(text, victim.Entry, victim.Host))
				require.NoError(t, err)
				res, err := l.Apply(t.Context(), plan)
				require.NoError(t, err)
				require.Equal(t, []scheduler.EntryID{victim.Entry}, res.Conflicts)
				require.Len(t, res.Applied.Assignments, len(plan.Assignments)-1)
				requireApplied(t, db, res.Applied)
			})
		})
	}
}

// TestRowsThatAreGone: what refers to a row that somebody removed after the snapshot is left
// out; everything else is written.
func TestRowsThatAreGone(t *testing.T) {
	remove := func(texts ...string) func(*testing.T, *store.DB, *scheduler.Assignment) {
		return func(t *testing.T, db *store.DB, victim *scheduler.Assignment) {
			for _, text := range texts {
				_, err := db.SQL().Exec(fmt.Sprintf(text, victim.Entry, victim.Host))
				require.NoError(t, err)
			}
		}
	}
	for name, change := range map[string]func(*testing.T, *store.DB, *scheduler.Assignment){
		"entry": remove("DELETE FROM afe_host_queue_entries WHERE id = %[1]d"),
		"host":  remove("DELETE FROM afe_hosts_labels WHERE host_id = %[2]d", "DELETE FROM afe_acl_groups_hosts WHERE host_id = %[2]d", "DELETE FROM afe_hosts WHERE id = %[2]d"),
		"user":  func(_ *testing.T, _ *store.DB, victim *scheduler.Assignment) { victim.RequestedBy = 4711 },
	} {
		t.Run(name, func(t *testing.T) {
			storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
				storetest.FillLab(t, db)
				l := storetest.TakeOver(t, db, storetest.WholeLab, 1)
				plan := storetest.FullPlan(t, db)
				at := slices.IndexFunc(plan.Assignments, func(a scheduler.Assignment) bool { return a.Tasks != 0 && !a.Named && !a.Synch })
				victim := plan.Assignments[at]
				change(t, db, &plan.Assignments[at])
				res, err := l.Apply(t.Context(), plan)
				require.NoError(t, err)
				want := []scheduler.EntryID{victim.Entry}
				if name == "user" && db.Dialect.Server == sqldb.ServerSQLite {
					want = nil // it checks no references
				}
				require.Equal(t, want, res.Conflicts)
				require.Len(t, res.Applied.Assignments, len(plan.Assignments)-len(want))
				requireApplied(t, db, res.Applied)
			})
		})
	}
}

// TestSpellingsOfStatuses: what the database takes for a status is that status, in the
// snapshot, in the plan and when rows are read again after a conflict.
func TestSpellingsOfStatuses(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillLab(t, db)
		l := storetest.TakeOver(t, db, storetest.WholeLab, 1)
		// One entry of a synchronous job is pending beside those that wait.
		storetest.Exec(t, db, "UPDATE afe_jobs SET synch_count = 2 WHERE id = 3")
		storetest.Exec(t, db, "INSERT INTO afe_host_queue_entries ("+simlab.EntryColumns+") VALUES (9998, 3, 57, NULL, 'Pending', 1, 0, 0, 0, '')")
		before, err := db.Snapshot(t.Context(), storetest.WholeLab)
		require.NoError(t, err)
		require.NotEmpty(t, before.Siblings)
		plan := storetest.FullPlan(t, db)
		require.NotEmpty(t, plan.Assignments)
		require.NotEmpty(t, plan.Releases)

		blank := ""
		storetest.Exec(t, db, "UPDATE afe_hosts SET status = 'Ready ' WHERE id = 1")
		if storetest.Count(t, db, "SELECT COUNT(*) FROM afe_hosts WHERE id = 1 AND status = 'Ready'") == 1 {
			blank = " "
		}
		for _, table := range []string{"afe_hosts", "afe_host_queue_entries"} {
			for _, status := range []string{"Ready", "Queued", "Pending", "Stopped"} {
				storetest.Exec(t, db, "UPDATE "+table+" SET status = ? WHERE status = ?", strings.ToUpper(status)+blank, status)
			}
		}
		storetest.Exec(t, db, "UPDATE afe_hosts SET status = ? WHERE id = 1", "READY"+blank)
		after, err := db.Snapshot(t.Context(), storetest.WholeLab)
		require.NoError(t, err)
		require.Equal(t, before.Siblings, after.Siblings)
		require.Equal(t, plan, storetest.FullPlan(t, db))

		victim := plan.Assignments[3]
		storetest.Exec(t, db, "UPDATE afe_hosts SET locked = 1 WHERE id = ?", int64(victim.Host))
		res, err := l.Apply(t.Context(), plan)
		require.NoError(t, err)
		require.Equal(t, []scheduler.EntryID{victim.Entry}, res.Conflicts, "the others are as planned")
		require.Len(t, res.Applied.Releases, len(plan.Releases))
	})
}

// TestReleaseConflicts: a host that came into use after the snapshot stays
// leased.
func TestReleaseConflicts(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillLab(t, db)
		l := storetest.TakeOver(t, db, storetest.WholeLab, 1)
		plan := storetest.FullPlan(t, db)
		host := plan.Releases[0].Host
		_, err := db.SQL().Exec("INSERT INTO afe_special_tasks ("+simlab.TaskColumns+") VALUES (?, 'Verify', NULL, 1, 0, 0, CURRENT_TIMESTAMP)", host)
		require.NoError(t, err)
		res, err := l.Apply(t.Context(), plan)
		require.NoError(t, err)
		require.Len(t, res.Applied.Releases, len(plan.Releases)-1)
		require.Equal(t, 1, storetest.Count(t, db, fmt.Sprintf("SELECT leased FROM afe_hosts WHERE id = %d", host)))
	})
}

// TestGuardRefusesASecondActiveEntry: the database itself says no.
func TestGuardRefusesASecondActiveEntry(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillLab(t, db)
		l := storetest.TakeOver(t, db, storetest.WholeLab, 1)
		plan := storetest.FullPlan(t, db)
		_, err := l.Apply(t.Context(), plan)
		require.NoError(t, err)
		insert := "INSERT INTO afe_host_queue_entries (" + simlab.EntryColumns + ") VALUES (9999, 1, ?, NULL, 'Queued', %d, 0, 0, 0, '')"
		active := slices.IndexFunc(plan.Assignments, func(a scheduler.Assignment) bool { return a.Status != scheduler.StatusStopped })
		host := plan.Assignments[active].Host
		_, err = db.SQL().Exec(fmt.Sprintf(insert, 1), host)
		require.Error(t, err)
		_, err = db.SQL().Exec(fmt.Sprintf(insert, 0), host)
		require.NoError(t, err, "an inactive entry is allowed")
		_, err = db.SQL().Exec("UPDATE afe_host_queue_entries SET active = 1 WHERE id = 9999")
		require.Error(t, err)
	})
}

// TestDeadlockIsRepeated: a transaction that another client's locks broke is
// tried again; the tick continues.
func TestDeadlockIsRepeated(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillLab(t, db)
		l := storetest.TakeOver(t, db, storetest.WholeLab, 1)
		plan := storetest.FullPlan(t, db)
		plan.Leases, plan.Releases = nil, nil
		collisions := 0
		db.FailInChunk(func() error {
			if collisions++; collisions <= 2 {
				return store.LockError(db)
			}
			return nil
		})
		res, err := l.Apply(t.Context(), plan)
		require.NoError(t, err)
		require.Equal(t, 3, res.Transactions)
		require.Equal(t, plan.Assignments, res.Applied.Assignments)
		requireApplied(t, db, plan)

		// For ever is too long.
		collisions = -1000
		next := storetest.FullPlan(t, db)
		require.NotEmpty(t, next.Releases)
		db.FailInTx(func(context.Context) error { return store.LockError(db) })
		_, err = l.Apply(t.Context(), next)
		require.Error(t, err)
	})
}
