package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store"
)

// fuzzColumns are the columns that a snapshot reads, each a place for nonsense.
var fuzzColumns = strings.Fields(`
afe_hosts.hostname afe_hosts.status afe_hosts.locked afe_hosts.invalid afe_hosts.leased afe_hosts.dirty afe_hosts.protection afe_hosts.shard_id
afe_jobs.owner afe_jobs.priority afe_jobs.parent_job_id afe_jobs.synch_count afe_jobs.run_verify afe_jobs.run_reset afe_jobs.reboot_before afe_jobs.created_on
afe_host_queue_entries.job_id afe_host_queue_entries.host_id afe_host_queue_entries.meta_host afe_host_queue_entries.status
afe_host_queue_entries.active afe_host_queue_entries.complete afe_host_queue_entries.aborted afe_host_queue_entries.execution_subdir
afe_job_keyvals.value afe_job_keyvals.job_id afe_jobs_dependency_labels.label_id afe_jobs_dependency_labels.job_id
afe_hosts_labels.host_id afe_hosts_labels.label_id afe_acl_groups_hosts.host_id afe_acl_groups_users.user_id
afe_labels.name afe_users.login afe_special_tasks.host_id afe_special_tasks.queue_entry_id afe_special_tasks.is_active`)

// FuzzSnapshot loads a recorded scenario, writes a value into a column, and
// reads and plans what comes of it. Whatever it is, nothing fails, no host is
// given twice, and no entry is forgotten without a problem being reported.
func FuzzSnapshot(f *testing.F) {
	files, err := filepath.Glob("../testdata/golden/small_*.json")
	require.NoError(f, err)
	for i, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(data, uint8(i), []string{"x", "", "-1", "0", "2", "99999999999999999999", "1.5", "Ready"}[i%8], uint8(i%3))
	}
	f.Fuzz(func(t *testing.T, data []byte, column uint8, value string, row uint8) {
		var sc storetest.Scenario
		if json.Unmarshal(data, &sc) != nil || len(sc.Input.Jobs) > 50 {
			return
		}
		ctx := context.Background()
		db := storetest.NewLab(t, storetest.SQLiteFile(t))
		storetest.RemoveGuard(t, db)
		if _, err := storetest.NewWorld(ctx, db.SQL(), sc.Input); err != nil {
			return // not a scenario any more
		}
		table, name, _ := strings.Cut(fuzzColumns[int(column)%len(fuzzColumns)], ".")
		// A constraint may refuse the value; then the scenario is read as it is.
		_, _ = db.SQL().ExecContext(ctx, fmt.Sprintf("UPDATE OR IGNORE %s SET %s = ? WHERE rowid = ?", table, name), value, int(row)+1)
		requireSoundPlan(t, db, scopeOf(sc))
	})
}

func requireSoundPlan(t *testing.T, db *store.DB, scope store.Scope) {
	t.Helper()
	s, err := db.Snapshot(context.Background(), scope)
	require.NoError(t, err)
	s.Recorder, err = db.Recorder(context.Background(), scope)
	require.NoError(t, err)
	plan := scheduler.MakePlan(s)
	hosts, seen := map[scheduler.HostID]bool{}, map[scheduler.EntryID]bool{}
	for _, a := range plan.Assignments {
		require.False(t, hosts[a.Host], "host %d twice", a.Host)
		hosts[a.Host], seen[a.Entry] = true, true
	}
	for _, w := range plan.Waiting {
		seen[w.Entry] = true
	}
	for _, p := range plan.Problems {
		seen[p.Entry] = true
	}
	for _, e := range s.Entries {
		require.True(t, seen[e.ID], "entry %d is accounted for", e.ID)
	}
}
