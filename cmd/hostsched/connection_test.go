package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestNoLabIsNamed: whoever names no lab, and has none on this machine, is told how.
func TestNoLabIsNamed(t *testing.T) {
	address, sockets := defaultAddress, defaultSockets
	defaultAddress, defaultSockets = "http://127.0.0.1:1", nil
	t.Cleanup(func() { defaultAddress, defaultSockets = address, sockets })
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("HOSTSCHED_SERVER", "")
	var out, errs bytes.Buffer
	require.Equal(t, exitAway, run(t.Context(), []string{"whoami"}, &out, &errs))
	require.Contains(t, errs.String(), "name the lab with --server, HOSTSCHED_SERVER or 'hostsched context add'")
}
