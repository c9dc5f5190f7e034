package store_test

import (
	"database/sql/driver"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

// TestDatabaseThatWentBack: a database that lost what one of the writers committed
// takes nothing more from this leader, whichever writer it was, and the leader knows
// which assignments are gone.
func TestDatabaseThatWentBack(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		l, plan := largePlan(t, db)
		res, err := l.Apply(t.Context(), plan)
		require.NoError(t, err)
		lost, err := db.Lost(t.Context(), l.Given())
		require.NoError(t, err)
		require.Empty(t, lost)

		gone := res.Applied.Assignments[0]
		for num := range store.Writers(db) {
			var before string
			require.NoError(t, db.SQL().QueryRow("SELECT last_write FROM hostsched_fence WHERE shard = 'master' AND lane = ?", num).Scan(&before))
			storetest.Exec(t, db.DB, "UPDATE hostsched_fence SET last_write = '1.1' WHERE shard = 'master' AND lane = ?", num)
			storetest.Exec(t, db.DB, "UPDATE afe_host_queue_entries SET host_id = NULL, active = 0, status = 'Queued' WHERE id = ?", int64(gone.Entry))
			again := storetest.FullPlan(t, db)
			again.Assignments = append(again.Assignments, gone)
			state := storetest.Dump(t, db)
			res, err := l.Apply(t.Context(), again)
			require.ErrorIs(t, err, store.ErrWentBack)
			storetest.RequireOneLine(t, err)
			require.True(t, res.Applied.Empty())
			require.Equal(t, state, storetest.Dump(t, db))
			lost, err := db.Lost(t.Context(), l.Given())
			require.NoError(t, err)
			require.Equal(t, []store.Given{{Entry: gone.Entry, Job: gone.Job, Host: gone.Host}}, lost)
			storetest.Exec(t, db.DB, "UPDATE hostsched_fence SET last_write = ? WHERE shard = 'master' AND lane = ?", before, num)
		}

		// It lost the takeover, too. A database that was never led lost nothing.
		l = storetest.TakeOver(t, db, storetest.WholeLab, 11)
		storetest.Exec(t, db.DB, "UPDATE hostsched_fence SET epoch = epoch - 1, holder = 'former' WHERE shard = 'master'")
		require.ErrorIs(t, l.Verify(t.Context()), store.ErrWentBack)
		storetest.Exec(t, db.DB, "DELETE FROM hostsched_fence")
		require.ErrorIs(t, l.Verify(t.Context()), store.ErrFenced)
	})
}

// TestEveryWriteNeedsTheOneBefore: what was committed may be lost in the middle of an
// apply, too, so every transaction checks the one before it.
func TestEveryWriteNeedsTheOneBefore(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		l := storetest.TakeOver(t, db, storetest.WholeLab, 10)
		require.NoError(t, l.WriteNothing(t.Context()))
		storetest.Exec(t, db.DB, "UPDATE hostsched_fence SET last_write = '1.1' WHERE shard = ?", shard.Master.String())
		require.ErrorIs(t, l.WriteNothing(t.Context()), store.ErrWentBack)
	})
}

// TestTwoDoubts: two commits in a row are not answered, the first of which happened. That
// is no loss.
func TestTwoDoubts(t *testing.T) {
	db := storetest.NewServerLab(t)
	l := storetest.TakeOver(t, db, storetest.WholeLab, 10)
	require.NoError(t, l.WriteNothing(t.Context()))
	db.FailAfterCommit(func() error { // nor is the question what became of it
		storetest.Exec(t, db.DB, "ALTER TABLE hostsched_fence RENAME TO away")
		return driver.ErrBadConn
	})
	require.Error(t, l.WriteNothing(t.Context()))
	storetest.Exec(t, db.DB, "ALTER TABLE away RENAME TO hostsched_fence")
	var first string
	require.NoError(t, db.SQL().QueryRow("SELECT last_write FROM hostsched_fence WHERE lane = 0").Scan(&first))
	db.FailAfterCommit(func() error { // as if it had not happened
		storetest.Exec(t, db.DB, "UPDATE hostsched_fence SET last_write = ? WHERE lane = 0", first)
		return driver.ErrBadConn
	})
	err := l.WriteNothing(t.Context())
	require.Error(t, err)
	require.NotErrorIs(t, err, store.ErrWentBack)
	db.FailAfterCommit(nil)
	require.NoError(t, l.WriteNothing(t.Context()))
}
