package store

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestStatField: the command of a process may contain whatever it likes.
func TestStatField(t *testing.T) {
	for _, command := range []string{"(hostsched)", "(a b)", "(a) T (b)", "(a) ) )"} {
		stat := "17 " + command + " S 1 2 3"
		require.Equal(t, "S", statField(stat, 2), command)
		require.Equal(t, "3", statField(stat, 5), command)
		require.Empty(t, statField(stat, 6), command)
	}
	require.Empty(t, statField("", 2))
}
