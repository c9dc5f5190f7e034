package spelling

import (
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// Nearest returns the known name that takes the fewest changes to write, before all others one
// that begins with the name; empty if there is none. Of equal ones it is the first.
func Nearest(name string, known []string) string {
	if begun := slices.DeleteFunc(slices.Clone(known), func(k string) bool { return !abbreviates(name, k) }); len(begun) > 0 {
		known = begun
	}
	if len(known) == 0 {
		return ""
	}
	return slices.MinFunc(known, func(a, b string) int {
		return levenshtein.ComputeDistance(name, a) - levenshtein.ComputeDistance(name, b)
	})
}

// fewestLetters make an abbreviation.
const fewestLetters = 3

func abbreviates(name, known string) bool {
	return len(name) >= fewestLetters && strings.HasPrefix(known, name)
}

// lettersPerMistake is of how many letters somebody mistypes one, at most.
const lettersPerMistake = 3

// Likely returns the nearest name if it is so near that somebody may have mistyped or
// abbreviated it; else it is empty.
func Likely(name string, known []string) string {
	nearest := Nearest(name, known)
	if abbreviates(name, nearest) || nearest != "" && levenshtein.ComputeDistance(name, nearest) <= len(nearest)/lettersPerMistake {
		return nearest
	}
	return ""
}
