package store_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// TestHalvedChunksKeepTheQueue: a chunk that is halved, to find rows that changed,
// is not cut between the entries of a synchronous job, because tasks of other
// jobs stand among them. What cannot be cut waits for the next tick.
func TestHalvedChunksKeepTheQueue(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		_, err := simlab.Create(t.Context(), db.SQL(), simlab.Spec{Seed: 5, Hosts: 60, Boards: 1, Suites: 2, Entries: 40})
		require.NoError(t, err)
		l := storetest.TakeOver(t, db, storetest.WholeLab, 10)
		plan := storetest.FullPlan(t, db)
		var as []scheduler.Assignment
		for _, a := range plan.Assignments {
			if a.Tasks != 0 && !a.Synch && len(as) < 6 {
				as = append(as, a)
			}
		}
		require.Len(t, as, 6)
		as[0].Synch, as[5].Synch, as[5].Job = true, true, as[0].Job // one synchronous job, the others between
		plan.Assignments, plan.Changes = as, nil
		db.FailInChunk(nth(1, func() error { return store.ErrChanged })) // another client, once, whose change is gone again
		res, err := l.Apply(t.Context(), plan)
		db.FailInChunk(nil)
		require.NoError(t, err)
		require.Len(t, res.Conflicts, len(as))
		require.Empty(t, taskOrder(t, db))
		res, err = l.Apply(t.Context(), plan)
		require.NoError(t, err)
		require.Empty(t, res.Conflicts)
		var want []scheduler.EntryID
		for _, a := range as {
			want = append(want, a.Entry)
		}
		require.Equal(t, want, taskOrder(t, db))
	})
}

// TestPanicBeside: a panic in another goroutine than the caller's, of a writer that shares the
// assignments or of one that releases beside them, is one that the caller can recover.
func TestPanicBeside(t *testing.T) {
	stack := func(name string) bool {
		buf := make([]byte, 1<<16)
		text := string(buf[:runtime.Stack(buf, false)])
		return strings.Contains(text, "store.beside") && strings.Contains(text, name)
	}
	for _, name := range []string{"store.(*sharedPlan).writeWith", "store.(*applier).releaseChunk"} {
		db := storetest.NewServerLab(t)
		l, plan := largePlan(t, db)
		if strings.Contains(name, "release") {
			plan.Assignments = plan.Assignments[:1]
			plan.Releases = []scheduler.Release{{Host: leasedHost(t, db, plan.Assignments[0].Host)}}
		}
		db.FailInTx(func(context.Context) error {
			if stack(name) {
				panic("a bug in " + name)
			}
			return nil
		})
		func() {
			defer func() { require.Contains(t, fmt.Sprint(recover()), "a bug in "+name) }()
			_, _ = l.Apply(context.WithoutCancel(t.Context()), plan)
		}()
		db.FailInTx(nil)
		res, err := l.Apply(t.Context(), plan)
		require.NoError(t, err, "nothing of the transaction is left")
		require.Positive(t, len(res.Applied.Assignments)+len(res.Applied.Releases))
		require.NoError(t, l.Close())
	}
}

// leasedHost leases a host but the given one.
func leasedHost(t *testing.T, db *store.DB, but scheduler.HostID) scheduler.HostID {
	t.Helper()
	id := storetest.Count(t, db, "SELECT MAX(id) FROM afe_hosts WHERE id <> ?", int64(but))
	storetest.Exec(t, db, "UPDATE afe_hosts SET leased = 1, locked = 0, status = 'Ready' WHERE id = ?", id)
	return scheduler.HostID(id)
}

// TestPanicInAWriter: a panic while one writer writes, which a replica recovers,
// leaves no other writer waiting with its connection.
func TestPanicInAWriter(t *testing.T) {
	db := storetest.NewServerLab(t)
	l, plan := largePlan(t, db)
	blocked := make(chan struct{})
	mainStack := func() bool {
		buf := make([]byte, 1<<16)
		return strings.Contains(string(buf[:runtime.Stack(buf, false)]), "store.(*Leader).Apply(")
	}
	db.FailInTx(func(context.Context) error {
		if mainStack() { // the writer of the caller's goroutine
			<-blocked
			panic("a bug in a chunk")
		}
		select {
		case <-blocked:
		default:
			close(blocked)
		}
		return nil
	})
	func() {
		defer func() { require.NotNil(t, recover()) }() // as replica.tick does
		_, _ = l.Apply(context.WithoutCancel(t.Context()), plan)
	}()
	db.FailInTx(nil)
	left := func() bool {
		buf := make([]byte, 1<<20)
		return strings.Contains(string(buf[:runtime.Stack(buf, true)]), "store.(*sharedPlan).writeWith")
	}
	require.Eventually(t, func() bool { return !left() }, 8*time.Second, 50*time.Millisecond, "a goroutine of Apply is still there")
}

// TestPanicWhileReading: a panic while a snapshot is read gives the connection
// back.
func TestPanicWhileReading(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		for i := range 40 {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			var err error
			func() {
				defer func() { _ = recover() }()
				err = db.Read(ctx, func(*sqldb.Reader) { panic("a bug in a derivation") })
			}()
			cancel()
			require.NoError(t, err, "reading %d", i)
		}
	})
}

// TestDeletedJob: a job that is deleted while its entry stays, which foreign keys
// forbid where they are checked, is missing in the next snapshot, too.
func TestDeletedJob(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillLab(t, db)
		f := &followed{db: db, scope: storetest.WholeLab, snapshots: db.Snapshots(storetest.WholeLab)}
		f.snapshots.RefreshRows(1 << 20)
		f.next(t, "nothing")
		e := f.last.Entries[3]
		conn, err := db.SQL().Conn(t.Context())
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close()) }()
		if store.HasTableTimes(db) {
			_, err = conn.ExecContext(t.Context(), "SET SESSION foreign_key_checks = 0")
		} else {
			_, err = conn.ExecContext(t.Context(), "PRAGMA foreign_keys = 0")
		}
		require.NoError(t, err)
		_, err = conn.ExecContext(t.Context(), fmt.Sprintf("DELETE FROM afe_jobs WHERE id = %d", e.Job))
		require.NoError(t, err)
		if store.HasTableTimes(db) {
			_, err = conn.ExecContext(t.Context(), "SET SESSION foreign_key_checks = 1")
			require.NoError(t, err)
		}
		f.next(t, "the job is deleted")
	})
}
