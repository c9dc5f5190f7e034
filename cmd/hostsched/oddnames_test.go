package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// oddNames are names that nothing in a lab has: characters of control, separators, what is no
// UTF-8, and what is too long.
var oddNames = []string{"a\nb", "a\tb", "\x1b[31mred", "a\x00b", "a/b", "../..", "\xff\xfe", strings.Repeat("x", 300), " "}

// leaves are all commands that do something, with their paths.
func leaves() map[string]*cobra.Command {
	out := map[string]*cobra.Command{}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
		if path, _ := strings.CutPrefix(cmd.CommandPath(), "hostsched "); !cmd.HasSubCommands() {
			out[path] = cmd
		}
	}
	walk(newRoot())
	return out
}

// refusal runs a command that must be refused: with one line, the exit code of bad input, and
// nothing on standard output.
func refusal(t *testing.T, line []string) string {
	t.Helper()
	want := exitInput
	if line[0] == "plan" {
		want = exitPlanError
	}
	var out, errs strings.Builder
	require.Equal(t, want, run(t.Context(), line, &out, &errs), "%q: %s%s", line, &out, &errs)
	require.Equal(t, 1, strings.Count(errs.String(), "\n"), "%q: %s", line, &errs)
	require.Empty(t, out.String(), "%q", line)
	return errs.String()
}

// TestOddNamesAreRefused: every command refuses names that nothing has, in one line, and writes
// nothing. Hidden commands are called by hostsched itself. Which members there are etcd alone knows, and what the API takes its
// server says (internal/api tests it), so those commands are not among them.
func TestOddNamesAreRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lab.db")
	t.Setenv("HOSTSCHED_DATABASE_DSN", "sqlite:"+file)
	t.Setenv("HOSTSCHED_ETCD_ENDPOINTS", "http://127.0.0.1:1")
	var out, errs strings.Builder
	require.Equal(t, exitOK, run(t.Context(), []string{"migrate", "up"}, &out, &errs), &errs)
	before, err := os.ReadFile(file)
	require.NoError(t, err)
	named := 0
	all := leaves()
	for _, path := range slices.Sorted(maps.Keys(all)) {
		cmd := all[path]
		words := strings.Fields(cmd.Use)[1:]
		if cmd.Hidden || len(words) == 0 || strings.HasPrefix(words[0], "-") || strings.HasPrefix(path, "help") || strings.HasPrefix(path, "etcd ") || cmd.Flags().Lookup("token-file") != nil {
			continue
		}
		args := strings.Fields(path)
		args = append(args, agreed(cmd)...)
		for _, name := range oddNames {
			named++
			line := append(slices.Clone(args), "--", name)
			if path == "shard assign-label" {
				line = append(line, name)
			}
			refusal(t, line)
		}
	}
	require.Greater(t, named, 90)
	for _, name := range oddNames {
		refusal(t, []string{"shard", "assign-label", "--reason=test", "--yes", "--", "master", name})
		refusal(t, []string{"shard", "switchover", "--yes", "--to=" + name, "master"})
	}
	after, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, before, after, "nothing is written")
}

// TestConfigurationThatIsNone: without a configuration, and with a folder in its place, every
// command that needs one says so in one line.
func TestConfigurationThatIsNone(t *testing.T) {
	t.Setenv("HOSTSCHED_DATABASE_DSN", "")
	dir := t.TempDir()
	read := 0
	all := leaves()
	for _, path := range slices.Sorted(maps.Keys(all)) {
		cmd := all[path]
		if cmd.Flags().Lookup("config") == nil {
			continue
		}
		read++
		args := strings.Fields(path)
		args = append(args, namedIn(cmd)...)
		args = append(args, agreed(cmd)...)
		text := refusal(t, append(slices.Clone(args), "--config="+dir))
		require.Contains(t, text, dir)
		refusal(t, append(slices.Clone(args), "--config="+filepath.Join(dir, "missing.yaml")))
	}
	require.Greater(t, read, 20)
}

// namedIn are arguments for a command that takes some, which a lab could have.
func namedIn(cmd *cobra.Command) (args []string) {
	for _, word := range strings.Fields(cmd.Use)[1:] {
		switch {
		case word == "PEER-URL":
			args = append(args, "http://127.0.0.1:1")
		case strings.ToUpper(word) != word || word == "|" || strings.HasPrefix(word, "-") || strings.HasPrefix(word, "["):
			return args
		default:
			args = append(args, "x")
		}
	}
	return args
}

// agreed are the flags without which a command does not begin.
func agreed(cmd *cobra.Command) (args []string) {
	for _, flag := range []string{"--yes=true", "--reason=test", "--to=any", "--from=sqlite:x.db", "--add=afe", "--force=true"} {
		name, _, _ := strings.Cut(flag[2:], "=")
		if f := cmd.Flags().Lookup(name); f != nil && f.DefValue != "true" {
			args = append(args, flag)
		}
	}
	return args
}
