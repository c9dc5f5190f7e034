package main

import (
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// TestFlagsTakeDays: also the bounds of those that are out of them are told in days.
func TestFlagsTakeDays(t *testing.T) {
	var d time.Duration
	cmd := &cobra.Command{}
	bind(cmd, &d, "for", 0, time.Minute, 7*24*time.Hour, "")
	require.NoError(t, cmd.Flags().Set("for", "2d"))
	require.Equal(t, 48*time.Hour, d)
	require.ErrorContains(t, cmd.Flags().Set("for", "30d"), "30d is out of bounds; it must be from 1m0s to 7d")
	require.ErrorContains(t, cmd.Flags().Set("for", "x"), `"x" is not a duration, like 50ms, 5s, 1h30m or 2d`)

	code, _, errs := runCommand(t, "serve", "--standalone", "--oidc-session", "9999d")
	require.Equal(t, exitInput, code)
	require.Contains(t, errs, "9999d is out of bounds")
}
