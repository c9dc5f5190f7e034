package testserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
)

// shared is the server that all tests of a package use.
var shared struct {
	server  *Server
	hostile bool // whether the server gets hostile defaults
	number  atomic.Int64
}

// Main runs a package's tests with one server of the chosen kind for all of them.
// Call it from TestMain.
func Main(m *testing.M) { os.Exit(Run(m)) }

// MainWithoutLeaks is Main for packages whose tests must not leave goroutines
// behind.
func MainWithoutLeaks(m *testing.M) { goleak.VerifyTestMain(withServer{m}) }

// withServer runs tests as Run does.
type withServer struct{ tests *testing.M }

func (w withServer) Run() int { return Run(w.tests) }

// Run is Main for a TestMain that has more to do; it returns the exit code.
func Run(m interface{ Run() int }) (code int) {
	kind, err := Chosen()
	if err != nil {
		fmt.Fprintln(os.Stderr, "choose a database for the tests:", err)
		return 2
	}
	if kind == SQLite {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "hostsched-"+string(kind)+"-")
	if err == nil {
		err = startShared(kind, dir)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "start %s for the tests: %v\n", kind, errors.Join(err, os.RemoveAll(dir)))
		return 1
	}
	defer func() {
		if err := errors.Join(shared.server.Stop(), os.RemoveAll(dir)); err != nil {
			fmt.Fprintf(os.Stderr, "stop %s: %v\n", kind, err)
			code = 1
		}
	}()
	return m.Run()
}

func startShared(kind Kind, dir string) error {
	if err := makeTemplate(kind, dir); err != nil {
		return err
	}
	var err error
	shared.server, err = Start(kind, filepath.Join(dir, "shared"))
	if err != nil || !shared.hostile {
		return err
	}
	return shared.server.beHostile()
}

// Shared returns the server that Main started. A test that needs a server ends
// here if the tests were told to run on SQLite alone.
func Shared(t testing.TB) *Server {
	t.Helper()
	// The go command's cache of test results heeds only those variables that are
	// read while tests run, and Main reads this one before.
	if kind, err := Chosen(); err == nil && kind == SQLite {
		t.Skipf("this test needs a database server, and %s=%s starts none", kindEnv, SQLite)
	}
	if shared.server == nil {
		t.Fatal("the shared database server needs a TestMain that calls testserver.Main")
	}
	return shared.server
}

// Database creates an empty database on the shared server and returns its DSN.
// The database is dropped when the test ends.
func Database(t testing.TB) string {
	t.Helper()
	server := Shared(t)
	name := fmt.Sprintf("lab%d", shared.number.Add(1))
	dsn, err := server.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := server.admin.Exec("DROP DATABASE " + name); err != nil {
			t.Error(err)
		}
	})
	return dsn
}

// StartAnother starts a second server of the same kind as the shared one, and
// stops it when the test ends. More options of the server may be given.
func StartAnother(t testing.TB, options ...string) *Server {
	t.Helper()
	return startAnother(t, func(kind Kind, dir string) (*Server, error) { return Start(kind, dir, options...) })
}

func startAnother(t testing.TB, start func(kind Kind, dir string) (*Server, error)) *Server {
	t.Helper()
	kind := Shared(t).Kind
	// Not t.TempDir: its path may be too long for a socket.
	dir, err := os.MkdirTemp("", "hostsched-"+string(kind)+"-")
	if err != nil {
		t.Fatal(err)
	}
	server, err := start(kind, dir)
	if err != nil {
		t.Fatal(errors.Join(err, os.RemoveAll(dir)))
	}
	t.Cleanup(func() {
		if err := errors.Join(server.Stop(), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	return server
}

// User creates a user with a password and some rights on the database of a DSN,
// and returns the user's DSN. The user is dropped when the test ends.
func User(t testing.TB, dsn, name, password, rights string) string {
	t.Helper()
	server := Shared(t)
	database := dsn[strings.LastIndex(dsn, "/")+1:]
	account := "'" + name + "'@'127.0.0.1'"
	for _, text := range []string{
		"CREATE USER " + account + " IDENTIFIED BY '" + password + "'",
		"GRANT " + rights + " ON " + database + ".* TO " + account,
	} {
		if _, err := server.admin.Exec(text); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if _, err := server.admin.Exec("DROP USER " + account); err != nil {
			t.Error(err)
		}
	})
	return server.DSN(database, name, password)
}
