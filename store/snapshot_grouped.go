package store

// links collects the rows of a link table, from owners to values.
type links[T any] struct {
	owners []int32
	values []T
	most   int32
}

// newLinks makes room for so many rows.
func newLinks[T any](rows int) *links[T] {
	return &links[T]{owners: make([]int32, 0, rows), values: make([]T, 0, rows)}
}

func (l *links[T]) add(owner int32, value T) {
	l.owners, l.values = append(l.owners, owner), append(l.values, value)
	l.most = max(l.most, owner)
}

// lists sorts the values by owner, next to each other in memory, and returns
// the list of each owner.
func (l *links[T]) lists() func(owner int32) []T {
	end := make([]int32, l.most+2) // where the values of the owner before end
	for _, owner := range l.owners {
		end[owner+1]++
	}
	for i := range l.most + 1 {
		end[i+1] += end[i]
	}
	next := make([]int32, l.most+1)
	copy(next, end)
	sorted := make([]T, len(l.values))
	for i, owner := range l.owners {
		sorted[next[owner]] = l.values[i]
		next[owner]++
	}
	return func(owner int32) []T {
		if owner > l.most || end[owner] == end[owner+1] {
			return nil
		}
		return sorted[end[owner]:end[owner+1]:end[owner+1]]
	}
}
