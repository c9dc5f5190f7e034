package dev

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestThisProgram is found whatever name it was told, and under the one of a link by which it was
// called.
func TestThisProgram(t *testing.T) {
	own, err := os.Executable()
	require.NoError(t, err)
	before := os.Args[0]
	defer func() { os.Args[0] = before }()
	folder := t.TempDir()
	t.Setenv("PATH", folder)

	os.Args[0] = "hostsched"
	found, err := thisProgram()
	require.NoError(t, err)
	require.Equal(t, own, found, "nothing of that name is there")

	called := filepath.Join(folder, "hostsched")
	require.NoError(t, os.WriteFile(called, []byte("#!/bin/sh\n"), 0o700))
	found, err = thisProgram()
	require.NoError(t, err)
	require.Equal(t, own, found, "another program has that name")

	require.NoError(t, os.Remove(called))
	require.NoError(t, os.Symlink(own, called))
	found, err = thisProgram()
	require.NoError(t, err)
	require.Equal(t, called, found)
}
