package store

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
)

// Ids are written into the statement text: they are integers read from the
// database, and a statement with thousands of parameters costs more than one
// with thousands of numbers.

// chunks cuts a slice into pieces of at most chunkSize.
func chunks[T any](all []T) iter.Seq[[]T] { return slices.Chunk(all, chunkSize) }

// list writes ids as (1, 2, 3).
func list(ids []int64) string {
	var b strings.Builder
	tuple(&b, ids...)
	b.WriteByte(')')
	return b.String()
}

const (
	// maxListed bounds the ids that are written into one statement.
	maxListed = 20_000
	// maxRanges bounds the ranges of one statement: SQLite takes expressions
	// about a thousand operators deep.
	maxRanges = 400
	// rangeGap is how many ids in between are read for nothing rather than begin
	// another range.
	rangeGap = 8
)

// ranges cuts sorted ids into conditions on a column, each for one statement.
// They also let neighbours of the ids through: to read on is cheaper than to
// look up.
func ranges(column string, ids []int64) iter.Seq[string] {
	return func(yield func(string) bool) {
		for len(ids) > 0 {
			var where string
			where, ids = someRanges(column, ids)
			if !yield("(" + where + ")") {
				return
			}
		}
	}
}

func someRanges(column string, ids []int64) (where string, rest []int64) {
	var b strings.Builder
	var single []int64
	for n := 0; len(ids) > 0 && n < maxRanges && len(single) < maxListed; {
		end := 1
		for end < len(ids) && ids[end]-ids[end-1] <= rangeGap {
			end++
		}
		if end == 1 {
			single = append(single, ids[0])
		} else {
			n++
			if b.Len() > 0 {
				b.WriteString(" OR ")
			}
			fmt.Fprintf(&b, "%s BETWEEN %d AND %d", column, ids[0], ids[end-1])
		}
		ids = ids[end:]
	}
	if len(single) > 0 {
		if b.Len() > 0 {
			b.WriteString(" OR ")
		}
		b.WriteString(column + " IN " + list(single))
	}
	return b.String(), ids
}

func listKeys(pairs []pair) string { return list(idsOf(pairs, func(p pair) int64 { return p.key })) }

// idsOf collects an id of every element.
func idsOf[T any](all []T, id func(T) int64) []int64 {
	ids := make([]int64, len(all))
	for i, v := range all {
		ids[i] = id(v)
	}
	return ids
}

// caseOf maps the id column to the values of pairs. A server tries the branches
// of a CASE one after the other for every row, so a long one is cut into halves
// again and again: ten comparisons instead of hundreds.
func caseOf(pairs []pair) string {
	sorted := slices.SortedFunc(slices.Values(pairs), func(a, b pair) int { return cmp.Compare(a.key, b.key) })
	return string(appendCase(nil, sorted))
}

// caseBranches is how many branches a CASE has that is not cut any more.
const caseBranches = 4

func appendCase(b []byte, pairs []pair) []byte {
	if len(pairs) > caseBranches {
		half := len(pairs) / 2
		b = append(b, "CASE WHEN id < "...)
		b = strconv.AppendInt(b, pairs[half].key, 10)
		b = append(b, " THEN "...)
		b = appendCase(b, pairs[:half])
		b = append(b, " ELSE "...)
		b = appendCase(b, pairs[half:])
		return append(b, " END"...)
	}
	b = append(b, "CASE id"...)
	for _, p := range pairs {
		b = append(b, " WHEN "...)
		b = strconv.AppendInt(b, p.key, 10)
		b = append(b, " THEN "...)
		b = strconv.AppendInt(b, p.value, 10)
	}
	return append(b, " END"...)
}
