package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/command"
)

// outOfBounds are values that no flag of a type may take.
var outOfBounds = map[string][]string{
	"int":      {"-1", "x", "", "1.5", "99999999999999999999"},
	"uint64":   {"-1", "x", "", "1.5", "99999999999999999999999"},
	"float":    {"-1", "x", "", "NaN", "Inf", "1e300"},
	"duration": {"-1s", "x", "", "5", "876000h", "9999999999h"},
	"bool":     {"maybe"},
	"format":   {"xml", ""},
	"policy":   {"fair", ""},
	"time":     {"-1h", "x", "", "5", "2001-01-01T00:00:00Z", "876000h"},
	// Any text is one; what it means is checked by the command.
	"string": nil, "list": nil, "strings": nil, "stringSlice": nil, "stringArray": nil, "stringToString": nil,
}

// TestEveryCommandRefusesBadInput walks all commands and all their flags: whatever is not
// understood is one line and exit code 2, and no database is opened or made. A flag that many
// commands have, as settings are, gets all bad values in one of them, and one of the values,
// each in its turn, in the others.
func TestEveryCommandRefusesBadInput(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOSTSCHED_DATABASE_DSN", "sqlite:"+filepath.Join(dir, "lab.db"))
	t.Setenv("XDG_CONFIG_HOME", dir)
	refused := func(path []string, args ...string) {
		t.Helper()
		want := exitInput
		switch path[0] {
		case "plan":
			want = exitPlanError
		case "run": // 2 would be its command's
			want = command.StatusFailed
		}
		var out, errs strings.Builder
		line := slices.Concat(path, args)
		require.Equal(t, want, run(t.Context(), line, &out, &errs), "%q: %s%s", line, &out, &errs)
		require.Equal(t, 1, strings.Count(errs.String(), "\n"), "%q: %s", line, &errs)
		require.Empty(t, out.String(), "%q", line)
	}
	commands, flags := 0, 0
	seen := map[string]int{}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		path := strings.Fields(cmd.CommandPath())[1:]
		commands++
		if len(path) > 0 {
			refused(path, "--nonsense")
			if !strings.HasSuffix(cmd.Use, "...") {
				refused(path, slices.Repeat([]string{"nonsense"}, 1+strings.Count(cmd.Use, " "))...)
			}
			cmd.Flags().VisitAll(func(f *pflag.Flag) {
				flags++
				values, known := outOfBounds[f.Value.Type()]
				require.True(t, known, "what may a %s not be? (--%s)", f.Value.Type(), f.Name)
				times := seen[f.Name+f.Usage]
				seen[f.Name+f.Usage]++
				if times > 0 && len(values) > 0 {
					values = values[times%len(values):][:1]
				}
				for _, value := range values {
					refused(path, "--"+f.Name+"="+value)
				}
			})
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	root := newRoot()
	walk(root)
	require.Greater(t, commands, 25)
	require.Greater(t, flags, 500)
	refused([]string{"nonsense"})
	refused([]string{"--nonsense"})

	for _, text := range []string{
		"dev --hosts 0", "dev --hosts 100000000000", "dev --replicas 0", "dev --ttl 0s", "dev --ttl 1500ms", "dev --kill-leader-every 1s --replicas 1",
		"audit --limit 0", "cluster history --limit 1001", "cluster status --watch --interval 0s",
		"shard switchover master --to any --yes --timeout 0s", "shard remove --row 0 --reason x --yes", "serve --database-dsn sqlite:", "check --database-dsn nonsense",
		"serve --standalone", "serve --etcd-embedded", "migrate copy", "migrate copy --from nonsense", "migrate copy --from sqlite:/nowhere/lab.db", "migrate copy --from u:p@tcp(db)/lab",
		"context use nonsense", "context add a", "context add a --server nonsense", "context add a --server http://", "context add a --server unix:lab.sock", "context add a --server http://u:p@lab",
		"whoami --server nonsense", "whoami --context nonsense", "whoami --token-file /nowhere", "whoami --columns nonsense", "whoami --server http://a --context b", "whoami --ca-file /nowhere", "logout",
		"token create a --role king", "token revoke", "token revoke 0", "token revoke 1", "token revoke x --yes", "token revoke --from /nowhere",
		"host add", "host add a --attribute x", "host import", "host import -f /nowhere", "host label a", "host acl a", "host list --locked x", "host list --status Redy", "host lock", "host lock a --forever", "host lock a --reason x", "host lock a --reason x --until 1h --forever",
		"host lock a --all-with-label b --forever --reason x", "host lock --all-with-label b --forever --reason x", "host drain a", "host drain a --reason x --abort", "host unlock", "host undrain", "host remove", "host remove a",
		"role add nonsense a viewer", "role add user a nonsense", "role remove nonsense a --yes", "role remove user a", "acl change a", "acl remove a", "label add", "label remove a", "user add", "user remove a",
		"job submit /nowhere", "job submit - --count 0", "job submit - --priority 3000000000", "job list --state nonsense", "job list --mine --owner x", "job show 0", "job show x", "job explain -- -1",
		"job wait 99999999999999999999", "job abort", "job abort 1", "job abort x --yes", "job requeue", "job requeue 1 x", "suite submit /nowhere", "suite show x", "suite abort 1", "event watch --after x", "event watch --job 0",
		"run", "run true", "run -- true", "run -l a --count 0 true", "run --host a --count 1 true", "run -l a --timeout -1s true", "run -l a", "run -l a --name", "run -l a --server nonsense true",
		"agent --config /nowhere", "agent nonsense", "api nonsense /hosts", "api GET hosts", "api GET http://lab/hosts", "api POST /jobs --input /nowhere",
		"etcd add a nonsense --yes", "etcd add a http://10.0.0.1 --yes", "etcd add a/b http://10.0.0.1:2380 --yes", "etcd remove a",
	} {
		refused(strings.Fields(text))
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestReasonsAreNotLongerThanTheirRecord: every command that asks for one refuses it before
// it opens a database.
func TestReasonsAreNotLongerThanTheirRecord(t *testing.T) {
	t.Setenv("HOSTSCHED_DATABASE_DSN", "sqlite:"+filepath.Join(t.TempDir(), "lab.db"))
	for _, command := range append([]string{"fence adopt master --yes"}, commandsThatChange...) {
		var out, errs strings.Builder
		args := append(strings.Fields(command), "--reason", strings.Repeat("x", 5001))
		require.Equal(t, exitInput, run(t.Context(), args, &out, &errs), command)
		require.Contains(t, errs.String(), "--reason has 5001 characters, at most 5000 are stored", command)
		require.Equal(t, 1, strings.Count(errs.String(), "\n"), command)
	}
}
