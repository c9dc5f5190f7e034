package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
	"github.com/hostsched/hostsched/store/sqldb"
)

// singleChanges are changes of every kind of row that a snapshot reads, each made
// alone. Each list is for a lab of its own and does not need the others. Entry 1 is
// active from the beginning, and entry 2 aborted while active.
var singleChanges = [][]string{{ // Hosts.
	"UPDATE afe_hosts SET locked = 1 WHERE id = 11",
	"UPDATE afe_hosts SET locked = 0 WHERE id = 11",
	"UPDATE afe_hosts SET leased = 1 WHERE id = 12",
	"UPDATE afe_hosts SET leased = 0 WHERE id = 12",
	"UPDATE afe_hosts SET invalid = 1 WHERE id = 13",
	"UPDATE afe_hosts SET dirty = 1 - dirty WHERE id = 13",
	"UPDATE afe_hosts SET status = 'Repairing' WHERE id = 14",
	"UPDATE afe_hosts SET status = NULL WHERE id = 14",
	"UPDATE afe_hosts SET protection = 4 WHERE id = 14",
	"UPDATE afe_hosts SET hostname = 'aaa' WHERE id = 30",
}, { // New hosts, and what belongs to a host.
	"INSERT INTO afe_hosts (id, hostname, status, locked, invalid, leased, dirty, protection) VALUES (901, 'new', 'Ready', 0, 0, 0, 0, 0)",
	"INSERT INTO afe_hosts_labels (host_id, label_id) VALUES (901, 1)",
	"DELETE FROM afe_hosts_labels WHERE host_id = 901",
	"INSERT INTO afe_acl_groups_hosts (host_id, aclgroup_id) VALUES (901, 1)",
	"DELETE FROM afe_acl_groups_hosts WHERE host_id = 901",
	"DELETE FROM afe_hosts WHERE id = 901",
}, { // Users and labels.
	"INSERT INTO afe_users (id, login, reboot_before, reboot_after) VALUES (91, 'mallory', 0, 0)",
	"INSERT INTO afe_acl_groups_users (user_id, aclgroup_id) VALUES (91, 1)",
	"DELETE FROM afe_acl_groups_users WHERE user_id = 91",
	"UPDATE afe_users SET login = 'trent' WHERE id = 91",
	"DELETE FROM afe_users WHERE id = 91",
	"INSERT INTO afe_labels (id, name, invalid, only_if_needed, platform) VALUES (911, 'unheard of', 0, 0, 0)",
	"UPDATE afe_labels SET name = 'heard of' WHERE id = 911",
}, { // Entries that are aborted, run, and end.
	"UPDATE afe_host_queue_entries SET aborted = 1 WHERE id = 5",
	"UPDATE afe_host_queue_entries SET aborted = 0 WHERE id = 5",
	"UPDATE afe_host_queue_entries SET active = 1, host_id = 15, status = 'Running' WHERE id = 6",
	"UPDATE afe_host_queue_entries SET active = 0, complete = 1, status = 'Completed' WHERE id = 6",
	"UPDATE afe_host_queue_entries SET active = 0, complete = 0, host_id = NULL, status = 'Queued' WHERE id = 6",
	"UPDATE afe_host_queue_entries SET host_id = 16 WHERE id = 1",                                 // an active entry changes its host
	"UPDATE afe_host_queue_entries SET active = 0 WHERE id = 2",                                   // aborted and active, now queued again
	"UPDATE afe_host_queue_entries SET active = 0, complete = 1, status = 'Aborted' WHERE id = 2", // and over
	"UPDATE afe_host_queue_entries SET active = 0, complete = 1, status = 'Failed' WHERE id = 1",
}, { // Entries that are new, change what they ask for, and go.
	"UPDATE afe_host_queue_entries SET host_id = 17 WHERE id = 7", // names a host now
	"UPDATE afe_host_queue_entries SET meta_host = 2 WHERE id = 8",
	"UPDATE afe_host_queue_entries SET meta_host = NULL WHERE id = 8", // hostless
	"INSERT INTO afe_host_queue_entries (" + simlab.EntryColumns + ") SELECT 902, 9, NULL, 1, 'Queued', 0, 0, 0, 0, '' FROM afe_users WHERE id = 1",
	"UPDATE afe_host_queue_entries SET active = 1, host_id = 18 WHERE id = 902",
	"DELETE FROM afe_host_queue_entries WHERE id = 902",
	"DELETE FROM afe_host_queue_entries WHERE id = 10",
}, { // Jobs: {job} is the job of entry 12.
	"UPDATE afe_jobs SET priority = 77 WHERE id = {job}",
	"UPDATE afe_jobs SET owner = 'carol' WHERE id = {job}",
	"UPDATE afe_jobs SET synch_count = 2 WHERE id = {job}",
	"UPDATE afe_jobs SET run_verify = 1 - run_verify WHERE id = {job}",
	"UPDATE afe_jobs SET run_reset = 1 - run_reset WHERE id = {job}",
	"UPDATE afe_jobs SET reboot_before = 2 WHERE id = {job}",
	"DELETE FROM afe_jobs_dependency_labels WHERE job_id = {job}",
	"INSERT INTO afe_jobs_dependency_labels (job_id, label_id) VALUES ({job}, 3)",
	"UPDATE afe_jobs SET parent_job_id = NULL WHERE id = {job}",
}, { // Holds: 1 is locked for good, 2 drains.
	"INSERT INTO hostsched_hosts (host_id, drain_since, drain_by, drain_reason) VALUES (31, 1, 'me', 'cable')",
	"UPDATE hostsched_hosts SET drain_reason = 'plug' WHERE host_id = 31",
	"UPDATE hostsched_hosts SET drain_abort = 1, drain_deadline = 99999999999999 WHERE host_id = 31",
	"UPDATE hostsched_hosts SET drain_deadline = 1 WHERE host_id = 31",
	"UPDATE hostsched_hosts SET drain_since = NULL WHERE host_id = 31",
	"UPDATE afe_hosts SET locked = 1, lock_time = '2020-02-03 04:05:06' WHERE id = 32",
	"INSERT INTO hostsched_hosts (host_id, lock_until, lock_time) VALUES (32, 99999999999999, '2020-02-03 04:05:06')",
	"UPDATE hostsched_hosts SET lock_until = 1 WHERE host_id = 32",
	"UPDATE afe_hosts SET lock_time = '2020-02-03 04:05:07' WHERE id = 32", // another lock
	"INSERT INTO hostsched_hosts (host_id, drain_since, drain_by, drain_abort, drain_deadline) VALUES (1, 1, 'me', 1, 1)",
	"UPDATE afe_host_queue_entries SET aborted = 1 WHERE id = 1",
}, { // Agents.
	"INSERT INTO hostsched_agents (name, created, created_by, session, seen) VALUES ('a1', 1, 'me', 's', 99999999999999)",
	"INSERT INTO hostsched_agent_hosts (host_id, agent_id) SELECT 33, id FROM hostsched_agents",
	"UPDATE hostsched_agents SET desired = 'drain', desired_by = 'me', desired_reason = 'power'",
	"INSERT INTO hostsched_agent_hosts (host_id, agent_id) SELECT 34, id FROM hostsched_agents",
	"UPDATE hostsched_agents SET desired_reason = 'more power'",
	"DELETE FROM hostsched_agent_hosts WHERE host_id = 33",
	"UPDATE hostsched_agents SET desired = 'run'",
	"UPDATE hostsched_agents SET unfit = 'the disk is full'",
}, { // Minimums of suites, and special tasks.
	"UPDATE afe_job_keyvals SET value = '9' WHERE `key` = 'suite_min_duts'",
	"DELETE FROM afe_job_keyvals WHERE `key` = 'suite_min_duts'",
	"INSERT INTO afe_special_tasks (" + simlab.TaskColumns + ") VALUES (19, 'Repair', NULL, 1, 0, 0, CURRENT_TIMESTAMP)",
	"UPDATE afe_special_tasks SET is_active = 1 WHERE host_id = 19",
	"UPDATE afe_special_tasks SET is_active = 0, is_complete = 1 WHERE host_id = 19",
}, { // Shards: 1 is a.
	"INSERT INTO afe_shards_labels (shard_id, label_id) VALUES (1, 1)",
	"UPDATE afe_hosts SET shard_id = 1 WHERE id = 20",
	"INSERT INTO hostsched_released_labels (label_id, shard_id) VALUES (2, 1)",
	"DELETE FROM hostsched_released_labels WHERE label_id = 2",
	"DELETE FROM afe_shards_labels WHERE label_id = 1",
	"UPDATE afe_hosts SET shard_id = NULL WHERE id = 20",
	"INSERT INTO afe_shards (id, hostname) VALUES (92, 'late')",
	"DELETE FROM afe_shards WHERE id = 92",
}}

// invisible are the changes of those that no snapshot shows.
var invisible = []string{
	"UPDATE afe_host_queue_entries SET active = 0, complete = 1, status = 'Aborted' WHERE id = 2",                         // it was not pending before
	"INSERT INTO hostsched_agents (name, created, created_by, session, seen) VALUES ('a1', 1, 'me', 's', 99999999999999)", // it takes everything
	"INSERT INTO hostsched_agent_hosts (host_id, agent_id) SELECT 33, id FROM hostsched_agents",
}

// quiet waits until a commit that comes now has another time than all before it.
func quiet(t *testing.T, db *store.DB) {
	t.Helper()
	if !store.HasTableTimes(db) {
		return
	}
	require.Eventually(t, func() (settled bool) {
		// As a snapshot reads: other connections to MySQL get times from a cache. The clock
		// that gives the times may be a few milliseconds behind at the turn of a second.
		require.NoError(t, db.Read(t.Context(), func(r *sqldb.Reader) {
			r.Rows("SELECT COALESCE(MAX(UNIX_TIMESTAMP(UPDATE_TIME)) + 1.05 <= UNIX_TIMESTAMP(NOW(3)), 1) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()", func(v sqldb.Row) {
				settled = v.Int(0).N == 1
			})
		}))
		return settled
	}, 10*time.Second, 10*time.Millisecond)
}

// followed is a Snapshots that is compared with first snapshots.
type followed struct {
	db        *store.DB
	scope     store.Scope
	snapshots *store.Snapshots
	last      scheduler.Snapshot
}

// next compares the next snapshot with one that knows of nothing before, and tells
// whether it differs from the last one.
func (f *followed) next(t *testing.T, after string) (changed bool) {
	t.Helper()
	warm, changed, err := f.snapshots.Next(t.Context())
	require.NoError(t, err, after)
	cold, err := f.db.Snapshot(t.Context(), f.scope)
	require.NoError(t, err, after)
	got := comparable(warm)
	require.Empty(t, gocmp.Diff(comparable(cold), got), "%+v, after %s", f.scope, after)
	require.True(t, changed || gocmp.Equal(f.last, got), "%+v, after %s: said to be the same", f.scope, after)
	f.last = got
	return changed
}

// changingLab is a lab that is changed in one way after the other, and the
// snapshots that follow.
type changingLab struct {
	db      *store.DB
	job     string
	follow  []*followed
	changes []string
}

func newChangingLab(t *testing.T, dsn string, changes []string) *changingLab {
	t.Helper()
	db := storetest.NewLab(t, dsn)
	storetest.RemoveGuard(t, db)
	_, err := simlab.Create(t.Context(), db.SQL(), simlab.Spec{Seed: 21, Hosts: 40, Boards: 3, Suites: 6, Entries: 60, MinimumShare: 0.1})
	require.NoError(t, err)
	require.NoError(t, admin.New(db).AddShard(t.Context(), "a", "", "me", ""))
	storetest.Exec(t, db, "UPDATE afe_host_queue_entries SET status = 'Running', active = 1, host_id = 1 WHERE id = 1")
	storetest.Exec(t, db, "UPDATE afe_host_queue_entries SET status = 'Queued', active = 1, aborted = 1, host_id = 3 WHERE id = 2")
	lab := &changingLab{db: db, changes: changes}
	lab.job = fmt.Sprint(storetest.Count(t, db, "SELECT job_id FROM afe_host_queue_entries WHERE id = 12"))
	for _, scope := range []store.Scope{storetest.WholeLab, storetest.SharedScope(shard.Master), storetest.SharedScope("a")} {
		scope.Agents = true
		f := &followed{db: db, scope: scope, snapshots: db.Snapshots(scope)}
		f.snapshots.RefreshRows(1 << 20)
		f.snapshots.TrustTimes()
		lab.follow = append(lab.follow, f)
	}
	return lab
}

// change makes the next change in a quiet lab, and compares the snapshots after it.
func (lab *changingLab) change(t *testing.T) {
	t.Helper()
	quiet(t, lab.db)
	for _, f := range lab.follow {
		f.next(t, "nothing")
	}
	text := strings.ReplaceAll(lab.changes[0], "{job}", lab.job)
	lab.changes = lab.changes[1:]
	require.NotZero(t, storetest.Exec(t, lab.db, text), "%s changes nothing", text)
	seen := false
	for _, f := range lab.follow {
		seen = f.next(t, text) || seen
	}
	require.True(t, seen || slices.Contains(invisible, text), "no snapshot is different after %s", text)
}

// TestSnapshotsSeeEveryChangeAlone makes one change at a time, when all tables have
// been quiet, so that a snapshot reads nothing but what this change makes it read.
// Several labs are changed in turn: when one has been quiet for long enough, the
// others have been, too.
func TestSnapshotsSeeEveryChangeAlone(t *testing.T) {
	for _, database := range storetest.Databases(t) {
		t.Run(database.Name, func(t *testing.T) {
			var labs []*changingLab
			for _, changes := range singleChanges {
				labs = append(labs, newChangingLab(t, database.DSN(t), changes))
			}
			for len(labs) > 0 {
				for _, lab := range labs {
					lab.change(t)
				}
				labs = slices.DeleteFunc(labs, func(lab *changingLab) bool { return len(lab.changes) == 0 })
			}
		})
	}
}

// TestEntriesOfALabelThatMovesHere: the entries that become a shard's with a label
// are planned with their jobs at once, although nobody wrote to the queue.
func TestEntriesOfALabelThatMovesHere(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillShardedLab(t, db)
		quiet(t, db)
		f := &followed{db: db, scope: storetest.SharedScope("a"), snapshots: db.Snapshots(storetest.SharedScope("a"))}
		f.snapshots.RefreshRows(0)
		f.snapshots.TrustTimes()
		f.next(t, "nothing")
		before := len(f.last.Entries)
		_, err := admin.New(db).AssignLabel(t.Context(), "board:b01", "a", "me", "")
		require.NoError(t, err)
		require.True(t, f.next(t, "a label moved here"))
		require.Greater(t, len(f.last.Entries), before)
		require.Empty(t, scheduler.MakePlan(&f.last).Problems)
		_, err = admin.New(db).AssignLabel(t.Context(), "board:b01", "b", "me", "")
		require.NoError(t, err)
		require.True(t, f.next(t, "a label moved away"))
		require.Len(t, f.last.Entries, before)
	})
}

// TestReadingsOfAQuietLab: a snapshot in which nothing changed reads the table
// times only, and derives nothing.
func TestReadingsOfAQuietLab(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillLab(t, db)
		snapshots := db.Snapshots(storetest.WholeLab)
		_, changed, err := snapshots.Next(t.Context())
		require.NoError(t, err)
		require.True(t, changed, "the first snapshot")
		require.Eventually(t, func() bool {
			_, changed, err := snapshots.Next(t.Context())
			require.NoError(t, err)
			return !changed
		}, 10*time.Second, 20*time.Millisecond, fmt.Sprint("a quiet lab on ", db.Server()))
	})
}
