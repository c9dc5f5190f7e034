package storetest

import (
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/testserver"
)

// Right is what a user may do to a table of the lab, "*" for all.
type Right struct{ Verb, Table string }

var grant = regexp.MustCompile(`(?m)^    GRANT ([A-Z, ]+) ON lab\.(\S+) TO scheduler@'%';$`)

// DocumentedRights are those that docs/operations.md asks for under a heading.
func DocumentedRights(t testing.TB, heading string) (rights []Right) {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	require.True(t, ok)
	text, err := os.ReadFile(filepath.Join(filepath.Dir(file), "..", "..", "docs", "operations.md"))
	require.NoError(t, err)
	_, part, found := strings.Cut(string(text), "\n"+heading+"\n")
	require.True(t, found, heading)
	part, _, _ = strings.Cut(part, "\n## ")
	part, _, _ = strings.Cut(part, "\n### ")
	for _, m := range grant.FindAllStringSubmatch(part, -1) {
		for verb := range strings.SplitSeq(m[1], ", ") {
			rights = append(rights, Right{verb, m[2]})
		}
	}
	require.NotEmpty(t, rights)
	return rights
}

// UserWithRights makes a user who has just these rights on the database of a DSN, and
// returns the user's DSN.
func UserWithRights(t testing.TB, dsn string, rights []Right) string {
	t.Helper()
	user := testserver.User(t, dsn, "scheduler", "sesame", "EXECUTE")
	Account(t, dsn, "REVOKE EXECUTE ON lab.* FROM")
	for _, r := range rights {
		Account(t, dsn, "GRANT "+r.Verb+" ON lab."+r.Table+" TO")
	}
	return user
}

// Account changes the rights of that user: a statement like "GRANT SELECT ON lab.* TO".
func Account(t testing.TB, dsn, statement string) {
	t.Helper()
	database := dsn[strings.LastIndex(dsn, "/")+1:]
	_, err := testserver.Shared(t).Admin().Exec(strings.ReplaceAll(statement, "lab.", database+".") + " 'scheduler'@'127.0.0.1'")
	require.NoError(t, err, statement)
}
