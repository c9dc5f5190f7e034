package store

import (
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

func listKeys(pairs []pair) string { return list(idsOf(pairs, func(p pair) int64 { return p.key })) }

// idsOf collects an id of every element.
func idsOf[T any](all []T, id func(T) int64) []int64 {
	ids := make([]int64, len(all))
	for i, v := range all {
		ids[i] = id(v)
	}
	return ids
}

// caseOf maps the id column: CASE id WHEN key THEN value ... END.
func caseOf(pairs []pair) string {
	b := []byte("CASE id")
	for _, p := range pairs {
		b = append(b, " WHEN "...)
		b = strconv.AppendInt(b, p.key, 10)
		b = append(b, " THEN "...)
		b = strconv.AppendInt(b, p.value, 10)
	}
	return string(append(b, " END"...))
}
