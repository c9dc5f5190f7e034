package config

import (
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/hostsched/hostsched/shard"
)

// oneLine is a writer for records of hclog, each written at once: a value of several lines,
// which hclog spreads over lines of their own, is put back into the record's line, so that
// whoever reads line by line, such as journald, sees each record as one.
type oneLine struct{ io.Writer }

// spread is how hclog writes a value of several lines in text format.
var spread = regexp.MustCompile(`\n  (\S+)=\n((?:  \| .*\n)+) *`)

// faults are the keys of values that say what went wrong, and not how something is named.
var faults = []string{"error", "reason", "cause", "because"}

// Write implements io.Writer.
func (w oneLine) Write(record []byte) (int, error) {
	text := spread.ReplaceAllStringFunc(string(record), func(found string) string {
		parts := spread.FindStringSubmatch(found)
		var lines []string
		for line := range strings.Lines(parts[2]) {
			lines = append(lines, strings.TrimSuffix(strings.TrimPrefix(line, "  | "), "\n"))
		}
		text := strings.Join(lines, `\n`)
		if slices.Contains(faults, parts[1]) {
			text = shard.OneLine(strings.Join(lines, "\n"))
		}
		return " " + parts[1] + `="` + strings.ReplaceAll(text, `"`, `\"`) + `" `
	})
	if text = strings.TrimRight(text, " \n") + "\n"; text == "\n" {
		return len(record), nil
	}
	_, err := io.WriteString(w.Writer, text)
	return len(record), err
}
