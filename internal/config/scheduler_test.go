package config

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/scheduler"
)

// TestPolicy: a lab of its own wastes no host unless somebody wants otherwise, and beside
// Autotest everything is as it was.
func TestPolicy(t *testing.T) {
	c, err := loadFile(t, "")
	require.NoError(t, err)
	require.Equal(t, scheduler.PolicyOptimal, c.Scope().Rules.Policy)
	require.Zero(t, c.Scope().Rules.Aging)

	c, err = loadFile(t, "scheduler: {policy: exact, aging: 2.5}\n")
	require.NoError(t, err)
	require.Equal(t, scheduler.PolicyExact, c.Scope().Rules.Policy)
	require.InDelta(t, 2.5, c.Scope().Rules.Aging, 0)

	c, err = loadAutotest(t, webSection, "")
	require.NoError(t, err)
	require.Equal(t, scheduler.PolicyExact, c.Scope().Rules.Policy)

	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, globalConfig), []byte(webSection), 0o600))
	c, err = loadFile(t, "scheduler: {policy: optimal}\n", "--autotest-config", dir)
	require.NoError(t, err)
	require.Equal(t, scheduler.PolicyOptimal, c.Scope().Rules.Policy, "our own file wins")

	for setting, want := range map[string]string{
		"scheduler.policy=best": `"best" is not exact or optimal`,
		"scheduler.policy=":     `is not exact or optimal`,
		"scheduler.aging=-1":    "out of bounds",
		"scheduler.aging=NaN":   "out of bounds",
		"scheduler.aging=soon":  "not a number",
	} {
		err := load(t, setting)
		require.ErrorIs(t, err, ErrConfig, setting)
		require.ErrorContains(t, err, want, setting)
	}
}
