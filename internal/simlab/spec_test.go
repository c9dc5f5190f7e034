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

// newDB makes an empty database.
func newDB(t *testing.T) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), sqldb.Config{DSN: "sqlite:" + filepath.Join(t.TempDir(), "lab.db"), Create: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	_, err = schema.Up(t.Context(), db.DB, schema.Options{})
	require.NoError(t, err)
	return db
}

// TestNextQueueIsLikeTheFirst: a lab whose queue is filled again gets as many entries, suites,
// minimums and jobs of each board as at first.
func TestNextQueueIsLikeTheFirst(t *testing.T) {
	t.Parallel()
	db := newDB(t)
	lab, err := simlab.Create(t.Context(), db.SQL(), simlab.Spec{Seed: 1, Hosts: 40, Boards: 4, Suites: 8, Entries: 101, MinimumShare: 0.1})
	require.NoError(t, err)
	first := queueOf(t, db)
	require.NoError(t, lab.AddSuites(t.Context(), db.SQL()))
	both := queueOf(t, db)
	require.Len(t, both, len(first))
	for what, n := range first {
		require.Positive(t, n, what)
		require.Equal(t, 2*n, both[what], what)
	}
}

// queueOf counts what a queue consists of.
func queueOf(t *testing.T, db *store.DB) map[string]int {
	t.Helper()
	out := map[string]int{}
	rows, err := db.SQL().QueryContext(t.Context(), `SELECT 'suites', COUNT(*) FROM afe_jobs WHERE parent_job_id IS NULL
		UNION ALL SELECT 'minimum of ' || value, COUNT(*) FROM afe_job_keyvals GROUP BY value
		UNION ALL SELECT 'board ' || l.name, COUNT(*) FROM afe_host_queue_entries q JOIN afe_labels l ON l.id = q.meta_host GROUP BY l.name`)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	for rows.Next() {
		var what string
		var n int
		require.NoError(t, rows.Scan(&what, &n))
		out[what] = n
	}
	require.NoError(t, rows.Err())
	return out
}
