package sqldb_test

import (
	"database/sql"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/store/sqldb"
)

// TestRanges: the conditions let every id through, and only near neighbours
// besides.
func TestRanges(t *testing.T) {
	db := storetest.Open(t, storetest.SQLiteFile(t))
	rapid.Check(t, func(rt *rapid.T) {
		ids := slices.Compact(slices.Sorted(slices.Values(rapid.SliceOf(rapid.Int64Range(1, 3000)).Draw(rt, "ids"))))
		var got []int64
		for where := range sqldb.Ranges("id", ids) {
			query := "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 3000) SELECT id FROM n WHERE " + where
			require.NoError(rt, simlab.Each(t.Context(), db.SQL(), query, func(rows *sql.Rows) error {
				var id int64
				err := rows.Scan(&id)
				got = append(got, id)
				return err
			}))
		}
		slices.Sort(got)
		require.Equal(rt, len(got), len(slices.Compact(slices.Clone(got))), "a row comes once")
		for _, id := range ids {
			require.Contains(rt, got, id)
		}
		for _, id := range got {
			i, _ := slices.BinarySearch(ids, id)
			require.True(rt, ids[i] == id || id-ids[i-1] <= 8, "%d is far from all ids", id)
		}
	})
}
