package store_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
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
)

// nextFunc takes the next snapshot, and tells whether it differs from the last.
type nextFunc func() (*scheduler.Snapshot, bool, error)

// comparable brings a snapshot into a form in which equal ones are the same: in
// order, without the clock, and without jobs and minimums that no entry needs.
func comparable(s *scheduler.Snapshot) scheduler.Snapshot {
	c := scheduler.Snapshot{Rules: s.Rules, Basis: s.Basis, Labels: slices.Clone(s.Labels), ReplacedLabels: slices.Clone(s.ReplacedLabels), TaskHosts: slices.Clone(s.TaskHosts), Siblings: slices.Clone(s.Siblings)}
	slices.SortFunc(c.Labels, func(a, b scheduler.Label) int { return cmp.Compare(a.ID, b.ID) })
	slices.Sort(c.TaskHosts)
	c.Holds, c.Away = slices.Clone(s.Holds), slices.Clone(s.Away)
	slices.SortFunc(c.Siblings, func(a, b scheduler.Sibling) int { return cmp.Compare(a.ID, b.ID) })
	for _, h := range s.Hosts {
		h.Labels, h.ACLs = slices.Sorted(slices.Values(h.Labels)), slices.Sorted(slices.Values(h.ACLs))
		c.Hosts = append(c.Hosts, h)
	}
	slices.SortFunc(c.Hosts, func(a, b scheduler.Host) int { return cmp.Compare(a.ID, b.ID) })
	for _, u := range s.Users {
		u.ACLs = slices.Sorted(slices.Values(u.ACLs))
		c.Users = append(c.Users, u)
	}
	slices.SortFunc(c.Users, func(a, b scheduler.User) int { return cmp.Compare(a.ID, b.ID) })
	c.Entries = slices.SortedFunc(slices.Values(s.Entries), func(a, b scheduler.Entry) int { return cmp.Compare(a.ID, b.ID) })
	needed, suites := map[scheduler.JobID]bool{}, map[scheduler.JobID]bool{}
	for _, e := range c.Entries {
		needed[e.Job] = true
	}
	for _, j := range s.Jobs {
		if needed[j.ID] {
			j.Deps, j.Created = slices.Sorted(slices.Values(j.Deps)), 0
			c.Jobs = append(c.Jobs, j)
			suites[j.Parent] = true
		}
	}
	slices.SortFunc(c.Jobs, func(a, b scheduler.Job) int { return cmp.Compare(a.ID, b.ID) })
	for _, m := range s.Minimums {
		if suites[m.Suite] {
			c.Minimums = append(c.Minimums, m)
		}
	}
	c.Malformed = slices.SortedFunc(slices.Values(s.Malformed), func(a, b scheduler.Problem) int { return cmp.Compare(a.Text, b.Text) })
	return c
}

// foreignChanges are what other clients do to a lab; %d are random ids.
var foreignChanges = []string{
	"UPDATE afe_hosts SET locked = 1 - locked WHERE id = %[1]d",
	"UPDATE afe_hosts SET leased = 0 WHERE id = %[1]d",
	"UPDATE afe_hosts SET leased = 1 WHERE id = %[1]d",
	"UPDATE afe_hosts SET invalid = 1 - invalid, dirty = 1 - dirty WHERE id = %[1]d",
	"UPDATE afe_hosts SET status = 'Repair Failed', protection = 4 WHERE id = %[1]d",
	"UPDATE afe_hosts SET status = NULL, protection = 0 WHERE id = %[1]d",
	"UPDATE afe_hosts SET hostname = 'renamed%[3]d' WHERE id = %[1]d",
	"INSERT INTO afe_hosts (hostname, status, locked, invalid, leased, dirty, protection) VALUES ('new%[3]d', 'Ready', 0, 0, 0, 0, 0)",
	"DELETE FROM afe_hosts_labels WHERE host_id = %[1]d AND label_id = %[4]d",
	"INSERT INTO afe_hosts_labels (host_id, label_id) SELECT %[1]d, %[4]d FROM afe_labels l WHERE l.id = 1 AND NOT EXISTS (SELECT 1 FROM afe_hosts_labels x WHERE x.host_id = %[1]d AND x.label_id = %[4]d)",
	"DELETE FROM afe_acl_groups_hosts WHERE host_id = %[1]d",
	"DELETE FROM afe_acl_groups_users WHERE user_id = %[5]d AND aclgroup_id = 2",
	"INSERT INTO afe_labels (name, invalid, only_if_needed, platform) VALUES ('label%[3]d', 0, 0, 0)",
	"INSERT INTO afe_users (login, reboot_before, reboot_after) VALUES ('user%[3]d', 0, 0)",
	"UPDATE afe_host_queue_entries SET aborted = 1 WHERE id = %[2]d",
	"UPDATE afe_host_queue_entries SET aborted = 0 WHERE id = %[2]d",
	"UPDATE afe_host_queue_entries SET status = 'Completed', active = 0, complete = 1 WHERE id = %[2]d",
	"UPDATE afe_host_queue_entries SET status = 'Running', active = 1, complete = 0, host_id = COALESCE(host_id, (SELECT MIN(id) FROM afe_hosts)) WHERE id = %[2]d",
	"UPDATE afe_host_queue_entries SET status = 'Queued', active = 0, complete = 0, host_id = NULL WHERE id = %[2]d", // requeued
	"UPDATE afe_host_queue_entries SET host_id = %[1]d WHERE id = %[2]d AND active = 0",
	"UPDATE afe_host_queue_entries SET meta_host = NULL WHERE id = %[2]d AND active = 0",
	"UPDATE afe_host_queue_entries SET job_id = %[6]d WHERE id = %[2]d AND host_id IS NULL", // a job with several entries
	"INSERT INTO afe_special_tasks (" + simlab.TaskColumns + ") VALUES (%[1]d, 'Repair', NULL, 1, 0, 0, CURRENT_TIMESTAMP)",
	"UPDATE afe_special_tasks SET is_complete = 1 WHERE host_id = %[1]d",
	"UPDATE afe_special_tasks SET is_active = 1 WHERE host_id = %[1]d",
	"INSERT INTO afe_shards_labels (shard_id, label_id) SELECT s.id, %[4]d FROM afe_shards s WHERE s.hostname = 'a' AND NOT EXISTS (SELECT 1 FROM afe_shards_labels x WHERE x.label_id = %[4]d)",
	"DELETE FROM afe_shards_labels WHERE label_id = %[4]d",
	"UPDATE afe_job_keyvals SET value = '%[5]d' WHERE `key` = 'suite_min_duts'",
}

// jobChanges change a job in place: they are refreshed in rotation.
var jobChanges = []string{
	"UPDATE afe_jobs SET priority = priority + 1 WHERE id = %[6]d",
	"UPDATE afe_jobs SET owner = 'carol' WHERE id = %[6]d",
	"UPDATE afe_jobs SET parent_job_id = NULL WHERE id = %[6]d",
	"UPDATE afe_jobs SET synch_count = 2 WHERE id = %[6]d",
	"DELETE FROM afe_jobs_dependency_labels WHERE job_id = %[6]d",
	"INSERT INTO afe_jobs_dependency_labels (job_id, label_id) SELECT %[6]d, %[4]d FROM afe_jobs j WHERE j.id = %[6]d AND NOT EXISTS (SELECT 1 FROM afe_jobs_dependency_labels x WHERE x.job_id = %[6]d AND x.label_id = %[4]d)",
}

// otherClient is the other client.
type otherClient struct {
	db    *store.DB
	lab   *simlab.Lab
	rng   *rand.Rand
	fresh int
}

func newOtherClient(t *testing.T, db *store.DB, seed uint64) *otherClient {
	t.Helper()
	storetest.RemoveGuard(t, db) // it may change what it likes
	l, err := simlab.Create(t.Context(), db.SQL(), simlab.Spec{Seed: seed, Hosts: 40, Boards: 3, Suites: 6, Entries: 60, MinimumShare: 0.1})
	require.NoError(t, err)
	require.NoError(t, admin.New(db).AddShard(t.Context(), "a", "", "me", ""))
	return &otherClient{db: db, lab: l, rng: rand.New(rand.NewPCG(seed, 7))}
}

func (m *otherClient) change(t *testing.T, texts []string) string {
	t.Helper()
	m.fresh++
	text := texts[m.rng.IntN(len(texts))]
	text = fmt.Sprintf(text+"%[7]s", 1+m.rng.IntN(40), 1+m.rng.IntN(60), m.fresh, 1+m.rng.IntN(20), 1+m.rng.IntN(3), 1+m.rng.IntN(60), "")
	// (job, host) is unique: a change may be refused.
	if _, err := m.db.SQL().ExecContext(t.Context(), text); err != nil {
		return ""
	}
	return text
}

// follow changes a lab again and again, and compares every next snapshot with one
// that knows of nothing before.
func follow(t *testing.T, m *otherClient, rounds int, scope store.Scope, next nextFunc, between func(*scheduler.Snapshot)) error {
	var last *scheduler.Snapshot
	for round := range rounds {
		var done []string
		for range m.rng.IntN(4) {
			texts := foreignChanges
			if m.rng.IntN(4) == 0 {
				texts = jobChanges
			}
			done = append(done, m.change(t, texts))
		}
		if m.rng.IntN(4) == 0 {
			require.NoError(t, m.lab.AddSuite(t.Context(), m.db.SQL(), 3))
			done = append(done, "a new suite")
		}
		warm, changed, err := next()
		require.NoError(t, err)
		cold, err := m.db.Snapshot(t.Context(), scope)
		require.NoError(t, err)
		got := comparable(warm)
		if diff := gocmp.Diff(comparable(cold), got); diff != "" {
			return fmt.Errorf("round %d, after %q: the next snapshot is not what a first one would be: %s", round, done, diff)
		}
		if last != nil && !changed && !gocmp.Equal(*last, got) {
			return fmt.Errorf("round %d, after %q: the snapshot is said to be the same: %s", round, done, gocmp.Diff(*last, got))
		}
		last = &got
		if between != nil {
			between(warm)
		}
	}
	return nil
}

// TestSnapshotsFollowChanges: whatever others do, and whatever the leader does,
// the next snapshot is what a first one would be.
func TestSnapshotsFollowChanges(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		m := newOtherClient(t, db, 11)
		l := storetest.TakeOver(t, db, storetest.WholeLab, 1)
		recorder := scheduler.NewRecorder(nil)
		snapshots := db.Snapshots(storetest.WholeLab)
		snapshots.RefreshRows(1 << 20)
		next := func() (*scheduler.Snapshot, bool, error) { return snapshots.Next(t.Context()) }
		assigned := 0
		require.NoError(t, follow(t, m, 120, storetest.WholeLab, next, func(s *scheduler.Snapshot) {
			recorder.ForgetUnleased(s.Hosts)
			s.Recorder = recorder
			res, err := l.Apply(t.Context(), scheduler.MakePlan(s))
			require.NoError(t, err)
			recorder.Record(res.Applied)
			assigned += len(res.Applied.Assignments)
		}))
		require.Greater(t, assigned, 30)
	})
}

// TestBrokenSnapshotsAreFound: follow finds snapshots that miss something.
func TestBrokenSnapshotsAreFound(t *testing.T) {
	for name, breakIt := range map[string]func(*store.Snapshots, nextFunc) nextFunc{
		"table times stall": func(s *store.Snapshots, next nextFunc) nextFunc {
			s.StandStill()
			return next
		},
		"nothing is refreshed": func(s *store.Snapshots, next nextFunc) nextFunc {
			return func() (*scheduler.Snapshot, bool, error) {
				defer s.RefreshRows(0)
				return next()
			}
		},
		"always called the same": func(_ *store.Snapshots, next nextFunc) nextFunc {
			return func() (*scheduler.Snapshot, bool, error) {
				s, _, err := next()
				return s, false, err
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := storetest.NewServerLab(t)
			m := newOtherClient(t, db, 12)
			snapshots := db.Snapshots(storetest.WholeLab)
			snapshots.RefreshRows(1 << 20)
			next := breakIt(snapshots, func() (*scheduler.Snapshot, bool, error) { return snapshots.Next(t.Context()) })
			require.Error(t, follow(t, m, 120, storetest.WholeLab, next, nil))
		})
	}
}

// TestSnapshotsFollowShards: the same for several shards in one database, whose
// hosts, labels and entries change hands.
func TestSnapshotsFollowShards(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillShardedLab(t, db)
		rng := rand.New(rand.NewPCG(5, 5))
		names := []shard.Name{shard.Master, "a", "b"}
		all := map[shard.Name]*store.Snapshots{}
		for _, name := range names {
			all[name] = db.Snapshots(storetest.SharedScope(name))
			all[name].RefreshRows(1 << 20)
		}
		last := map[shard.Name]scheduler.Snapshot{}
		for round := range 40 {
			for _, name := range names {
				warm, changed, err := all[name].Next(t.Context())
				require.NoError(t, err)
				cold, err := db.Snapshot(t.Context(), storetest.SharedScope(name))
				require.NoError(t, err)
				got := comparable(warm)
				require.Empty(t, gocmp.Diff(comparable(cold), got), "shard %s", name)
				require.True(t, changed || gocmp.Equal(last[name], got), "shard %s", name)
				last[name] = got
			}
			if round%4 == 0 {
				shuffleShards(t, db, rng)
				continue
			}
			// Now one thing at a time.
			_, err := db.SQL().Exec([]string{
				"DELETE FROM afe_shards_labels WHERE label_id = ?", "DELETE FROM hostsched_released_labels WHERE label_id = ?", "UPDATE afe_hosts SET shard_id = 1 WHERE id = ?",
			}[round%4-1], 1+rng.IntN(20))
			require.NoError(t, err)
		}
	})
}

// TestRowsThatOneSnapshotRefreshes: what is changed in place is seen after two seconds, and
// in large queues later, because one snapshot refreshes a part of them only.
func TestRowsThatOneSnapshotRefreshes(t *testing.T) {
	for _, tt := range []struct {
		n, want int
		every   time.Duration
		within  time.Duration
	}{
		{n: 1, want: 1, every: 100 * time.Millisecond, within: 100 * time.Millisecond},
		{n: 100, want: 6, every: 100 * time.Millisecond, within: 2 * time.Second},
		{n: 1_200, want: 61, every: 100 * time.Millisecond, within: 2 * time.Second},
		{n: 1_200, want: 1201, every: 5 * time.Second, within: 5 * time.Second},
		{n: 20_000, want: 1001, every: 100 * time.Millisecond, within: 2 * time.Second},
		{n: 50_000, want: 1001, every: 100 * time.Millisecond, within: 5 * time.Second},
		{n: 50_000, want: 2000, every: time.Second, within: 25 * time.Second},
	} {
		rows := store.RefreshedRows(tt.every, tt.n)
		require.Equal(t, tt.want, rows, "%d rows, every %v", tt.n, tt.every)
		require.LessOrEqual(t, time.Duration((tt.n+rows-1)/rows)*tt.every, tt.within, "%d rows, every %v", tt.n, tt.every)
	}
}

// TestJobsAreRefreshedInRotation: a job that is changed in place is seen after as many
// snapshots as it takes to read all, and a quiet lab ends in snapshots that read
// next to nothing.
func TestJobsAreRefreshedInRotation(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		newOtherClient(t, db, 13)
		snapshots := db.Snapshots(storetest.WholeLab)
		snapshots.RefreshRows(10)
		next := func() (*scheduler.Snapshot, bool) {
			s, changed, err := snapshots.Next(t.Context())
			require.NoError(t, err)
			return s, changed
		}
		s, _ := next()
		turns := len(s.Entries)/10 + 1
		for _, job := range []scheduler.JobID{s.Jobs[0].ID, s.Jobs[len(s.Jobs)-1].ID} {
			_, err := db.SQL().Exec("UPDATE afe_jobs SET priority = 4711 WHERE id = ?", job)
			require.NoError(t, err)
			seen := 0
			for n := 1; seen == 0; n++ {
				require.LessOrEqual(t, n, turns)
				s, _ := next()
				if i := slices.IndexFunc(s.Jobs, func(j scheduler.Job) bool { return j.ID == job }); s.Jobs[i].Priority == 4711 {
					seen = n
				}
			}
		}
		for range turns {
			next()
		}
		_, changed := next()
		require.False(t, changed)
		if !store.HasTableTimes(db) {
			return
		}
		require.Eventually(t, func() bool {
			before := selects(t, db)
			next()
			return selects(t, db)-before <= 2 // the times with the fence, and this question
		}, 10*time.Second, 50*time.Millisecond, "a quiet lab costs one query")
	})
}

// selects is how many questions the test's server was asked.
func selects(t *testing.T, db *store.DB) (n int) {
	var name string
	require.NoError(t, db.SQL().QueryRow("SHOW GLOBAL STATUS LIKE 'Com_select'").Scan(&name, &n))
	return n
}

// TestSnapshotsAfterAnError: a snapshot that failed half-way leaves nothing
// behind that a later one would trust.
func TestSnapshotsAfterAnError(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		m := newOtherClient(t, db, 14)
		snapshots := db.Snapshots(storetest.WholeLab)
		snapshots.RefreshRows(1 << 20)
		_, _, err := snapshots.Next(t.Context())
		require.NoError(t, err)
		_, err = db.SQL().Exec("ALTER TABLE afe_jobs_dependency_labels RENAME TO away")
		require.NoError(t, err)
		m.change(t, foreignChanges[:1])
		_, err = db.SQL().Exec("INSERT INTO afe_host_queue_entries (" + simlab.EntryColumns + ") VALUES (9001, 3, NULL, 1, 'Queued', 0, 0, 0, 0, '')")
		require.NoError(t, err)
		_, _, err = snapshots.Next(t.Context())
		require.Error(t, err)
		_, err = db.SQL().Exec("ALTER TABLE away RENAME TO afe_jobs_dependency_labels")
		require.NoError(t, err)
		require.NoError(t, follow(t, m, 5, storetest.WholeLab, func() (*scheduler.Snapshot, bool, error) { return snapshots.Next(t.Context()) }, nil))
	})
}

// TestSnapshotsAfterQuietTime: once the tables have settled, so that they are not
// read any more, the first commit shows in the very next snapshot, and so does
// the next one in the same second.
func TestSnapshotsAfterQuietTime(t *testing.T) {
	db := storetest.NewServerLab(t)
	newOtherClient(t, db, 15)
	snapshots := db.Snapshots(storetest.WholeLab)
	next := func() *scheduler.Snapshot {
		s, _, err := snapshots.Next(t.Context())
		require.NoError(t, err)
		return s
	}
	sees := func(text string, seen func(*scheduler.Snapshot) bool) {
		t.Helper()
		_, err := db.SQL().Exec(text)
		require.NoError(t, err)
		require.True(t, seen(next()), "not seen: %s", text)
	}
	for round := range 3 {
		require.Eventually(t, func() bool {
			before := selects(t, db)
			next()
			return selects(t, db)-before <= 3
		}, 10*time.Second, 20*time.Millisecond)
		for again := range 3 {
			name := fmt.Sprintf("quiet%d.%d", round, again)
			sees(fmt.Sprintf("INSERT INTO afe_labels (name, invalid, only_if_needed, platform) VALUES ('%s', 0, 0, 0)", name), func(s *scheduler.Snapshot) bool {
				return slices.ContainsFunc(s.Labels, func(l scheduler.Label) bool { return l.Name == name })
			})
			sees(fmt.Sprintf("UPDATE afe_hosts SET hostname = '%s' WHERE id = 7", name), func(s *scheduler.Snapshot) bool {
				return slices.ContainsFunc(s.Hosts, func(h scheduler.Host) bool { return h.Hostname == name })
			})
			sees(fmt.Sprintf("UPDATE afe_users SET login = '%s' WHERE id = 2", name), func(s *scheduler.Snapshot) bool {
				return slices.ContainsFunc(s.Users, func(u scheduler.User) bool { return u.Login == name })
			})
			sees(fmt.Sprintf("UPDATE afe_host_queue_entries SET aborted = %d WHERE id = 9", 1-again%2), func(s *scheduler.Snapshot) bool {
				return slices.ContainsFunc(s.Entries, func(e scheduler.Entry) bool { return e.ID == 9 }) == (again%2 == 1)
			})
		}
	}
}
