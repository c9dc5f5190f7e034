package sqldb

import (
	"fmt"
	"iter"
	"strconv"
	"strings"
)

// IDs are written into the statement text: they are integers read from the
// database, and a statement with thousands of parameters costs more than one
// with thousands of numbers.

// List writes ids as (1, 2, 3).
func List(ids []int64) string { return string(append(Tuple(nil, ids...), ')')) }

// Tuple begins another row of a VALUES list with integers; the caller closes it.
func Tuple(b []byte, values ...int64) []byte {
	if len(b) > 0 {
		b = append(b, ", "...)
	}
	b = append(b, '(')
	for i, v := range values {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = strconv.AppendInt(b, v, 10)
	}
	return b
}

const (
	// MaxListed bounds the ids that are written into one statement.
	MaxListed = 20_000
	// maxRanges bounds the ranges of one statement: SQLite takes expressions
	// about a thousand operators deep.
	maxRanges = 400
	// rangeGap is how many ids in between are read for nothing rather than begin
	// another range.
	rangeGap = 8
)

// Ranges cuts sorted ids into conditions on a column, each for one statement.
// They also let neighbours of the ids through: to read on is cheaper than to
// look up.
func Ranges(column string, ids []int64) iter.Seq[string] {
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
	for n := 0; len(ids) > 0 && n < maxRanges && len(single) < MaxListed; {
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
		b.WriteString(column + " IN " + List(single))
	}
	return b.String(), ids
}

// IDsOf collects an id of every element.
func IDsOf[T any](all []T, id func(T) int64) []int64 {
	ids := make([]int64, len(all))
	for i, v := range all {
		ids[i] = id(v)
	}
	return ids
}

// Int64s are ids as the database has them.
func Int64s[T ~int64](ids []T) []int64 { return IDsOf(ids, func(id T) int64 { return int64(id) }) }

// CaseOf maps the id column to the values of pairs; otherwise is what it is for
// other ids. A server tries the branches of a CASE one after the other for every
// row, so a long one is cut into halves again and again: ten comparisons instead
// of hundreds. Pairs are sorted by key.
func CaseOf(pairs []Pair, otherwise string) string {
	return string(appendCase(make([]byte, 0, caseLength*len(pairs)), pairs, otherwise))
}

const (
	// caseBranches is how many branches a CASE has that is not cut any more.
	caseBranches = 4
	// caseLength is about how many bytes a branch takes.
	caseLength = 32
)

func appendCase(b []byte, pairs []Pair, otherwise string) []byte {
	if len(pairs) > caseBranches {
		half := len(pairs) / 2
		b = append(b, "CASE WHEN id < "...)
		b = strconv.AppendInt(b, pairs[half].Key, 10)
		b = append(b, " THEN "...)
		b = appendCase(b, pairs[:half], otherwise)
		b = append(b, " ELSE "...)
		b = appendCase(b, pairs[half:], otherwise)
		return append(b, " END"...)
	}
	b = append(b, "CASE id"...)
	for _, p := range pairs {
		b = append(b, " WHEN "...)
		b = strconv.AppendInt(b, p.Key, 10)
		b = append(b, " THEN "...)
		b = append(b, p.Value...)
	}
	if otherwise != "" {
		b = append(append(b, " ELSE "...), otherwise...)
	}
	return append(b, " END"...)
}

// Pair is an id and a value, written in SQL.
type Pair struct {
	Key   int64
	Value string
}

// Spelled selects a column with all spellings of the given texts as they are given. Which
// texts are the same is the database's decision, so that what it finds by a text and what
// we make of it agree. The texts are our own, without quotes.
func Spelled[T ~string](column string, texts ...T) string {
	var b strings.Builder
	b.WriteString("CASE")
	for _, text := range texts {
		b.WriteString(" WHEN " + column + " = '" + string(text) + "' THEN '" + string(text) + "'")
	}
	return b.String() + " ELSE " + column + " END"
}
