package lab

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEventKindsAreKnown: whatever is noted in the journal can be asked for, and nothing else is
// a kind.
func TestEventKindsAreKnown(t *testing.T) {
	var nouns []string
	for _, kind := range eventKinds {
		noun, _, _ := strings.Cut(kind, ".")
		nouns = append(nouns, noun)
	}
	literal := regexp.MustCompile(`"((?:` + strings.Join(slices.Compact(nouns), "|") + `)\.[a-z_]+)"`)
	noted := []string{"agent.run", "agent.drain", "agent.stop"} // made of what is wanted of the agent
	for _, dir := range []string{".", "../runs", "../../store", "../../store/admin"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") || file == "event_kinds.go" {
				continue
			}
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			for _, found := range literal.FindAllStringSubmatch(string(text), -1) {
				noted = append(noted, found[1])
			}
		}
	}
	slices.Sort(noted)
	require.Equal(t, slices.Compact(noted), eventKinds)
}

func TestCheckKind(t *testing.T) {
	for _, kind := range []string{"", "host.locked", "host.", "agent.run"} {
		require.NoError(t, EventFilter{Kind: kind}.CheckKind(), kind)
	}
	for kind, want := range map[string]string{"host.lockd": "host.locked", "host": "host.locked", "hots.locked": "host.", "host.lo.": "host.locked", ".": "host."} {
		err := EventFilter{Kind: kind}.CheckKind()
		require.ErrorIs(t, err, ErrInput, kind)
		require.ErrorContains(t, err, want, kind)
	}
}
