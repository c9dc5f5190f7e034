package testserver

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// Promtool returns the path of promtool: on the PATH, or where deploy/install-test-deps
// unpacks it.
func Promtool(t testing.TB) string {
	if path, err := exec.LookPath("promtool"); err == nil {
		return path
	}
	path, err := cached("promtool")
	require.NoError(t, err, "look for promtool")
	_, err = os.Stat(path)
	require.NoError(t, err, "promtool is missing; 'deploy/install-test-deps promtool' installs it, and 'make test' calls that")
	return path
}
