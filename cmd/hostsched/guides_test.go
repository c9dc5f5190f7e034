package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/testserver"
)

// commandBlock is a part of a guide that is run: fenced, and marked as sh.
var commandBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// guidesWithCommands are those whose commands are run, from the first to the last in one shell.
var guidesWithCommands = []string{"first-lab.md", "maintenance.md", "security.md"}

// TestGuides runs the commands of the guides as somebody would who pastes them.
func TestGuides(t *testing.T) {
	for _, name := range guidesWithCommands {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join("../../docs", name))
			require.NoError(t, err)
			var script strings.Builder
			for _, block := range commandBlock.FindAllSubmatch(text, -1) {
				script.Write(block[1])
			}
			require.NotEmpty(t, script.String())
			runGuide(t, script.String())
		})
	}
}

// TestCommandBlocksAreRun: no guide has commands in such a block that nothing runs.
func TestCommandBlocksAreRun(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		if commandBlock.Match(text) {
			require.Contains(t, guidesWithCommands, filepath.Base(file))
		}
	}
}

// runGuide runs a script in an empty folder, with an address of its own for the server.
func runGuide(t *testing.T, script string) {
	// Not t.TempDir: its path may be too long for a socket.
	dir, err := os.MkdirTemp("", "guide")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	port, err := testserver.FreePort()
	require.NoError(t, err)
	address := "127.0.0.1:" + strconv.Itoa(port)
	bin := filepath.Join(dir, "bin")
	require.NoError(t, os.Mkdir(bin, 0o755))
	exe, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.Symlink(exe, filepath.Join(bin, "hostsched")))
	work := filepath.Join(dir, "work")
	require.NoError(t, os.Mkdir(work, 0o755))

	// What was begun in the background ends with the script.
	const end = "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n"
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euxo", "pipefail", "-c", end+strings.ReplaceAll(script, "127.0.0.1:8470", address))
	cmd.Dir = work
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+work, asProgram+"=1", "HOSTSCHED_LISTEN="+address)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Run(), "%s", &out)
}
