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

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// commandBlock is a part of a guide that is run: fenced, and marked as sh.
var commandBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// guidesWithCommands are those whose commands are run, from the first to the last in one shell.
var guidesWithCommands = []string{"../README.md", "first-lab.md", "maintenance.md", "security.md", "autotest.md", "agents.md", "growing.md", "operations.md", "capacity.md"}

// TestGuides runs the commands of the guides as somebody would who pastes them.
func TestGuides(t *testing.T) {
	for _, name := range guidesWithCommands {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join("../../docs", name))
			require.NoError(t, err)
			var script strings.Builder
			for _, block := range commandBlock.FindAllSubmatch(text, -1) {
				script.Write(block[1])
			}
			require.NotEmpty(t, script.String())
			if name == "autotest.md" {
				folder, dsn := labOfAutotest(t)
				runGuide(t, strings.ReplaceAll(script.String(), "/usr/local/autotest", folder), "HOSTSCHED_DATABASE_DSN="+dsn)
				return
			}
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

// labOfAutotest returns the folder with the configuration of a lab that Autotest made, and its
// database.
func labOfAutotest(t *testing.T) (folder, dsn string) {
	t.Helper()
	folder = t.TempDir()
	const settings = "[AUTOTEST_WEB]\nhost: localhost\ndatabase: chromeos_autotest_db\nuser: chromeosqa\n[SCHEDULER]\nminimum_tick_sec: 0.5\n"
	require.NoError(t, os.WriteFile(filepath.Join(folder, "global_config.ini"), []byte(settings), 0o600))
	dsn = storetest.SQLiteFile(t)
	db, err := store.Open(t.Context(), sqldb.Config{DSN: dsn, Create: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	_, err = schema.Up(t.Context(), db.DB, schema.Options{})
	require.NoError(t, err)
	_, err = schema.Down(t.Context(), db.DB, schema.Options{})
	require.NoError(t, err)
	storetest.Exec(t, db, "DROP TABLE hostsched_lab_schema") // now it is somebody else's
	_, err = simlab.Create(t.Context(), db.SQL(), simlab.Spec{Seed: 1, Hosts: 40, Boards: 2, Suites: 4, Entries: 50})
	require.NoError(t, err)
	return folder, dsn
}

// runGuide runs a script in an empty folder, with an address of its own for the server.
func runGuide(t *testing.T, script string, environment ...string) {
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
	const end = "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n"
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euxo", "pipefail", "-c", end+strings.ReplaceAll(script, "127.0.0.1:8470", address))
	cmd.Dir = work
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+work, asProgram+"=1", "HOSTSCHED_LISTEN="+address)
	cmd.Env = append(cmd.Env, environment...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Run(), "%s", &out)
}
