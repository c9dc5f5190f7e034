package store

import (
	"iter"
	"time"
)

// chunkSizer sizes the chunks in which a plan is written. A chunk locks the rows it
// writes until it is committed, so it should not take so long that other clients
// of the database notice; and each has a few statements of its own, so there
// should not be more of them than need be.
type chunkSizer struct {
	perRow time.Duration // as measured lately; 0 if never
}

const (
	// chunkTime is how long a chunk may be expected to take: other clients should
	// not have to wait for more than 100 ms, and no two chunks take the same time.
	chunkTime = 94 * time.Millisecond
	// careful: a writer that has this many chunks to write makes one more of them.
	// The more there are, the likelier one takes longer than expected, and the less
	// another one costs.
	careful = 5
	// firstChunk is the size before anything was measured; fewest and most bound
	// what the measurements suggest.
	firstChunk  = 1400
	fewestChunk = 100
	mostChunk   = 2000
	// measurable rows say something about the time of each.
	measurable = 100
)

// chunk is the size of the next chunk when n rows are left to write, by so many
// writers: of equal chunks, as few as there may be, and as many for each writer.
func (s *chunkSizer) chunk(n, writers int) int {
	size := firstChunk
	if s.perRow > 0 {
		size = min(mostChunk, max(fewestChunk, int(chunkTime/s.perRow)))
	}
	each := max(1, ceil(n, writers*size))
	return ceil(n, writers*(each+each/careful))
}

// ceil is the quotient of two positive numbers, rounded up.
func ceil(n, by int) int { return (n + by - 1) / by }

// chunks cuts rows that cost no more than an assignment each into chunks.
func chunks[T any](s *chunkSizer, all []T) iter.Seq[[]T] {
	return func(yield func([]T) bool) {
		for len(all) > 0 {
			n := s.chunk(len(all), 1)
			if !yield(all[:n]) {
				return
			}
			all = all[n:]
		}
	}
}

// took notes how long a chunk of n rows took.
func (s *chunkSizer) took(n int, d time.Duration) {
	if n < measurable {
		return
	}
	latest := max(1, d/time.Duration(n))
	if s.perRow == 0 {
		s.perRow = latest
		return
	}
	s.perRow = (s.perRow + latest) / 2
}
