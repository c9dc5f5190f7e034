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

func listKeys(pairs []pair) string {
	ids := make([]int64, len(pairs))
	for i, p := range pairs {
		ids[i] = p.key
	}
	return list(ids)
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
