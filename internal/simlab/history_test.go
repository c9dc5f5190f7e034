package simlab_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
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
		db, err := store.Open(t.Context(), sqldb.Config{DSN: "sqlite:" + filepath.Join(t.TempDir(), "lab.db"), Create: true})
		require.NoError(t, err)
		_, err = schema.Up(t.Context(), db.DB, schema.Options{})
		require.NoError(t, err)
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
		require.NoError(t, db.Close())
	}
}
