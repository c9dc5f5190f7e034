package store

// grouped collects the rows of a link table, from owners to values.
type grouped[T any] struct {
	owners []int32
	values []T
	most   int32
}

// newGrouped makes room for so many rows.
func newGrouped[T any](rows int) *grouped[T] {
	return &grouped[T]{owners: make([]int32, 0, rows), values: make([]T, 0, rows)}
}

func (g *grouped[T]) add(owner int32, value T) {
	g.owners, g.values = append(g.owners, owner), append(g.values, value)
	g.most = max(g.most, owner)
}

// lists sorts the values by owner, next to each other in memory, and returns
// the list of each owner.
func (g *grouped[T]) lists() func(owner int32) []T {
	end := make([]int32, g.most+2) // where the values of the owner before end
	for _, owner := range g.owners {
		end[owner+1]++
	}
	for i := range g.most + 1 {
		end[i+1] += end[i]
	}
	next := make([]int32, g.most+1)
	copy(next, end)
	sorted := make([]T, len(g.values))
	for i, owner := range g.owners {
		sorted[next[owner]] = g.values[i]
		next[owner]++
	}
	return func(owner int32) []T {
		if owner > g.most || end[owner] == end[owner+1] {
			return nil
		}
		return sorted[end[owner]:end[owner+1]:end[owner+1]]
	}
}
