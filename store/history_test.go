package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
)

// TestTicksDoNotReadTheHistory: what a host did in the past costs a tick nothing, however much
// it is.
func TestTicksDoNotReadTheHistory(t *testing.T) {
	db := storetest.NewServerLab(t)
	const hosts, tasksOfEach = 100, 400
	_, err := simlab.Create(t.Context(), db.SQL(), simlab.Spec{Seed: 5, Hosts: hosts, Boards: 2, Suites: 4, Entries: 300})
	require.NoError(t, err)
	storetest.Exec(t, db, "CREATE TABLE numbers (n INT PRIMARY KEY)")
	storetest.Exec(t, db, "INSERT INTO numbers VALUES (0)")
	for n := 1; n < tasksOfEach; n *= 2 {
		storetest.Exec(t, db, "INSERT INTO numbers SELECT n + ? FROM numbers", n)
	}
	storetest.Exec(t, db, "INSERT INTO afe_special_tasks (host_id, task, requested_by_id, is_active, is_complete, success, is_aborted, time_requested)"+
		" SELECT h.id, 'Reset', (SELECT MIN(id) FROM afe_users), 0, 1, 1, 0, CURRENT_TIMESTAMP FROM afe_hosts h JOIN numbers n WHERE n.n < ?", tasksOfEach)
	storetest.Exec(t, db, "ANALYZE TABLE afe_special_tasks, afe_host_queue_entries, afe_hosts")

	l := storetest.TakeOver(t, db, storetest.WholeLab, 1)
	given := storetest.RowsRead(t, db, func() {
		require.Greater(t, len(storetest.RunTick(t, db, l, storetest.WholeLab).Applied.Assignments), hosts/2)
	})
	storetest.Exec(t, db, "UPDATE afe_special_tasks SET is_complete = 1 WHERE is_complete = 0")
	storetest.Exec(t, db, "UPDATE afe_host_queue_entries SET status = 'Completed', active = 0, complete = 1")
	storetest.Exec(t, db, "UPDATE afe_hosts SET status = 'Ready'")
	released := storetest.RowsRead(t, db, func() {
		require.Greater(t, len(storetest.RunTick(t, db, l, storetest.WholeLab).Applied.Releases), hosts/2)
	})
	t.Logf("rows read: %d by the tick that gave hosts to entries, %d by the one that released them", given, released)
	const history = hosts * tasksOfEach
	require.Less(t, given, history/2)
	require.Less(t, released, history/2)
}
