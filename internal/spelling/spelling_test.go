package spelling_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/spelling"
)

func TestNearest(t *testing.T) {
	known := []string{"lab-east", "lab-west", "master"}
	require.Equal(t, "lab-east", spelling.Nearest("lab-esat", known))
	require.Equal(t, "master", spelling.Nearest("mast", known))
	require.Empty(t, spelling.Nearest("lab-esat", nil))
	require.Equal(t, "lab-east", spelling.Likely("lab-esat", known))
	require.Equal(t, "master", spelling.Likely("maste", known))
	require.Empty(t, spelling.Likely("nowhere", known))
	keys := []string{"env", "labels", "name", "priority"}
	require.Equal(t, "priority", spelling.Nearest("prio", keys))
	require.Equal(t, "priority", spelling.Likely("prio", keys))
	require.Empty(t, spelling.Likely("x", keys))
	require.Empty(t, spelling.Likely("", keys))
	require.Empty(t, spelling.Likely("x", nil))
}
