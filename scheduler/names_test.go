package scheduler_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// foldsCase says where the code may pass over the difference of capitals, and of what.
// Whether two names of the lab are the same is not among it: that is the decision of the
// database, whose collation may also pass over accents and trailing blanks, or over nothing.
var foldsCase = map[string]string{
	"scheduler/synch.go":          "the order in which hosts of one job start",
	"cmd/hostsched/api.go":        "methods of HTTP",
	"cmd/hostsched/consent.go":    "an answer",
	"cmd/hostsched/display.go":    "titles of columns",
	"cmd/hostsched/job.go":        "the ending of a file",
	"internal/apiframe/walls.go":  "the scheme of a request's authorization",
	"internal/config/autotest.go": "true and false, in Autotest's files",
	"internal/config/config.go":   "names of environment variables",
	"internal/config/ini.go":      "keys of Autotest's files",
	"internal/config/setting.go":  "names of environment variables",
	"internal/console/funcs.go":   "statuses, as badges show them",
	"internal/console/logs.go":    "the search in a log",
	"internal/lab/names.go":       "levels of protection",
	"internal/testresults/tap.go": "directives of TAP",
	"internal/testserver/smtp.go": "verbs of SMTP",
	"store/schema/check.go":       "names of tables",
	"store/snapshot_tables.go":    "names of tables",
	"store/sqldb/connect.go":      "names of session variables",
	"store/sqldb/dsn.go":          "names of machines in the network",
	"store/sqldb/identity.go":     "names of status variables",
	"store/sqldb/session.go":      "names of session variables",
}

// TestNamesAreComparedByTheDatabase finds every place that folds the case of a text.
func TestNamesAreComparedByTheDatabase(t *testing.T) {
	found := map[string]string{}
	err := filepath.WalkDir("..", func(file string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		name, err := filepath.Rel("..", file)
		require.NoError(t, err)
		ast.Inspect(parsed, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && folds(sel.Sel.Name) {
				found[name] = foldsCase[name]
				require.NotEmptyf(t, foldsCase[name], "%s calls %s: the database says which names are the same", name, sel.Sel.Name)
			}
			return true
		})
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, foldsCase, found, "what is listed, and what is there")
}

// folds tells whether a function of strings, bytes, unicode or golang.org/x/text folds case.
func folds(function string) bool {
	switch function {
	case "ToLower", "ToUpper", "ToTitle", "EqualFold", "SimpleFold", "Fold", "ToLowerSpecial", "ToUpperSpecial":
		return true
	}
	return false
}
