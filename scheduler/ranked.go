package scheduler

import "slices"

// ranked are the hosts of a match that may be promised, in the order in which entries want
// them that prefer the same labels: by how many of these the hosts lack, then by number. It
// is one list for all these entries, however many different hosts their jobs are refused:
// searches pass over those. So the memory grows with the lab, and not with jobs times hosts.
type ranked struct {
	walk
	// ends are the positions where the hosts end that lack none, one, and so on.
	ends []int32
	// whole is the demand of jobs that may have all of the hosts.
	whole demand
	// arranged is true once the hosts of each demand are in the order of the list.
	arranged bool
}

// walk is a list of hosts that are searched.
type walk struct {
	hosts []int32
	// shared is nil while nobody searches the list who may not have all of its hosts.
	shared *sharing
}

// sharing keeps many who search a list, and may not have all of its hosts, from looking at the
// same ones again.
type sharing struct {
	// held are the hosts that are promised to somebody, and closed those of which nobody who
	// searches can get any more.
	held, closed skips
	// classes are those of the pass with this number.
	classes []class
	pass    int32
}

// class stands for those who search a list at the same level, in one pass over what a search
// reached. They look at the same hosts, except for those that their jobs are refused. So the
// first one looks at all, and the others only at those that were refused to all before.
type class struct {
	level int32
	spare []int32 // positions
}

// share prepares a list for those who may not have all of its hosts.
func (w *walk) share() {
	if w.shared == nil {
		n := len(w.hosts) + 1
		w.shared = &sharing{held: make(skips, n), closed: make(skips, n)}
	}
}

// classOf returns the class of one level in this pass. It is new for the first one who asks. It
// is nil if the list is not shared, because then nothing is refused.
func (w *walk) classOf(level, pass int32) (c *class, isNew bool) {
	s := w.shared
	if s == nil {
		return nil, true
	}
	if s.pass != pass {
		s.pass, s.classes = pass, s.classes[:0]
	}
	for i := range s.classes {
		if c := &s.classes[i]; c.level == level {
			return c, false
		}
	}
	n := len(s.classes)
	s.classes = slices.Grow(s.classes, 1)[:n+1] // with the memory of an earlier one
	c = &s.classes[n]
	c.level, c.spare = level, c.spare[:0]
	return c, true
}

// passHeld passes over a host for good that somebody holds. It returns the position of the next
// one over which nobody passed so.
func (w *walk) passHeld(pos int32) int32 {
	if w.shared == nil {
		return pos + 1
	}
	return w.shared.held.pass(pos)
}

// passClosed does what passHeld does for a host of which nobody who searches can get any more.
func (w *walk) passClosed(pos int32) int32 {
	if w.shared == nil {
		return pos + 1
	}
	return w.shared.closed.pass(pos)
}

// lacks returns how many preferred labels the host at a position lacks.
func (l *ranked) lacks(pos int32) int32 {
	lacks := int32(0)
	for pos >= l.ends[lacks] {
		lacks++
	}
	return lacks
}

// firstFree returns the position of the first host from a position on, and before another one,
// that nobody holds and that is not refused. It returns end if there is none. A host that is
// held stays so.
func firstFree[T any](w *walk, holder []*T, refused []int64, begin, end int32) int32 {
	for pos := begin; pos < end; {
		switch num := w.hosts[pos]; {
		case holder[num] != nil:
			pos = w.passHeld(pos)
		case isRefused(refused, num):
			pos++
		default:
			return pos
		}
	}
	return end
}

// isRefused tells whether a host is among those that jobs are refused.
func isRefused(refused []int64, num int32) bool {
	if len(refused) == 0 {
		return false
	}
	_, found := slices.BinarySearch(refused, int64(num))
	return found
}

// skips are the positions of a list that are passed over for good: to each one belongs a later
// position, 0 to all others.
type skips []int32

// pass passes over a position for good. It returns the next one that is not passed over.
func (s skips) pass(pos int32) int32 {
	if s[pos] == 0 {
		s[pos] = pos + 1
	}
	for s[pos] != 0 {
		next := s[pos]
		if s[next] != 0 {
			s[pos] = s[next] // so that the way is shorter next time
		}
		pos = next
	}
	return pos
}
