package shard

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable makes every character of a text visible and keeps it on one line: what people
// see must not end a line, move the cursor, or hide that two names differ. Whatever is no
// printable character is written as in a Go string.
func Printable(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if r != utf8.RuneError && unicode.IsPrint(r) {
			b.WriteString(s[:size])
		} else {
			quoted := strconv.Quote(s[:size])
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[size:]
	}
	return b.String()
}
