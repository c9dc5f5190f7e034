package scheduler

import "github.com/bits-and-blooms/bitset"

// arena holds many short lists of hosts in few allocations. The lists live as long as
// the plan is being made.
type arena struct{ buf []int32 }

// arenaChunk is for how many numbers an arena allocates room at once, at least.
const arenaChunk = 1 << 14

// within returns the hosts of a list that are in a set, in the same order. It returns the
// list itself if all of them are, so the caller must not change the result.
func (a *arena) within(list []int32, set *bitset.BitSet) []int32 {
	out := a.copyWithin(list, set)
	if len(out) == len(list) {
		a.buf = a.buf[:len(a.buf)-len(out)]
		return list
	}
	return out
}

// copyWithin does what within does, but always returns a new list, which the caller may
// change.
func (a *arena) copyWithin(list []int32, set *bitset.BitSet) []int32 {
	a.reserve(len(list))
	// The processor cannot predict whether a host is in the set, so the loop has no
	// branch that depends on it.
	begin, words, n := len(a.buf), set.Words(), 0
	out := a.buf[begin : begin+len(list)]
	for _, num := range list {
		out[n] = num
		n += int(words[num>>6] >> (num & 63) & 1)
	}
	a.buf = a.buf[:begin+n]
	return out[:n:n]
}

// room returns a list of n zeros.
func (a *arena) room(n int) []int32 {
	a.reserve(n)
	begin := len(a.buf)
	a.buf = a.buf[:begin+n]
	out := a.buf[begin : begin+n : begin+n]
	clear(out)
	return out
}

// reserve makes room for n more numbers.
func (a *arena) reserve(n int) {
	if cap(a.buf)-len(a.buf) < n {
		a.buf = make([]int32, 0, max(n, arenaChunk))
	}
}

// slab allocates many values at a time, which is faster than one by one.
type slab[T any] struct{ free []T }

// slabSize is how many values a slab allocates at once.
const slabSize = 128

// next returns a zero value that nobody else has.
func (s *slab[T]) next() *T {
	if len(s.free) == 0 {
		s.free = make([]T, slabSize)
	}
	v := &s.free[0]
	s.free = s.free[1:]
	return v
}
