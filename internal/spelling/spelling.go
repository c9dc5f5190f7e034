package spelling

import (
	"slices"

	"github.com/agnivade/levenshtein"
)

// Nearest returns the known name that takes the fewest changes to write; empty if there is
// none. Of equal ones it is the first.
func Nearest(name string, known []string) string {
	if len(known) == 0 {
		return ""
	}
	return slices.MinFunc(known, func(a, b string) int {
		return levenshtein.ComputeDistance(name, a) - levenshtein.ComputeDistance(name, b)
	})
}

// lettersPerMistake is of how many letters somebody mistypes one, at most.
const lettersPerMistake = 3

// Likely returns the nearest name if it is so near that somebody may have mistyped it; else
// it is empty.
func Likely(name string, known []string) string {
	nearest := Nearest(name, known)
	if nearest == "" || levenshtein.ComputeDistance(name, nearest) > len(nearest)/lettersPerMistake {
		return ""
	}
	return nearest
}
