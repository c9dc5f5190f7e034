package scheduler

import (
	"slices"

	"github.com/bits-and-blooms/bitset"
)

// lookup finds the position of a row by its id. The ids of a table are mostly
// handed out one after the other, so an array over their range serves; where it
// would be mostly empty, a map does.
type lookup struct {
	base int64
	near []int32 // position + 1, by id - base
	far  map[int64]int32
}

// spread is how many times larger than the number of rows the range of their ids
// may be for an array to be worth it.
const spread = 8

// newLookup indexes the rows 0 to n-1. Of equal ids the last one counts.
func newLookup(n int, id func(int) int64) lookup {
	if n == 0 {
		return lookup{}
	}
	low, high := id(0), id(0)
	for i := range n {
		low, high = min(low, id(i)), max(high, id(i))
	}
	l := lookup{base: low}
	// The difference of two ids far apart may overflow; it is negative then.
	if width := high - low; width >= 0 && width <= int64(spread*n) {
		l.near = make([]int32, width+1)
		for i := range n {
			l.near[id(i)-low] = int32(i + 1)
		}
		return l
	}
	l.far = make(map[int64]int32, n)
	for i := range n {
		l.far[id(i)] = int32(i)
	}
	return l
}

func (l *lookup) get(id int64) (int, bool) {
	if l.far != nil {
		i, ok := l.far[id]
		return int(i), ok
	}
	if at := uint64(id - l.base); id >= l.base && at < uint64(len(l.near)) {
		i := int(l.near[at]) - 1
		return i, i >= 0
	}
	return 0, false
}

// hostSet is a set of hosts, by number: bits to test one, a list in order to
// walk over few.
type hostSet struct {
	bits *bitset.BitSet
	list []int32
	all  bool // it is known to have every host
}

func newHostSet(hosts int) *hostSet { return &hostSet{bits: bitset.New(uint(hosts))} }

func (s *hostSet) has(num int) bool { return s != nil && s.bits.Test(uint(num)) }

// add appends a host; hosts come in the order of their numbers.
func (s *hostSet) add(num int) {
	if n := len(s.list); n > 0 && s.list[n-1] == int32(num) {
		return
	}
	s.bits.Set(uint(num))
	s.list = append(s.list, int32(num))
}

// hostSets are sets of hosts by the id of a label or ACL group.
type hostSets struct {
	hosts int // how many there are
	near  []*hostSet
	far   map[int64]*hostSet
}

// nearIDs bounds the array of a hostSets: more labels than that are rare.
const nearIDs = 1 << 14

func (s *hostSets) get(id int64) *hostSet {
	if id >= 0 && id < int64(len(s.near)) {
		return s.near[id]
	}
	return s.far[id]
}

// of returns the set of an id, creating it.
func (s *hostSets) of(id int64) *hostSet {
	if set := s.get(id); set != nil {
		return set
	}
	set := newHostSet(s.hosts)
	if id < 0 || id >= nearIDs {
		if s.far == nil {
			s.far = make(map[int64]*hostSet)
		}
		s.far[id] = set
		return set
	}
	if grow := int(id) + 1 - len(s.near); grow > 0 {
		s.near = slices.Grow(s.near, grow)[:id+1]
	}
	s.near[id] = set
	return set
}

// arena keeps many short lists of hosts in few allocations.
type arena struct{ buf []int32 }

// arenaChunk is how many numbers an arena has room for at once, at least.
const arenaChunk = 1 << 14

// within returns the hosts of a list that are in a set, in the same order; the
// list itself if all are.
func (a *arena) within(list []int32, set *bitset.BitSet) []int32 {
	out := a.copyWithin(list, set)
	if len(out) == len(list) {
		a.buf = a.buf[:len(a.buf)-len(out)]
		return list
	}
	return out
}

// copyWithin is within, but never the list itself.
func (a *arena) copyWithin(list []int32, set *bitset.BitSet) []int32 {
	if cap(a.buf)-len(a.buf) < len(list) {
		a.buf = make([]int32, 0, max(len(list), arenaChunk))
	}
	// Whether a host is in the set is as good as random: no branch on it.
	begin, words, n := len(a.buf), set.Words(), 0
	out := a.buf[begin : begin+len(list)]
	for _, num := range list {
		out[n] = num
		n += int(words[num>>6] >> (num & 63) & 1)
	}
	a.buf = a.buf[:begin+n]
	return out[:n:n]
}

// slab allocates values many at a time.
type slab[T any] struct{ free []T }

// slabSize is how many values a slab allocates at once.
const slabSize = 128

func (s *slab[T]) next() *T {
	if len(s.free) == 0 {
		s.free = make([]T, slabSize)
	}
	v := &s.free[0]
	s.free = s.free[1:]
	return v
}
