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
	storetest.AddPast(t, db, tasksOfEach)
	storetest.Exec(t, db, "ANALYZE TABLE afe_host_queue_entries, afe_hosts")

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
