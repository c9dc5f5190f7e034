package store_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store"
)

// held is a lab with a leader and a host that an active entry uses, 1.
func held(t *testing.T, db *store.DB) *store.Leader {
	t.Helper()
	storetest.FillLab(t, db)
	storetest.Exec(t, db, "UPDATE afe_hosts SET leased = 0, locked = 0, dirty = 0, status = 'Ready'")
	storetest.Exec(t, db, "UPDATE afe_special_tasks SET is_complete = 1")
	storetest.Exec(t, db, "UPDATE afe_host_queue_entries SET status = 'Completed', complete = 1 WHERE id > 1")
	storetest.Exec(t, db, "UPDATE afe_host_queue_entries SET status = 'Running', active = 1, host_id = 1 WHERE id = 1")
	storetest.Exec(t, db, "UPDATE afe_hosts SET leased = 1 WHERE id = 1")
	l, err := db.TakeOver(t.Context(), store.Claim{Shard: "master", Token: 10, Cluster: "test", Holder: "leader"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

func tick(t *testing.T, db *store.DB, l *store.Leader) scheduler.Plan {
	t.Helper()
	res, err := l.Apply(t.Context(), storetest.FullPlan(t, db))
	require.NoError(t, err)
	return res.Applied
}

// lockOf is what afe_hosts says of the lock of a host.
func lockOf(t *testing.T, db *store.DB, host int) (locked bool, by, reason string) {
	t.Helper()
	require.NoError(t, db.SQL().QueryRowContext(t.Context(), "SELECT h.locked, COALESCE(u.login, ''), COALESCE(h.lock_reason, '') FROM afe_hosts h LEFT JOIN afe_users u ON u.id = h.locked_by_id WHERE h.id = ?", host).Scan(&locked, &by, &reason))
	return locked, by, reason
}

func drain(t *testing.T, db *store.DB, host int, reason, more string) {
	t.Helper()
	storetest.Exec(t, db, "INSERT INTO hostsched_hosts (host_id, drain_since, drain_by, drain_reason) VALUES (?, 1, 'alice', ?)", host, reason)
	if more != "" {
		storetest.Exec(t, db, "UPDATE hostsched_hosts SET "+more+" WHERE host_id = ?", host)
	}
}

func drains(t *testing.T, db *store.DB) int {
	t.Helper()
	return storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_hosts WHERE drain_since IS NOT NULL")
}

// TestDrainBecomesALock when nobody uses the host any more, once, and not before.
func TestDrainBecomesALock(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		l := held(t, db)
		drain(t, db, 1, "new 'cable' \\", "drain_deadline = 1")
		require.True(t, tick(t, db, l).Empty(), "without abort it stays")
		storetest.Exec(t, db, "UPDATE afe_host_queue_entries SET status = 'Completed', active = 0, complete = 1 WHERE id = 1")
		plan := tick(t, db, l)
		require.Len(t, plan.Releases, 1)
		require.Len(t, plan.Drained, 1)
		locked, by, reason := lockOf(t, db, 1)
		require.True(t, locked)
		require.Equal(t, "alice", by)
		require.Equal(t, "new 'cable' \\", reason)
		require.Zero(t, drains(t, db))
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_hosts WHERE id = 1 AND leased = 0 AND dirty = 1 AND lock_time IS NOT NULL"))
		require.Len(t, journal(t, db, "host.drained"), 1)
		require.Equal(t, []store.Event{{Kind: "host.locked", Shard: "master", Host: 1, Who: "alice", Subject: "b01-rack0-host1", Reason: "new 'cable' \\"}}, journal(t, db, "host.locked"))
		require.True(t, tick(t, db, l).Empty(), "once")
		storetest.Exec(t, db, "UPDATE afe_hosts SET locked = 0 WHERE id = 1")
		require.True(t, tick(t, db, l).Empty(), "once")
	})
}

// TestDrainWaitsForAnotherLock: a person's lock is neither overwritten nor ended.
func TestDrainWaitsForAnotherLock(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		l := held(t, db)
		drain(t, db, 2, "cable", "")
		storetest.Exec(t, db, "UPDATE afe_hosts SET locked = 1, lock_reason = 'mine' WHERE id = 2")
		require.True(t, tick(t, db, l).Empty())
		_, _, reason := lockOf(t, db, 2)
		require.Equal(t, "mine", reason)
		require.Equal(t, 1, drains(t, db))
		storetest.Exec(t, db, "UPDATE afe_hosts SET locked = 0, lock_reason = '' WHERE id = 2")
		require.Len(t, tick(t, db, l).Drained, 1)
	})
}

// TestDrainsThatAreNotObvious: hosts whose repair failed stay leased, tasks that wait for a
// lease use nothing, users may be gone, and reasons may be what no column of Autotest's takes.
func TestDrainsThatAreNotObvious(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		l := held(t, db)
		if store.HasTableTimes(db) {
			storetest.Exec(t, db, "ALTER TABLE afe_hosts MODIFY lock_reason TEXT CHARACTER SET latin1")
		}
		odd := strings.Repeat("ü", 490) + "🔧"
		drain(t, db, 5, odd, "")
		drain(t, db, 3, "cable", "")
		drain(t, db, 4, "cable", "drain_by = 'nobody 🔧'")
		storetest.Exec(t, db, "UPDATE afe_hosts SET leased = 1, status = 'Repair failed' WHERE id = 3")
		storetest.Exec(t, db, "INSERT INTO afe_special_tasks (host_id, task, requested_by_id, is_active, is_complete, success, is_aborted, time_requested) VALUES (4, 'Verify', 1, 0, 0, 0, 0, CURRENT_TIMESTAMP)")
		if !store.HasTableTimes(db) {
			storetest.Exec(t, db, "UPDATE afe_hosts SET status = 'Repair Failed' WHERE id = 3")
		}
		require.Len(t, tick(t, db, l).Drained, 3)
		require.Zero(t, drains(t, db))
		_, by, _ := lockOf(t, db, 4)
		require.Empty(t, by)
		_, _, reason := lockOf(t, db, 5)
		require.Contains(t, []string{odd, "drained; the journal says why"}, reason)
		require.Equal(t, odd, journal(t, db, "host.locked")[2].Reason)
	})
}

// TestDeadlineOfADrain: what still uses the host is aborted in the name of who drains it,
// once, if that person wanted so.
func TestDeadlineOfADrain(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		l := held(t, db)
		drain(t, db, 1, "cable", "drain_abort = 1, drain_deadline = 99999999999999")
		require.True(t, tick(t, db, l).Empty(), "not yet")
		plan := storetest.FullPlan(t, db)
		storetest.Exec(t, db, "UPDATE hostsched_hosts SET drain_deadline = 1 WHERE host_id = 1")
		require.True(t, plan.Empty())
		require.Len(t, tick(t, db, l).Aborts, 1)
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries WHERE aborted = 1 AND active = 1 AND id = 1"))
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_aborted_host_queue_entries a JOIN afe_users u ON u.id = a.aborted_by_id WHERE a.queue_entry_id = 1 AND u.login = 'alice'"))
		aborted := journal(t, db, "entry.aborted")
		require.Len(t, aborted, 1)
		require.EqualValues(t, 1, aborted[0].Entry)
		require.True(t, tick(t, db, l).Empty(), "once")
		require.Equal(t, 1, drains(t, db))
	})
}

// TestEndOfALock: the leader ends a lock when its time is over, and no other lock.
func TestEndOfALock(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		l := held(t, db)
		for _, host := range []int{2, 3, 4, 5} {
			storetest.Exec(t, db, "UPDATE afe_hosts SET locked = 1, lock_reason = 'x', locked_by_id = 1, lock_time = '2020-02-03 04:05:06' WHERE id = ?", host)
			storetest.Exec(t, db, "INSERT INTO hostsched_hosts (host_id, lock_until, lock_time, locked_by_id) VALUES (?, 1, '2020-02-03 04:05:06', 1)", host)
		}
		storetest.Exec(t, db, "UPDATE hostsched_hosts SET lock_until = 99999999999999 WHERE host_id = 3")
		storetest.Exec(t, db, "UPDATE afe_hosts SET locked_by_id = 2 WHERE id = 4")                  // of another person
		storetest.Exec(t, db, "UPDATE afe_hosts SET lock_time = '2020-02-03 04:05:07' WHERE id = 5") // at another time
		plan := tick(t, db, l)
		require.Equal(t, []scheduler.Unlock{{Host: 2, Hostname: plan.Unlocks[0].Hostname}}, plan.Unlocks)
		require.Equal(t, 3, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_hosts WHERE locked = 1"))
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_hosts WHERE id = 2 AND locked = 0 AND locked_by_id IS NULL AND lock_time IS NULL AND lock_reason = ''"))
		require.Len(t, journal(t, db, "host.unlocked"), 1)
		require.True(t, tick(t, db, l).Empty(), "once")
	})
}

// TestHoldsThatPeopleChangeMeanwhile: what a plan does to a hold is checked again.
func TestHoldsThatPeopleChangeMeanwhile(t *testing.T) {
	for name, c := range map[string]struct{ before, meanwhile []string }{
		"ended drain": {
			[]string{"INSERT INTO hostsched_hosts (host_id, drain_since, drain_by) VALUES (2, 1, 'alice')"},
			[]string{"UPDATE hostsched_hosts SET drain_since = NULL WHERE host_id = 2"},
		},
		"drained host that somebody uses": {
			[]string{"INSERT INTO hostsched_hosts (host_id, drain_since, drain_by) VALUES (2, 1, 'alice')"},
			[]string{"UPDATE afe_hosts SET leased = 1 WHERE id = 2"},
		},
		"another lock": {
			[]string{"UPDATE afe_hosts SET locked = 1, lock_time = '2020-02-03 04:05:06' WHERE id = 2", "INSERT INTO hostsched_hosts (host_id, lock_until, lock_time) VALUES (2, 1, '2020-02-03 04:05:06')"},
			[]string{"UPDATE afe_hosts SET lock_time = '2020-02-03 04:05:07' WHERE id = 2"},
		},
		"longer lock": {
			[]string{"UPDATE afe_hosts SET locked = 1, lock_time = '2020-02-03 04:05:06' WHERE id = 2", "INSERT INTO hostsched_hosts (host_id, lock_until, lock_time) VALUES (2, 1, '2020-02-03 04:05:06')"},
			[]string{"UPDATE hostsched_hosts SET lock_until = 99999999999999"},
		},
		"later deadline": {
			[]string{"INSERT INTO hostsched_hosts (host_id, drain_since, drain_by, drain_abort, drain_deadline) VALUES (1, 1, 'alice', 1, 1)"},
			[]string{"UPDATE hostsched_hosts SET drain_deadline = 99999999999999"},
		},
		"deadline without abort": {
			[]string{"INSERT INTO hostsched_hosts (host_id, drain_since, drain_by, drain_abort, drain_deadline) VALUES (1, 1, 'alice', 1, 1)"},
			[]string{"UPDATE hostsched_hosts SET drain_abort = 0"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
				l := held(t, db)
				for _, text := range c.before {
					storetest.Exec(t, db, text)
				}
				plan := storetest.FullPlan(t, db)
				require.Equal(t, 1, len(plan.Unlocks)+len(plan.Drained)+len(plan.Aborts))
				for _, text := range c.meanwhile {
					storetest.Exec(t, db, text)
				}
				before := storetest.Dump(t, db)
				res, err := l.Apply(t.Context(), plan)
				require.NoError(t, err)
				require.True(t, res.Applied.Empty())
				require.Equal(t, before, storetest.Dump(t, db))
				require.Zero(t, storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_events"))
			})
		})
	}
}

// TestHostThatDrainsMeanwhile is not given out any more.
func TestHostThatDrainsMeanwhile(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillLab(t, db)
		l := storetest.TakeOver(t, db, storetest.WholeLab, 10)
		plan := storetest.FullPlan(t, db)
		require.NotEmpty(t, plan.Assignments)
		drain(t, db, int(plan.Assignments[0].Host), "cable", "")
		res, err := l.Apply(t.Context(), plan)
		require.NoError(t, err)
		require.Equal(t, []scheduler.EntryID{plan.Assignments[0].Entry}, res.Conflicts)
		for _, a := range storetest.FullPlan(t, db).Assignments {
			require.NotEqual(t, plan.Assignments[0].Host, a.Host)
		}
	})
}

// TestBadHostIsNotGivenOut: what has it may finish, nobody new gets it, and it becomes no lock.
func TestBadHostIsNotGivenOut(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		l := held(t, db)
		storetest.Exec(t, db, "INSERT INTO hostsched_host_epochs (host_id, bad_since, bad_reason) VALUES (1, 1, 'three lost runs'), (2, 1, 'three failed repairs')")
		require.True(t, tick(t, db, l).Empty())
		storetest.Exec(t, db, "UPDATE afe_host_queue_entries SET status = 'Completed', active = 0, complete = 1 WHERE id = 1")
		plan := tick(t, db, l)
		require.Len(t, plan.Releases, 1, "it is given back")
		require.Empty(t, plan.Drained)
		locked, _, _ := lockOf(t, db, 1)
		require.False(t, locked)
		storetest.Exec(t, db, "INSERT INTO afe_special_tasks (host_id, task, requested_by_id, is_active, is_complete, success, is_aborted, time_requested) VALUES (2, 'Verify', 1, 0, 0, 0, 0, CURRENT_TIMESTAMP)")
		require.True(t, tick(t, db, l).Empty(), "nobody gets it")
		storetest.Exec(t, db, "UPDATE hostsched_host_epochs SET bad_since = NULL")
		require.Len(t, tick(t, db, l).Leases, 1)
	})
}
