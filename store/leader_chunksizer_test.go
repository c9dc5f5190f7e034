package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

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
