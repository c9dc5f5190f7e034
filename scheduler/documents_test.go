package scheduler_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// named is a package or a test in a document: `store`, or TestGolden. A name that begins
// with an ellipsis has the beginning of the one before.
var named = regexp.MustCompile("`([a-z]+(?:/[a-z]+)*)`|\\b((?:Test|Fuzz)[A-Z]\\w*)|…([A-Z]\\w*)")

// TestNamedTestsExist compares the tests that documents name as a proof with those that there
// are: each in the package that is named before it on the line.
func TestNamedTestsExist(t *testing.T) {
	tests := testsOf(t)
	for _, document := range []string{"../ARCHITECTURE.md", "../docs/proof.md", "../docs/operations.md", "../docs/development.md", "../README.md"} {
		text, err := os.ReadFile(document)
		require.NoError(t, err)
		for line := range strings.Lines(string(text)) {
			dir, former := "", ""
			for _, m := range named.FindAllStringSubmatch(line, -1) {
				name := m[2]
				switch {
				case m[1] != "":
					if tests[m[1]] != nil {
						dir = m[1]
					}
					continue
				case m[3] != "":
					require.True(t, endsLike(tests[dir], former, m[3]), "%s: %s has no test like %s that ends with %s: %s", document, dir, former, m[3], line)
					continue
				}
				former = name
				if dir != "" {
					require.True(t, tests[dir][name], "%s: %s has no %s: %s", document, dir, name, line)
					continue
				}
				require.True(t, anywhere(tests, name), "%s: there is no %s: %s", document, name, line)
			}
		}
	}
}

// endsLike tells whether a test begins as another one does and ends as it is said.
func endsLike(tests map[string]bool, like, end string) bool {
	for name := range tests {
		if begin, ok := strings.CutSuffix(name, end); ok && begin != "" && strings.HasPrefix(like, begin) {
			return true
		}
	}
	return false
}

func anywhere(tests map[string]map[string]bool, name string) bool {
	for _, of := range tests {
		if of[name] {
			return true
		}
	}
	return false
}

// testsOf finds the tests of each package, by its folder. A folder without tests has none.
func testsOf(t *testing.T) map[string]map[string]bool {
	t.Helper()
	out := map[string]map[string]bool{}
	err := filepath.WalkDir("..", func(file string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(file) != ".go" {
			return err
		}
		dir, err := filepath.Rel("..", filepath.Dir(file))
		require.NoError(t, err)
		if out[dir] == nil {
			out[dir] = map[string]bool{}
		}
		if !strings.HasSuffix(file, "_test.go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
				out[dir][f.Name.Name] = true
			}
		}
		return nil
	})
	require.NoError(t, err)
	return out
}
