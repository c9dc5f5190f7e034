package store_test

import (
	"database/sql"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/store"
)

// TestChunkSizer: chunks are bounded, nearly equal, as few as may be, as many for each
// writer, and follow the speed of the server.
func TestChunkSizer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p store.ChunkSizer
		perRow := time.Duration(rapid.IntRange(1, 2000).Draw(t, "microseconds per row")) * time.Microsecond
		left := rapid.IntRange(1, 100_000).Draw(t, "rows")
		writers := rapid.IntRange(1, 3).Draw(t, "lanes")
		var sizes []int
		for left > 0 {
			size := p.Chunk(left, writers)
			require.Positive(t, size)
			require.LessOrEqual(t, size, min(left, store.MostChunk))
			if len(sizes) > 0 && size > 100 {
				require.LessOrEqual(t, time.Duration(size)*perRow, store.ChunkTime*11/10, "a chunk takes too long")
			}
			round := min(left, writers*size)
			require.GreaterOrEqual(t, round, min(left, writers*(size-1)+1), "every lane has something to write")
			p.Took(size, time.Duration(size)*perRow)
			sizes = append(sizes, size)
			left -= round
		}
		// After the first ones have told the speed, the others are alike.
		if len(sizes) > 8 {
			alike := sizes[6:]
			require.LessOrEqual(t, slices.Max(alike)-slices.Min(alike), 1+slices.Max(alike)/4)
		}
	})
}

// TestRanges: the conditions let every id through, and only near neighbours
// besides.
func TestRanges(t *testing.T) {
	db := sqlite.lab(t)
	rapid.Check(t, func(rt *rapid.T) {
		ids := slices.Compact(slices.Sorted(slices.Values(rapid.SliceOf(rapid.Int64Range(1, 3000)).Draw(rt, "ids"))))
		var got []int64
		for where := range store.Ranges("id", ids) {
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
