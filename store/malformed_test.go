package store_test

import (
	"encoding/csv"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/schema"
)

// autotestModes are the databases that Autotest labs have: old and new character
// sets, with and without strictness.
var autotestModes = []struct{ charset, sqlMode string }{
	{"latin1", ""},
	{"latin1", "STRICT_TRANS_TABLES"},
	{"utf8mb4", ""},
	{"utf8mb4", "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,ONLY_FULL_GROUP_BY"},
}

func onWildDatabases(t *testing.T, test func(t *testing.T, db *store.DB)) {
	for _, mode := range autotestModes {
		t.Run(mode.charset+"/"+strings.ReplaceAll(mode.sqlMode, ",", "+"), func(t *testing.T) {
			dsn := testserver.Database(t) + "?sql_mode=%27" + mode.sqlMode + "%27"
			db := storetest.Open(t, dsn)
			createAFE(t, db, mode.charset)
			st, err := schema.Up(t.Context(), db.DB, schema.Options{})
			require.NoError(t, err)
			require.Equal(t, "autotest", st.Lab)
			require.False(t, st.Guard)
			require.NoError(t, schema.Check(t.Context(), db.DB, schema.Use{StaticLabels: true, Shared: true}))
			test(t, db)
		})
	}
}

func readCSV(t *testing.T, name string) [][]string {
	t.Helper()
	f, err := os.Open("../testdata/afe_schema/" + name)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	rows, err := csv.NewReader(f).ReadAll()
	require.NoError(t, err)
	return rows[1:]
}

// createAFE makes Autotest's own tables, as recorded from Autotest, without our
// migration.
func createAFE(t *testing.T, db *store.DB, charset string) {
	t.Helper()
	definitions := map[string][]string{}
	var order []string
	for _, r := range readCSV(t, "columns.csv") {
		table, column, kind, null, def, extra := r[0], r[1], r[2], r[3], r[4], r[5]
		if definitions[table] == nil {
			order = append(order, table)
		}
		text := "`" + column + "` " + kind
		if null == "no" {
			text += " NOT NULL"
		} else {
			text += " NULL"
		}
		if def != "" && !strings.HasPrefix(kind, "text") {
			text += " DEFAULT " + def
		}
		definitions[table] = append(definitions[table], text+" "+extra)
	}
	for _, r := range readCSV(t, "keys.csv") {
		key := r[1]
		if charset == "utf8mb4" {
			// As a lab that was converted has it: a key of 767 bytes at most.
			key = strings.Replace(key, "UNIQUE KEY name (name)", "UNIQUE KEY name (name(190))", 1)
		}
		key = strings.ReplaceAll(key, "(key)", "(`key`)")
		definitions[r[0]] = append(definitions[r[0]], key)
	}
	conn, err := db.SQL().Conn(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	exec := func(text string) {
		_, err := conn.ExecContext(t.Context(), text)
		require.NoError(t, err, text)
	}
	exec("SET SESSION foreign_key_checks = 0")
	for _, table := range order {
		exec("CREATE TABLE " + table + " (" + strings.Join(definitions[table], ", ") + ") ENGINE=InnoDB DEFAULT CHARSET=" + charset)
	}
	exec("SET SESSION foreign_key_checks = 1")
}

// TestGoldenOnAutotestsTables plays the small scenarios on Autotest's own tables.
func TestGoldenOnAutotestsTables(t *testing.T) {
	scenarios, err := storetest.ReadFolder(goldenDir())
	require.NoError(t, err)
	onWildDatabases(t, func(t *testing.T, db *store.DB) {
		for _, sc := range scenarios {
			if sc.Kind != "small" {
				continue
			}
			t.Run(sc.Name, func(t *testing.T) {
				emptyAFE(t, db)
				playOn(t, db, sc)
			})
		}
	})
}

// emptyAFE deletes all rows and begins a new life of the fence.
func emptyAFE(t *testing.T, db *store.DB) {
	t.Helper()
	for _, table := range []string{
		"afe_special_tasks", "afe_ineligible_host_queues", "afe_host_queue_entries", "afe_job_keyvals", "afe_jobs_dependency_labels", "afe_jobs",
		"afe_static_hosts_labels", "afe_hosts_labels", "afe_acl_groups_hosts", "afe_hosts", "afe_shards_labels", "afe_shards", "afe_replaced_labels",
		"afe_static_labels", "afe_labels", "afe_acl_groups_users", "afe_acl_groups", "afe_users", "hostsched_fence",
	} {
		_, err := db.SQL().Exec("DELETE FROM " + table)
		require.NoError(t, err, table)
	}
}

// TestMalformedRows: NULL wherever the schema allows it, zero dates, rows that lead
// nowhere. Nothing fails, and sound entries are served.
func TestMalformedRows(t *testing.T) {
	onWildDatabases(t, func(t *testing.T, db *store.DB) {
		spoil(t, db)
		requireSoundEntriesServed(t, db)
	})
}

// spoil fills a lab with rows that only a careless history explains. Foreign
// keys are off, as they were for years in some labs.
func spoil(t *testing.T, db *store.DB) {
	t.Helper()
	storetest.FillLab(t, db)
	conn, err := db.SQL().Conn(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	texts := []string{
		"INSERT INTO afe_users (id, login, reboot_before, reboot_after) VALUES (90, NULL, 0, 0)",
		"INSERT INTO afe_acl_groups_users (aclgroup_id, user_id) VALUES (NULL, 1)",
		"INSERT INTO afe_acl_groups_users (aclgroup_id, user_id) VALUES (1, NULL)",
		"INSERT INTO afe_acl_groups_hosts (aclgroup_id, host_id) VALUES (NULL, 10)",
		"INSERT INTO afe_acl_groups_hosts (aclgroup_id, host_id) VALUES (777, 777)",
		"INSERT INTO afe_hosts_labels (host_id, label_id) VALUES (NULL, 1)",
		"INSERT INTO afe_hosts_labels (host_id, label_id) VALUES (11, NULL)",
		"INSERT INTO afe_hosts_labels (host_id, label_id) VALUES (777, 888)",
		"INSERT INTO afe_labels (id, name, invalid, only_if_needed, platform) VALUES (900, NULL, 0, 0, NULL)",
		"INSERT INTO afe_hosts (id, hostname, status, locked, invalid, protection, dirty, leased, shard_id) VALUES (900, NULL, NULL, NULL, NULL, 0, 0, 0, NULL)",
		"INSERT INTO afe_hosts (id, hostname, status, locked, invalid, protection, dirty, leased, shard_id) VALUES (901, 'odd', 'Ready', 0, 0, 99, 2, 1, 777)",
		"UPDATE afe_jobs SET priority = NULL, name = NULL, created_on = NULL, run_verify = NULL WHERE id = 5",
		"UPDATE afe_jobs SET owner = NULL WHERE id = 6",
		"UPDATE afe_jobs SET parent_job_id = id WHERE id = 7", // its own suite
		"UPDATE afe_jobs SET reboot_before = 42, synch_count = -3 WHERE id = 8",
		"UPDATE afe_jobs SET parent_job_id = 12345 WHERE id = 9",
		"INSERT INTO afe_jobs_dependency_labels (job_id, label_id) VALUES (10, 12345)",
		"INSERT INTO afe_job_keyvals (job_id, `key`, value) VALUES (16, 'suite_min_duts', '')",
		"UPDATE afe_host_queue_entries SET job_id = NULL WHERE id = 9",
		"UPDATE afe_host_queue_entries SET job_id = 12345 WHERE id = 10",
		"UPDATE afe_host_queue_entries SET host_id = 12345 WHERE id = 11",
		"UPDATE afe_host_queue_entries SET meta_host = 12345 WHERE id = 12",
		"UPDATE afe_host_queue_entries SET active = NULL WHERE id = 13",
		"UPDATE afe_host_queue_entries SET status = NULL WHERE id = 14",
		"UPDATE afe_host_queue_entries SET complete = NULL WHERE id = 15",
		"INSERT INTO afe_special_tasks (" + simlab.TaskColumns + ") VALUES (12345, 'Verify', NULL, 1, 0, 0, CURRENT_TIMESTAMP)",
	}
	if !strings.HasPrefix(db.Server(), "SQLite") {
		texts = append([]string{"SET SESSION foreign_key_checks = 0, sql_mode = ''"}, texts...)
		texts = append(texts, "UPDATE afe_jobs SET created_on = '0000-00-00 00:00:00' WHERE id = 11", "UPDATE afe_jobs SET owner = 'ALICE' WHERE owner = 'alice'")
	}
	for _, text := range texts {
		_, err := conn.ExecContext(t.Context(), text)
		require.NoError(t, err, text)
	}
}

// requireSoundEntriesServed ticks until nothing is left to do: every malformed
// entry is reported, the others are served.
func requireSoundEntriesServed(t *testing.T, db *store.DB) {
	t.Helper()
	l := storetest.TakeOver(t, db, storetest.WholeLab, 1)
	recorder, err := db.Recorder(t.Context(), storetest.WholeLab)
	require.NoError(t, err)
	assigned := 0
	problems := map[scheduler.EntryID]bool{}
	for range 6 {
		s, err := db.Snapshot(t.Context(), storetest.WholeLab)
		require.NoError(t, err)
		recorder.ForgetUnleased(s.Hosts)
		s.Recorder = recorder
		plan := scheduler.MakePlan(s)
		for _, p := range plan.Problems {
			problems[p.Entry] = true
		}
		res, err := l.Apply(t.Context(), plan)
		require.NoError(t, err)
		require.Empty(t, res.Conflicts)
		recorder.Record(res.Applied)
		assigned += len(res.Applied.Assignments)
	}
	require.GreaterOrEqual(t, assigned, 15)
	for _, entry := range []scheduler.EntryID{9, 10, 11} {
		require.True(t, problems[entry], "entry %d is reported", entry)
	}
	require.Empty(t, storetest.FullPlan(t, db).Assignments)
}

// TestMalformedRowsOnSQLite: SQLite keeps whatever it is given, also text in
// integer columns.
func TestMalformedRowsOnSQLite(t *testing.T) {
	db := storetest.NewLab(t, storetest.SQLiteFile(t))
	spoil(t, db)
	for _, text := range []string{
		"UPDATE afe_jobs SET priority = 'urgent' WHERE id = 13",
		"UPDATE afe_jobs SET parent_job_id = 'suite' WHERE id = 14",
		"UPDATE afe_hosts SET dirty = 'very', protection = 'some' WHERE id = 20",
		"UPDATE afe_hosts SET locked = 'maybe' WHERE id = 21",
		"INSERT INTO afe_hosts_labels (host_id, label_id) VALUES ('x', 'y')",
		"INSERT INTO afe_acl_groups_users (aclgroup_id, user_id) VALUES ('x', 'y')",
		"INSERT INTO afe_jobs_dependency_labels (job_id, label_id) VALUES (15, 'wifi')",
		"UPDATE afe_host_queue_entries SET meta_host = 'board' WHERE id = 20",
	} {
		_, err := db.SQL().Exec(text)
		require.NoError(t, err, text)
	}
	requireSoundEntriesServed(t, db)
}

// TestBesideAnotherClient schedules while another client locks hosts, aborts
// entries and adds jobs on the same tables. Nothing fails, and no host has two
// owners.
func TestBesideAnotherClient(t *testing.T) {
	onWildDatabases(t, func(t *testing.T, db *store.DB) {
		l := newBusyLab(t, db)
		history, err := simlab.InstallHistory(t.Context(), db.SQL(), false)
		require.NoError(t, err)
		simulator := simlab.NewSimulator(db.SQL(), l, simlab.Simulation{Step: 5 * time.Millisecond, TaskMax: 20 * time.Millisecond, JobMax: 30 * time.Millisecond, Queue: 100, SuiteSize: 10, FrontendTasks: 0.5})
		leader := storetest.TakeOver(t, db, storetest.WholeLab, 1)
		const ticks = 60
		done := make(chan struct{})
		var g errgroup.Group
		g.Go(func() error {
			defer close(done)
			recorder := scheduler.NewRecorder(nil)
			// The other client may be so fast that it aborts all entries of the first
			// suites before they have a host.
			for n, assigned := 0, 0; n < ticks || assigned == 0; n++ {
				s, err := db.Snapshot(t.Context(), storetest.WholeLab)
				if err != nil {
					return err
				}
				s.Recorder = recorder
				res, err := leader.Apply(t.Context(), scheduler.MakePlan(s))
				if err != nil {
					return err
				}
				recorder.Record(res.Applied)
				assigned += len(res.Applied.Assignments)
			}
			return nil
		})
		g.Go(func() error { return disturb(t, db, simulator, done) })
		require.NoError(t, g.Wait())
		twice, err := history.AssignedTwice(t.Context(), 0)
		require.NoError(t, err)
		require.Zero(t, twice)
		counts, err := history.Count(t.Context(), simlab.Counts{})
		require.NoError(t, err)
		require.Positive(t, counts.Assignments)
	})
}

func newBusyLab(t *testing.T, db *store.DB) *simlab.Lab {
	t.Helper()
	l, err := simlab.Create(t.Context(), db.SQL(), simlab.Spec{Seed: 3, Hosts: 60, Boards: 3, Suites: 6, Entries: 100})
	require.NoError(t, err)
	return l
}

// disturb is the other client: it also reads with SELECT *.
func disturb(t *testing.T, db *store.DB, simulator *simlab.Simulator, done chan struct{}) error {
	for i := 0; ; i++ {
		select {
		case <-done:
			return nil
		default:
		}
		host := 1 + i%60
		for _, text := range []string{
			fmt.Sprintf("UPDATE afe_hosts SET locked = 1 WHERE id = %d", host),
			fmt.Sprintf("UPDATE afe_host_queue_entries SET aborted = 1 WHERE id = %d AND active = 0", 1+i*7%100),
			fmt.Sprintf("UPDATE afe_hosts SET locked = 0 WHERE id = %d", host),
		} {
			if _, err := db.SQL().ExecContext(t.Context(), text); err != nil && !simlab.Collision(err) {
				return err
			}
		}
		if err := simulator.Step(t.Context()); err != nil && !simlab.Collision(err) {
			return err
		}
	}
}
