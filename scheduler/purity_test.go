package scheduler_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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

// TestPurity forbids the planner and the rules for shards to import anything that reaches
// the outside world, because a plan must follow from its snapshot alone.
func TestPurity(t *testing.T) {
	for _, dir := range []string{".", "../shard", "../internal/suspicion", "../internal/access", "../internal/lifecycle"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, path := range importsOf(t, file) {
				pure := allowedImports[path] || path == "github.com/hostsched/hostsched/scheduler"
				require.Truef(t, pure, "%s imports %s", file, path)
			}
		}
	}
}

// layers lists which packages of this module each package imports. A new package, or
// a new import between two packages, needs a change here.
var layers = map[string][]string{
	"scheduler":           {},
	"shard":               {},
	"election/recurring":  {},
	"election":            {"shard"},
	"store/sqldb":         {},
	"store/schema":        {"store/sqldb"},
	"store":               {"store/sqldb", "scheduler", "shard"},
	"store/admin":         {"store", "store/sqldb", "scheduler", "shard"},
	"internal/child":      {},
	"internal/command":    {},
	"internal/ownrun":     {"internal/agentclient", "internal/command", "internal/labapi", "internal/runlog"},
	"internal/embedetcd":  {},
	"internal/certs":      {},
	"internal/traceid":    {},
	"internal/tracing":    {"internal/replica", "internal/traceid", "shard"},
	"internal/spelling":   {},
	"internal/durations":  {},
	"internal/testserver": {"internal/child", "internal/embedetcd"},
	"internal/simlab":     {},
	"internal/paperlab":   {"scheduler"},
	"internal/storetest":  {"internal/testserver", "internal/simlab", "store", "store/admin", "store/schema", "store/sqldb", "scheduler", "shard"},
	"internal/config":     {"internal/certs", "internal/durations", "internal/embedetcd", "internal/spelling", "store", "store/schema", "store/sqldb", "election", "scheduler", "shard"},
	"internal/suspicion":  {},
	"internal/peers":      {"internal/certs", "internal/suspicion"},
	"internal/replica":    {"election/recurring", "store", "store/admin", "store/sqldb", "election", "scheduler", "shard"},
	"internal/cluster":    {"internal/certs", "internal/peers", "internal/replica", "internal/roles", "internal/suspicion", "election/recurring", "store", "store/admin", "election", "scheduler", "shard"},
	"internal/roles":      {"store/admin", "election"},
	"internal/metrics":    {"internal/certs", "internal/replica", "store", "store/admin", "election", "shard"},
	"internal/notify":     {"internal/replica", "store", "store/admin", "shard"},
	"internal/queuetimes": {"internal/replica", "election/recurring", "shard"},
	"internal/web":        {"internal/certs", "internal/replica", "scheduler", "shard"},
	"internal/ops": {"internal/certs", "internal/config", "internal/embedetcd", "internal/replica", "internal/roles", "internal/signin", "internal/spelling", "internal/web", "election/recurring", "store", "store/admin", "store/schema", "store/sqldb",
		"election", "scheduler", "shard"},
	"internal/dev": {"internal/agent", "internal/child", "internal/embedetcd", "internal/lab", "internal/labapi", "internal/labclient", "internal/lifecycle", "internal/replica", "internal/simlab", "internal/web",
		"store", "store/schema", "store/sqldb", "shard"},
	"internal/bench": {"internal/agentclient", "internal/child", "internal/embedetcd", "internal/labapi", "internal/labclient", "internal/paperlab", "internal/replica", "internal/simlab", "internal/testserver", "internal/web",
		"store", "store/schema", "store/sqldb", "scheduler", "shard"},
	"internal/chaos": {"internal/access", "internal/agentclient", "internal/child", "internal/embedetcd", "internal/lab", "internal/labapi", "internal/labclient", "internal/replica", "internal/simlab", "internal/testserver", "internal/web",
		"store", "store/admin", "store/schema", "store/sqldb", "election", "scheduler", "shard"},
	"internal/access":      {},
	"internal/labapi":      {},
	"internal/selector":    {},
	"internal/lifecycle":   {"scheduler"},
	"internal/labclient":   {"internal/traceid", "internal/labapi"},
	"internal/runlog":      {"internal/agentclient", "internal/command", "internal/labapi"},
	"internal/shim":        {"internal/command", "internal/labapi", "internal/runlog"},
	"internal/agent":       {"internal/agentclient", "internal/command", "internal/labapi", "internal/labclient", "internal/runfiles", "internal/runlog", "internal/shim", "internal/testresults"},
	"internal/runfiles":    {"internal/agentclient", "internal/labapi", "internal/testresults"},
	"internal/testresults": {"internal/labapi"},
	"internal/agentclient": {"internal/labapi", "internal/labclient"},
	"internal/runs":        {"internal/traceid", "internal/access", "internal/jobspec", "internal/lab", "internal/labapi", "internal/lifecycle", "scheduler", "store/sqldb"},
	"internal/lab":         {"internal/traceid", "internal/access", "internal/jobspec", "internal/labapi", "internal/selector", "scheduler", "shard", "store", "store/admin", "store/schema", "store/sqldb"},
	"internal/signin":      {},
	"internal/apiframe":    {"store/sqldb"},
	"internal/api":         {"internal/traceid", "internal/access", "internal/apiframe", "internal/jobspec", "internal/lab", "internal/ops", "internal/labapi", "internal/runs", "internal/selector", "internal/signin", "election/recurring", "shard"},
	"internal/browser":     {},
	"internal/screenshots": {"internal/browser", "internal/child", "internal/dev", "internal/labapi", "internal/labclient"},
	"internal/console":     {"internal/access", "internal/api", "internal/apiframe", "internal/durations", "internal/lab", "internal/labapi", "internal/ops"},
	"internal/api/openapi": {"internal/api", "internal/jobspec"},
	"internal/jobspec":     {"internal/durations", "internal/labapi", "internal/spelling"},
	"internal/app": {"internal/tracing", "internal/access", "internal/agentapi", "internal/api", "internal/certs", "internal/cluster", "internal/config", "internal/console", "internal/embedetcd", "internal/lab", "internal/labapi", "internal/metrics", "internal/notify", "internal/ops", "internal/peers", "internal/queuetimes", "internal/replica", "internal/runs", "internal/signin",
		"internal/web", "election/recurring", "store", "store/admin", "store/schema", "store/sqldb", "election", "scheduler", "shard"},
	"cmd/hostsched": {"internal/traceid", "internal/agent", "internal/agentclient", "internal/app", "internal/command", "internal/config", "internal/dev", "internal/durations", "internal/jobspec", "internal/labapi", "internal/labclient", "internal/ops", "internal/ownrun", "internal/selector", "internal/shim", "scheduler", "store", "store/admin", "store/schema", "store/sqldb",
		"election", "shard"},

	"internal/agentapi":         {"internal/apiframe", "internal/lab", "internal/labapi", "internal/runs", "election/recurring"},
	"internal/agentapi/openapi": {"internal/agentapi"},
}

// height says in which layer a package is. A package may import those of lower layers,
// and those of its own layer that share its folder, such as another package of internal.
func height(dir string) int {
	if dir == "internal/app" {
		return 3
	}
	return map[string]int{"cmd": 4, "internal": 2, "store": 1, "election": 1}[folder(dir)]
}

func TestDependenciesPointOneWay(t *testing.T) {
	for dir, imports := range layers {
		for _, imported := range imports {
			sibling := height(imported) == height(dir) && folder(imported) == folder(dir)
			require.Truef(t, height(imported) < height(dir) || sibling, "%s must not import %s", dir, imported)
		}
	}
}

// folder is the first element of a package's path.
func folder(dir string) string {
	top, _, _ := strings.Cut(dir, "/")
	return top
}

// TestLayersAreComplete compares the table with the files of the repository.
func TestLayersAreComplete(t *testing.T) {
	found := ownImports(t)
	require.ElementsMatch(t, slices.Collect(maps.Keys(found)), slices.Collect(maps.Keys(layers)), "packages, and those listed in layers")
	for dir, imports := range found {
		require.ElementsMatchf(t, imports, layers[dir], "what %s imports, and what layers says", dir)
	}
}

// ownImports finds all packages of this module, and which of them each imports outside
// of its tests.
func ownImports(t *testing.T) map[string][]string {
	const module = "github.com/hostsched/hostsched/"
	found := map[string][]string{}
	err := filepath.WalkDir("..", func(file string, d fs.DirEntry, err error) error {
		if file != ".." && d != nil && d.IsDir() && isFile(filepath.Join(file, "go.mod")) {
			return fs.SkipDir // a module of its own
		}
		if err != nil || filepath.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") {
			return err
		}
		dir, err := filepath.Rel("..", filepath.Dir(file))
		require.NoError(t, err)
		imports := found[dir]
		for _, path := range importsOf(t, file) {
			if own, ok := strings.CutPrefix(path, module); ok && !slices.Contains(imports, own) {
				imports = append(imports, own)
			}
		}
		found[dir] = imports
		return nil
	})
	require.NoError(t, err)
	return found
}

func importsOf(t *testing.T, file string) []string {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	require.NoError(t, err)
	paths := make([]string, len(f.Imports))
	for i, imported := range f.Imports {
		paths[i], err = strconv.Unquote(imported.Path.Value)
		require.NoError(t, err)
	}
	return paths
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
