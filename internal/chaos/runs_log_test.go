package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLogFaults: a log that has all lines in order is whole, and each way in which it is not is
// found.
func TestLogFaults(t *testing.T) {
	lines := func(run string, numbers ...int) string {
		var b strings.Builder
		for _, n := range numbers {
			b.WriteString(logLine(run, n))
		}
		return b.String()
	}
	all := lines("7", 1, 2, 3)
	for name, test := range map[string]struct {
		text  string
		whole bool
		want  string
	}{
		"all of it":                  {all, true, ""},
		"one that was not noted yet": {lines("7", 1, 2, 3, 4), true, ""},
		"nothing of what was said":   {"", true, "0 of 3 lines are there"},
		"the end is missing":         {lines("7", 1, 2), true, "2 of 3 lines are there"},
		"the end of a lost run":      {lines("7", 1, 2), false, ""},
		"half a line":                {all[:len(all)-9], true, "line 3 is"},
		"half a line of a lost run":  {all[:len(all)-9], false, ""},
		"a gap":                      {lines("7", 1, 3), false, "line 2 is"},
		"a part twice":               {lines("7", 1, 2, 2, 3), false, "line 3 is"},
		"a part of another run":      {lines("7", 1) + lines("8", 2), false, "line 2 is"},
		"no room":                    {all[:len(all)-9] + logCut + ", after 9 bytes]\n", true, ""},
		"a gap, and no room":         {lines("7", 1, 3) + logCut, true, "line 2 is"},
	} {
		t.Run(name, func(t *testing.T) {
			fault := logFault(test.text, "7", 3, test.whole)
			require.Equal(t, test.want == "", fault == "", fault)
			require.Contains(t, fault, test.want)
		})
	}
}
