package simlab_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/simlab"
)

// TestAssignedTwice: an entry that was queued again may take a host again where that
// happens, but none may take one while it has one.
func TestAssignedTwice(t *testing.T) {
	for _, c := range []struct {
		requeues bool
		events   []string
		want     int64
	}{
		{false, []string{"take", "give"}, 0},
		{false, []string{"take", "give", "take"}, 1},
		{true, []string{"take", "give", "take"}, 0},
		{true, []string{"take", "take"}, 2}, // the host and the entry
	} {
		db := newDB(t)
		history, err := simlab.InstallHistory(t.Context(), db.SQL(), true)
		require.NoError(t, err)
		history.Requeues = c.requeues
		for _, event := range c.events {
			_, err := db.SQL().ExecContext(t.Context(), "INSERT INTO lab_history (event, host_id, entry_id) VALUES (?, 1, 1)", event)
			require.NoError(t, err)
		}
		twice, err := history.AssignedTwice(t.Context(), 0)
		require.NoError(t, err)
		require.Equal(t, c.want, twice, "%+v", c)
	}
}
