package agent

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestProgramIsUnmapped: pages of the program's file go, and come back when they are needed.
func TestProgramIsUnmapped(t *testing.T) {
	before := mappedFiles(t)
	for range 3 {
		require.NoError(t, unmapProgram())
		after := mappedFiles(t)
		require.Less(t, after, before)
	}
}

// mappedFiles is how much of files this process has in memory, in kB.
func mappedFiles(t *testing.T) int {
	text, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "RssFile:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			require.NoError(t, err)
			return kb
		}
	}
	t.Fatal("no RssFile in /proc/self/status")
	return 0
}
