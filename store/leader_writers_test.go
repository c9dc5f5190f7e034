package store_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

// fillLargeLab makes a lab whose plan every writer has a part in.
func fillLargeLab(t testing.TB, db *store.DB) {
	t.Helper()
	_, err := simlab.Create(context.Background(), db.SQL(), simlab.Spec{Seed: 3, Hosts: 900, Boards: 2, Suites: 6, Entries: 1200})
	require.NoError(t, err)
}

// largePlan is the plan of a large lab, to be written in many small chunks.
func largePlan(t testing.TB, db *store.DB) (*store.Leader, scheduler.Plan) {
	t.Helper()
	fillLargeLab(t, db)
	l := storetest.TakeOver(t, db, storetest.WholeLab, 10)
	l.SmallChunks()
	plan := storetest.FullPlan(t, db)
	require.Greater(t, len(plan.Assignments), 600)
	return l, plan
}

// requireOnlyApplied compares the database with what Apply says it has written,
// in part, of a plan on an unused lab.
func requireOnlyApplied(t testing.TB, db *store.DB, res store.Result) {
	t.Helper()
	n := len(res.Applied.Assignments)
	for _, query := range []string{
		"SELECT COUNT(*) FROM afe_host_queue_entries WHERE active = 1 AND host_id IS NOT NULL",
		"SELECT COUNT(*) FROM afe_hosts WHERE leased = 1",
		"SELECT COUNT(*) FROM afe_ineligible_host_queues",
	} {
		require.Equal(t, n, storetest.Count(t, db, query), query)
	}
	requireApplied(t, db, res.Applied)
}

// nth runs f in the n-th of many calls, which may come from several writers.
func nth(n int32, f func() error) func() error {
	var calls atomic.Int32
	return func() error {
		if calls.Add(1) == n {
			return f()
		}
		return nil
	}
}

// meet lets one call of every writer come together before f runs. Later calls pass.
func meet(db *store.DB, f func() error) func() error {
	var calls atomic.Int32
	writers := int32(store.Writers(db))
	met := make(chan struct{})
	return func() error {
		switch n := calls.Add(1); {
		case n < writers:
			<-met
		case n == writers:
			defer close(met)
			return f()
		}
		return nil
	}
}

func inTx(f func() error) func(context.Context) error {
	return func(context.Context) error { return f() }
}

// TestWritersShareAPlan: every writer writes its part under its own fence row, and
// the result is the plan, in its order.
func TestWritersShareAPlan(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		l, plan := largePlan(t, db)
		db.FailInTx(inTx(meet(db, func() error { return nil }))) // side by side
		res, err := l.Apply(t.Context(), plan)
		require.NoError(t, err)
		require.Equal(t, plan, res.Applied)
		requireOnlyApplied(t, db, res)
		require.Equal(t, store.Writers(db), storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_fence WHERE shard = 'master' AND ticks > 0"))
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(DISTINCT epoch) FROM hostsched_fence WHERE shard = 'master'"))
		f, _, err := db.ReadFence(t.Context(), shard.Master)
		require.NoError(t, err)
		require.EqualValues(t, res.Transactions+1, f.Writes, "the record of the term, and the plan")
	})
}

// TestAChunkIsMeasuredAlone: what a chunk waits for the one before it says nothing about
// the speed of the server, whether it waits inside its transaction or is repeated.
func TestAChunkIsMeasuredAlone(t *testing.T) {
	for _, slow := range []time.Duration{store.TurnWait * 4 / 5, 2 * store.TurnWait} {
		t.Run(slow.String(), func(t *testing.T) {
			db := storetest.NewServerLab(t)
			fillLargeLab(t, db)
			l := storetest.TakeOver(t, db, storetest.WholeLab, 10)
			plan := storetest.FullPlan(t, db)
			plan = scheduler.Plan{Basis: plan.Basis, Assignments: plan.Assignments[:220]} // enough to be measured, and quick
			db.FailInTx(inTx(meet(db, func() error { return nil })))                      // side by side
			db.FailInChunk(nth(1, func() error { time.Sleep(slow); return nil }))
			res, err := l.Apply(t.Context(), plan)
			require.NoError(t, err)
			require.Equal(t, plan.Assignments, res.Applied.Assignments)
			both := l.PerRow() * time.Duration(len(plan.Assignments)) // in two chunks
			require.Greater(t, both, slow)
			require.Less(t, both, 2*slow, "the slow one and another")
		})
	}
}

// TestStaleEpochIsRefusedInEveryWriter, also if a takeover forgot a writer: the rows of
// the others say so.
func TestStaleEpochIsRefusedInEveryWriter(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		old, plan := largePlan(t, db)
		storetest.TakeOver(t, db, storetest.WholeLab, 11)
		before := storetest.Dump(t, db)
		res, err := old.Apply(t.Context(), plan)
		require.ErrorIs(t, err, store.ErrFenced)
		storetest.RequireOneLine(t, err)
		require.True(t, res.Applied.Empty())
		require.Equal(t, before, storetest.Dump(t, db))

		last := store.Writers(db) - 1
		f := old.Fence()
		_, err = db.SQL().Exec("UPDATE hostsched_fence SET epoch = ?, holder = ? WHERE lane = ?", f.Epoch, f.Holder, last)
		require.NoError(t, err)
		res, err = old.Apply(t.Context(), plan)
		if last > 0 {
			require.ErrorIs(t, err, store.ErrFenced, "of the other lane")
		} else {
			require.ErrorIs(t, err, store.ErrWentBack, "the row is that of another takeover")
		}
		require.Empty(t, res.Applied.Assignments)
	})
}

// TestTakeOverWhileWritersWrite: the successor comes while the writers are inside
// their transactions. What the old leader says it has written is what is there.
func TestTakeOverWhileWritersWrite(t *testing.T) {
	for call := int32(1); call <= 4; call++ {
		t.Run(fmt.Sprint("transaction ", call), func(t *testing.T) {
			storetest.OnEachLabInParallel(t, func(t *testing.T, db *store.DB) {
				old, plan := largePlan(t, db)
				successor := make(chan error, 1)
				db.FailInTx(inTx(nth(call, func() error {
					go func() {
						l, err := db.TakeOver(context.Background(), store.Claim{Shard: shard.Master, Token: 11, Cluster: "test", Holder: "next"})
						if err == nil {
							err = l.Close()
						}
						successor <- err
					}()
					// Wait for the takeover, at most for as long as it takes to be
					// disconnected by it; SQLite's waits for us.
					if store.Writers(db) > 1 {
						err := <-successor
						successor <- err
					}
					return nil
				})))
				res, err := old.Apply(t.Context(), plan)
				require.NoError(t, <-successor)
				if store.Writers(db) > 1 {
					require.Error(t, err)
					require.Less(t, len(res.Applied.Assignments), len(plan.Assignments))
				}
				require.ErrorIs(t, old.Verify(t.Context()), store.ErrFenced)
				requireOnlyApplied(t, db, res)
			})
		})
	}
}

// TestTermIsRecordedOnce: a writer that cannot register at once does not make the
// takeover record its term a second time, as if the first had been lost.
func TestTermIsRecordedOnce(t *testing.T) {
	db := storetest.NewServerLab(t)
	storetest.TakeOver(t, db, storetest.WholeLab, 10)
	var other *sql.Tx
	db.FailInTx(inTx(func() (err error) { // in the transaction that records the term
		if other != nil {
			return other.Rollback()
		}
		if other, err = db.SQL().Begin(); err == nil {
			_, err = other.Exec("UPDATE hostsched_fence SET ticks = ticks WHERE shard = 'master' AND lane = 1")
		}
		return err
	}))
	storetest.TakeOver(t, db, storetest.WholeLab, 11)
	db.FailInTx(nil)
	require.NotNil(t, other)
	require.NoError(t, other.Rollback(), "the lane did not have to wait")
	terms, err := db.Terms(t.Context(), shard.Master, 10)
	require.NoError(t, err)
	require.Len(t, terms, 2)
}

// TestLostCommitAnswersOfWriters: no answer to any COMMIT of any writer comes.
func TestLostCommitAnswersOfWriters(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		l, plan := largePlan(t, db)
		db.FailAfterCommit(func() error { return driver.ErrBadConn })
		res, err := l.Apply(t.Context(), plan)
		require.NoError(t, err)
		require.Equal(t, plan, res.Applied)
		requireOnlyApplied(t, db, res)
	})
}

// TestWriterFails: whatever happens in one writer, the others begin nothing more,
// and the result says what is in the database. The next plan completes it.
func TestWriterFails(t *testing.T) {
	db := storetest.NewServerLab(t)
	broken := errors.New("the machine room is on fire")
	kill := func(writer int) func() error {
		return func() error {
			var id int64
			if err := db.SQL().QueryRow("SELECT session_id FROM hostsched_fence WHERE lane = ?", writer).Scan(&id); err != nil {
				return err
			}
			_, err := db.SQL().Exec(fmt.Sprintf("KILL CONNECTION %d", id))
			return err
		}
	}
	l, plan := largePlan(t, db)
	for _, c := range []struct {
		name string
		fail func() error
	}{
		{"an error", func() error { return broken }},
		{"the first connection is lost", kill(0)},
		{"the second connection is lost", kill(1)},
	} {
		db.FailInTx(inTx(meet(db, c.fail)))
		part, err := l.Apply(t.Context(), plan)
		db.FailInTx(nil)
		require.Error(t, err, c.name)
		require.NotErrorIs(t, err, store.ErrFenced, c.name)
		require.Less(t, len(part.Applied.Assignments), len(plan.Assignments), c.name)
		requireApplied(t, db, part.Applied)
		require.Equal(t, len(part.Applied.Assignments), storetest.Count(t, db, "SELECT COUNT(*) FROM afe_hosts WHERE leased = 1"), c.name)
		_, err = db.SQL().Exec("UPDATE afe_hosts SET leased = 0")
		require.NoError(t, err)
		_, err = db.SQL().Exec("UPDATE afe_host_queue_entries SET status = 'Completed', active = 0, complete = 1 WHERE active = 1")
		require.NoError(t, err)
		plan = storetest.FullPlan(t, db)
		l.SmallChunks()
		require.Greater(t, len(plan.Assignments), 300, c.name)
	}
	res, err := l.Apply(t.Context(), plan)
	require.NoError(t, err)
	require.Equal(t, plan.Assignments, res.Applied.Assignments)
	requireApplied(t, db, res.Applied)
}

// TestReleasesBesideAssignments: few assignments leave a writer idle, which releases hosts
// meanwhile. What happens to one of them does not concern the other, but the end of the term.
func TestReleasesBesideAssignments(t *testing.T) {
	db := storetest.NewServerLab(t)
	storetest.FillLab(t, db)
	_, err := db.SQL().Exec("UPDATE afe_hosts SET leased = 1 WHERE locked = 0 AND id % 7 = 0")
	require.NoError(t, err)
	l := storetest.TakeOver(t, db, storetest.WholeLab, 1)
	plan := storetest.FullPlan(t, db)
	plan.Leases = nil // they come first
	assigned := map[scheduler.HostID]bool{}
	for _, a := range plan.Assignments {
		assigned[a.Host] = true
	}
	plan.Releases = slices.DeleteFunc(plan.Releases, func(r scheduler.Release) bool { return assigned[r.Host] })
	require.Greater(t, len(plan.Releases), 2)
	require.Greater(t, len(plan.Assignments), 10)
	assignments := len(plan.Assignments)
	requireWritten := func(res store.Result) {
		t.Helper()
		requireApplied(t, db, res.Applied)
		for _, r := range plan.Releases {
			want := 1
			if slices.Contains(res.Applied.Releases, r) {
				want = 0
			}
			require.Equal(t, want, storetest.Count(t, db, fmt.Sprintf("SELECT leased FROM afe_hosts WHERE id = %d", r.Host)), r.Hostname)
		}
	}

	broken := errors.New("the machine room is on fire")
	db.FailInTx(inTx(meet(db, func() error { return broken }))) // side by side
	first, err := l.Apply(t.Context(), plan)
	require.ErrorIs(t, err, broken)
	require.Equal(t, len(first.Applied.Releases) == 0, len(first.Applied.Assignments) == assignments, "one of the two: %+v", first)
	requireWritten(first)

	db.FailInTx(nil)
	rest := storetest.FullPlan(t, db)
	second, err := l.Apply(t.Context(), rest)
	require.NoError(t, err)
	require.Equal(t, rest.Assignments, second.Applied.Assignments)
	require.Equal(t, rest.Releases, second.Applied.Releases)

	storetest.TakeOver(t, db, storetest.WholeLab, 2)
	late, err := l.Apply(t.Context(), plan)
	require.ErrorIs(t, err, store.ErrFenced)
	storetest.RequireOneLine(t, err)
	require.True(t, late.Applied.Empty())
}

// TestReleasesOfWhatAPlanFrees: the hosts of a synchronous job that can never start are free
// only when its entries are stopped, so they are released after that.
func TestReleasesOfWhatAPlanFrees(t *testing.T) {
	db := storetest.NewServerLab(t)
	storetest.FillLab(t, db)
	l := storetest.TakeOver(t, db, storetest.WholeLab, 1)
	full := storetest.FullPlan(t, db)
	at := slices.IndexFunc(full.Assignments, func(a scheduler.Assignment) bool { return !a.Named && !a.Synch && a.Status == scheduler.StatusQueued })
	last := full.Assignments[at]
	last.Synch, last.Status, last.Tasks = true, scheduler.StatusStopped, 0
	at = slices.IndexFunc(full.Releases, func(r scheduler.Release) bool { return r.Host != last.Host })
	first := full.Releases[at]
	for _, text := range []string{
		"UPDATE afe_hosts SET leased = 1, status = 'Pending' WHERE id = %[1]d",
		"INSERT INTO afe_host_queue_entries (" + simlab.EntryColumns + ") VALUES (9999, %[2]d, %[1]d, NULL, 'Pending', 1, 0, 0, 0, '')",
	} {
		_, err := db.SQL().Exec(fmt.Sprintf(text, first.Host, last.Job))
		require.NoError(t, err)
	}
	for name, releases := range map[string][]scheduler.Release{
		"of an entry that had it": {first},
		"of the entry that gets":  {{Host: last.Host, Hostname: last.Hostname}},
	} {
		require.True(t, store.ReleasesFreed(scheduler.Plan{Assignments: []scheduler.Assignment{last}, Changes: []scheduler.Change{{Host: first.Host}}, Releases: releases}), name)
	}
	plan := scheduler.Plan{
		Basis: full.Basis, Assignments: []scheduler.Assignment{last},
		Changes:  []scheduler.Change{{Entry: 9999, Job: last.Job, Host: first.Host, From: scheduler.StatusPending, Status: scheduler.StatusStopped}},
		Releases: []scheduler.Release{first, {Host: last.Host, Hostname: last.Hostname}},
	}
	res, err := l.Apply(t.Context(), plan)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(plan, res.Applied))
	require.Zero(t, storetest.Count(t, db, fmt.Sprintf("SELECT COUNT(*) FROM afe_hosts WHERE leased = 1 AND id IN (%d, %d)", first.Host, last.Host)))
}

// TestConflictsInWriters: what other clients changed is left out, wherever in
// the plan it is, and reported in its order.
func TestConflictsInWriters(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		l, plan := largePlan(t, db)
		var want []scheduler.EntryID
		for i := 7; i < len(plan.Assignments); i += 97 {
			want = append(want, plan.Assignments[i].Entry)
			_, err := db.SQL().Exec("UPDATE afe_hosts SET locked = 1 WHERE id = ?", plan.Assignments[i].Host)
			require.NoError(t, err)
		}
		res, err := l.Apply(t.Context(), plan)
		require.NoError(t, err)
		require.Equal(t, want, res.Conflicts)
		requireOnlyApplied(t, db, res)
		require.Len(t, res.Applied.Assignments, len(plan.Assignments)-len(want))
	})
}

// TestPauseStopsAllWriters: a plan that was made before the pause is refused in
// the middle, by every writer.
func TestPauseStopsAllWriters(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		l, plan := largePlan(t, db)
		// The next chunk is being written meanwhile: it lets go.
		db.FailAfterCommit(nth(2, func() error {
			return admin.New(db).PauseShard(context.Background(), shard.Master, "alice", "repairs", "repairs")
		}))
		res, err := l.Apply(t.Context(), plan)
		db.FailAfterCommit(nil)
		require.ErrorIs(t, err, store.ErrLayout)
		storetest.RequireOneLine(t, err)
		require.NotEmpty(t, res.Applied.Assignments)
		require.Less(t, len(res.Applied.Assignments), len(plan.Assignments)/2)
		requireOnlyApplied(t, db, res)
	})
}

// taskOrder is the order of the entries whose special tasks are in a table, by
// the ids of the tasks.
func taskOrder(t testing.TB, db *store.DB) (entries []scheduler.EntryID) {
	t.Helper()
	require.NoError(t, simlab.Each(context.Background(), db.SQL(), "SELECT queue_entry_id FROM afe_special_tasks WHERE queue_entry_id IS NOT NULL ORDER BY id", func(rows *sql.Rows) error {
		var entry scheduler.EntryID
		err := rows.Scan(&entry)
		if len(entries) == 0 || entries[len(entries)-1] != entry {
			entries = append(entries, entry)
		}
		return err
	}))
	return entries
}

// TestTasksFollowTheQueue: the service that runs special tasks starts those of a
// kind by their ids, so the ids follow the queue, whatever the size of the plan
// and whatever happens to its chunks.
func TestTasksFollowTheQueue(t *testing.T) {
	for name, disturb := range map[string]func(*testing.T, *store.DB, *store.Leader, scheduler.Plan){
		"chunks as they come": func(*testing.T, *store.DB, *store.Leader, scheduler.Plan) {},
		"small chunks":        func(_ *testing.T, _ *store.DB, l *store.Leader, _ scheduler.Plan) { l.SmallChunks() },
		"a chunk is repeated again and again": func(_ *testing.T, db *store.DB, l *store.Leader, _ scheduler.Plan) {
			l.SmallChunks()
			var calls atomic.Int32
			db.FailInChunk(func() error {
				if calls.Add(1)%3 == 1 {
					return store.LockError(db)
				}
				return nil
			})
		},
		"the first chunk is slow": func(_ *testing.T, db *store.DB, l *store.Leader, _ scheduler.Plan) {
			l.SmallChunks()
			// Longer than the next chunk waits inside its transaction.
			db.FailInChunk(nth(1, func() error { time.Sleep(2 * store.TurnWait); return nil }))
		},
		"other clients change rows": func(t *testing.T, db *store.DB, l *store.Leader, plan scheduler.Plan) {
			l.SmallChunks()
			for i := 5; i < len(plan.Assignments); i += 61 {
				_, err := db.SQL().Exec("UPDATE afe_hosts SET locked = 1 WHERE id = ?", plan.Assignments[i].Host)
				require.NoError(t, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
				_, err := simlab.Create(t.Context(), db.SQL(), simlab.Spec{Seed: 5, Hosts: 1300, Boards: 3, Suites: 9, Entries: 1800})
				require.NoError(t, err)
				// Synchronous jobs whose entries stand far apart in the queue: one names
				// its host, the other does not.
				for _, job := range []int{7, 90, 400} {
					for _, text := range []string{
						"UPDATE afe_jobs SET synch_count = 2, run_reset = 1, priority = 50 WHERE id = %d",
						"INSERT INTO afe_host_queue_entries (job_id, meta_host, status, active, complete, deleted, execution_subdir, aborted) SELECT job_id, meta_host, 'Queued', 0, 0, 0, '', 0 FROM afe_host_queue_entries WHERE job_id = %d AND meta_host IS NOT NULL LIMIT 1",
					} {
						_, err := db.SQL().Exec(fmt.Sprintf(text, job))
						require.NoError(t, err)
					}
				}
				l := storetest.TakeOver(t, db, storetest.WholeLab, 10)
				plan := storetest.FullPlan(t, db)
				require.Greater(t, len(plan.Assignments), 1000)
				disturb(t, db, l, plan)
				res, err := l.Apply(t.Context(), plan)
				db.FailInChunk(nil)
				require.NoError(t, err)
				gone := map[scheduler.EntryID]bool{}
				for _, entry := range res.Conflicts {
					gone[entry] = true
				}
				var want []scheduler.EntryID
				for _, a := range plan.Assignments {
					if a.Tasks != 0 && !gone[a.Entry] {
						want = append(want, a.Entry)
					}
				}
				require.Greater(t, len(want), 1000)
				require.Equal(t, want, taskOrder(t, db))
			})
		})
	}
}
