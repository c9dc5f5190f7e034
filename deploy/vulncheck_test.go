// Package deploy_test tries what is delivered beside the program.
package deploy_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// vulnerable is an entry of a vulnerability database: all of a package that scheduler uses.
const vulnerable = `{"schema_version": "1.3.1", "id": "GO-2000-0001", "modified": "2026-01-01T00:00:00Z", "published": "2026-01-01T00:00:00Z",
 "summary": "Made up", "details": "Made up.", "affected": [{
   "package": {"name": "github.com/bits-and-blooms/bitset", "ecosystem": "Go"},
   "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}]}],
   "ecosystem_specific": {"imports": [{"path": "github.com/bits-and-blooms/bitset"}]}}],
 "database_specific": {"url": "https://pkg.go.dev/vuln/GO-2000-0001"}}`

// TestVulnerabilitiesAreFound tries the check on a database that has one, which concerns one
// of two packages, and on one that cannot be reached.
func TestVulnerabilitiesAreFound(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "GO-2000-0001.json"), []byte(vulnerable), 0o600))
	known := "GOVULNDB=file://" + dir
	away := "HTTPS_PROXY=http://127.0.0.1:1"
	for _, c := range []struct {
		name, env string
		args      []string
		code      int
		says      string
	}{
		{"concerned", known, []string{"./scheduler"}, 3, "scheduler.planner"},
		{"also in lint", known, []string{"--may-be-away", "./scheduler"}, 3, "scheduler.planner"},
		{"not concerned", known, []string{"./shard"}, 0, "No vulnerabilities found"},
		{"away", away, []string{"./shard"}, 1, "NOTHING WAS CHECKED"},
		{"away in lint", away, []string{"--may-be-away", "./shard"}, 0, "NOTHING WAS CHECKED"},
		{"no such mirror", "GOVULNDB=file:///nonexistent", []string{"--may-be-away", "./shard"}, 1, "/nonexistent"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "./vulncheck", c.args...)
			cmd.Env = append(os.Environ(), "GOVULNDB=", c.env)
			out, err := cmd.CombinedOutput()
			code := 0
			if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
				code = exit.ExitCode()
			} else {
				require.NoError(t, err)
			}
			require.Equal(t, c.code, code, "%s", out)
			require.Contains(t, string(out), c.says)
		})
	}
}
