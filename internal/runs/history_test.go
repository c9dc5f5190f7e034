package runs_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/storetest"
)

// TestOffersAndSweepsDoNotReadTheHistory: what hosts did in the past costs them nothing.
func TestOffersAndSweepsDoNotReadTheHistory(t *testing.T) {
	w := newWorld(t, storetest.NewServerLab(t))
	const tasksOfEach = 1000
	names := []string{"h1", "h2", "h3", "h4", "h5", "h6", "h7", "h8", "h9"}
	for _, name := range names {
		w.host(name)
	}
	a := w.agent("a1", names...)
	storetest.AddPast(t, w.db, tasksOfEach)
	storetest.Exec(t, w.db, "UPDATE afe_hosts SET leased = 1 WHERE hostname < 'h5'")
	storetest.Exec(t, w.db, "INSERT INTO afe_special_tasks (host_id, task, requested_by_id, is_active, is_complete, success, is_aborted, time_requested)"+
		" SELECT id, 'Reset', (SELECT MIN(id) FROM afe_users), 0, 0, 0, 0, CURRENT_TIMESTAMP FROM afe_hosts WHERE hostname < 'h5'")
	storetest.Exec(t, w.db, "UPDATE afe_hosts SET status = 'Repairing' WHERE hostname >= 'h5'")

	var offers map[int64][]labapi.Offer
	offered := storetest.RowsRead(t, w.db, func() {
		var err error
		offers, err = w.Offers(w.ctx, []int64{a.Agent})
		require.NoError(t, err)
	})
	require.Len(t, offers[a.Agent], 4, fmt.Sprint(offers))
	swept := storetest.RowsRead(t, w.db, func() { w.sweep() })
	t.Logf("rows read: %d by offers, %d by a sweep", offered, swept)
	const history = 9 * tasksOfEach
	require.Less(t, offered, history/2)
	require.Less(t, swept, history/2)
}
