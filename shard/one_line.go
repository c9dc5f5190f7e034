package shard

import "strings"

// OneLine is what an error says, on one line: joined errors are separated by line breaks, and a
// text that is shown in a row, told in JSON or kept in a history is read as one sentence after
// the other. Names go through [Printable] instead, because two that differ must stay different.
func OneLine(text string) string {
	if !strings.Contains(text, "\n") {
		return text
	}
	var parts []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			parts = append(parts, line)
		}
	}
	return strings.Join(parts, "; ")
}
