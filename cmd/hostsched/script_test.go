package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
)

// TestScripts runs the command lines in testdata as a person would type them.
func TestScripts(t *testing.T) {
	exe, err := os.Executable()
	require.NoError(t, err)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			// `exec hostsched` runs the program under test.
			bin := filepath.Join(env.WorkDir, "bin")
			if err := os.Mkdir(bin, 0o755); err != nil {
				return err
			}
			if err := os.Symlink(exe, filepath.Join(bin, "hostsched")); err != nil {
				return err
			}
			env.Setenv("PATH", bin+":"+env.Getenv("PATH"))
			env.Setenv(asProgram, "1")
			env.Setenv("HOME", env.WorkDir)
			// Scripts run side by side.
			env.Setenv("HOSTSCHED_LISTEN", "127.0.0.1:0")
			return nil
		},
	})
}
