package scheduler_test

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// allowedImports are all that the pure packages may use. No database, network,
// context, logger or clock is among them.
var allowedImports = map[string]bool{
	"cmp": true, "encoding/binary": true, "errors": true, "fmt": true, "maps": true, "math": true,
	"slices": true, "strconv": true, "strings": true, "unicode": true, "unicode/utf8": true,
	"github.com/bits-and-blooms/bitset": true,
}

// TestPurity forbids the planner and the shard rules to know anything of the
// outside world.
func TestPurity(t *testing.T) {
	for _, dir := range []string{".", "../shard"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			require.NoError(t, err)
			for _, imp := range f.Imports {
				path := strings.Trim(imp.Path.Value, `"`)
				require.Truef(t, allowedImports[path], "%s imports %s", file, path)
			}
		}
	}
}

// layers lists which packages of ours each package may import. Dependencies
// point one way.
var layers = map[string][]string{
	"scheduler":           {},
	"shard":               {},
	"store/sqldb":         {},
	"store/schema":        {"store/sqldb"},
	"store":               {"store/sqldb", "scheduler", "shard"},
	"store/admin":         {"store", "store/sqldb", "scheduler", "shard"},
	"election":            {"scheduler", "shard"},
	"internal/embedetcd":  {},
	"internal/config":     {"store", "store/sqldb", "scheduler", "shard"},
	"internal/replica":    {"store", "store/admin", "election", "scheduler", "shard"},
	"internal/cluster":    {"internal/replica", "store", "store/admin", "election", "scheduler", "shard"},
	"internal/metrics":    {"internal/replica", "store", "store/admin", "election", "scheduler", "shard"},
	"internal/web":        {"internal/replica", "internal/metrics", "store", "election", "scheduler", "shard"},
	"internal/simlab":     {"scheduler", "shard"},
	"internal/storetest":  {"internal/testserver", "internal/simlab", "store", "store/admin", "store/schema", "store/sqldb", "scheduler", "shard"},
	"internal/child":      {},
	"internal/testserver": {"internal/child", "internal/embedetcd"},
}

func TestDependenciesPointOneWay(t *testing.T) {
	const module = "github.com/hostsched/hostsched/"
	for dir, allowed := range layers {
		files, err := filepath.Glob(filepath.Join("..", dir, "*.go"))
		require.NoError(t, err)
		require.NotEmpty(t, files, dir)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			require.NoError(t, err)
			for _, imp := range f.Imports {
				if ours, ok := strings.CutPrefix(strings.Trim(imp.Path.Value, `"`), module); ok {
					require.Containsf(t, allowed, ours, "%s imports %s", file, ours)
				}
			}
		}
	}
}
