package storetest

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

// FillLab makes a lab in which every kind of write happens in one tick.
func FillLab(t testing.TB, db *store.DB) {
	t.Helper()
	_, err := simlab.Create(context.Background(), db.SQL(), simlab.Spec{Seed: 1, Hosts: 60, Boards: 3, Suites: 6, Entries: 80, MinimumShare: 0.1})
	require.NoError(t, err)
	for _, text := range []string{
		"UPDATE afe_hosts SET leased = 1 WHERE id <= 5", // unused: released
		"INSERT INTO afe_special_tasks (" + simlab.TaskColumns + ") VALUES (60, 'Verify', NULL, 1, 0, 0, CURRENT_TIMESTAMP)",
		// A synchronous job without tasks that can never start any more.
		"UPDATE afe_jobs SET synch_count = 2, run_reset = 0, reboot_before = 0, priority = 99 WHERE id = 2",
		"DELETE FROM afe_jobs_dependency_labels WHERE job_id = 2",
	} {
		Exec(t, db, text)
	}
}

// FillShardedLab makes the lab of FillLab, with shards a (row 1) and b (row 2)
// beside the master; board:b00 is a's, board:b01 is b's, board:b02 nobody's.
func FillShardedLab(t testing.TB, db *store.DB) {
	t.Helper()
	FillLab(t, db)
	ctx := context.Background()
	for i, name := range []shard.Name{"a", "b"} {
		require.NoError(t, admin.New(db).AddShard(ctx, name, "", "me", ""))
		_, err := admin.New(db).AssignLabel(ctx, fmt.Sprintf("board:b0%d", i), name, "me", "")
		require.NoError(t, err)
	}
}

// Dump prints everything that a plan may change.
func Dump(t testing.TB, db *store.DB) string {
	t.Helper()
	var b strings.Builder
	for _, query := range []string{
		"SELECT id, leased, COALESCE(status, '') FROM afe_hosts ORDER BY id",
		"SELECT id, COALESCE(host_id, 0), status || '' FROM afe_host_queue_entries ORDER BY id",
		"SELECT id, active, complete FROM afe_host_queue_entries ORDER BY id",
		"SELECT host_id, COALESCE(queue_entry_id, 0), task FROM afe_special_tasks ORDER BY id",
		"SELECT id, job_id, host_id FROM afe_ineligible_host_queues ORDER BY id",
	} {
		require.NoError(t, simlab.Each(context.Background(), db.SQL(), query, func(rows *sql.Rows) error {
			var x, y, z string
			err := rows.Scan(&x, &y, &z)
			fmt.Fprintln(&b, x, y, z)
			return err
		}))
	}
	return b.String()
}
