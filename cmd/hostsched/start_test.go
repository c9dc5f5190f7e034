package main

import (
	"database/sql"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
)

// backWithin is how long after its database a waiting replica may lead.
const backWithin = 5 * time.Second

// newReplica is a replica apart from any installation, not started yet.
func newReplica(t *testing.T, dsn string, args ...string) *server {
	t.Helper()
	port, err := testserver.FreePort()
	require.NoError(t, err)
	in := &installation{dsn: dsn, endpoint: testserver.Etcd(t).Endpoint, logDir: t.TempDir(), args: args}
	s := &server{in: in, name: "alone", dsn: dsn, listen: "127.0.0.1:" + strconv.Itoa(port), endpoint: in.endpoint, program: os.Args[0]}
	in.replicas = []*server{s}
	t.Cleanup(func() {
		if t.Failed() {
			in.printLogs(t)
		}
		s.stop(t)
	})
	return s
}

func (s *server) log(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.in.logDir, s.name))
	require.NoError(t, err)
	return string(text)
}

// waits waits until the replica says over HTTP and in its log why it waits.
func (s *server) waits(t *testing.T, reason string) {
	t.Helper()
	require.Eventually(t, func() bool {
		code, ready, ok := s.get("/readyz")
		return ok && code == http.StatusServiceUnavailable && strings.Contains(ready, reason)
	}, patience, 10*time.Millisecond, "readyz says why it is not ready")
	require.Eventually(t, func() bool {
		code, health, ok := s.get("/healthz")
		return ok && code == http.StatusOK && strings.Contains(health, reason)
	}, patience, 10*time.Millisecond, "nothing is wrong with a replica that waits, which healthz says with the reason")
	require.Contains(t, s.log(t), reason)
}

func (s *server) leadsWithin(t *testing.T, d time.Duration) {
	t.Helper()
	require.Eventually(t, func() bool {
		st, ok := s.status()
		return ok && st.State == replica.StateLeader && st.Ticks > 0
	}, d, 10*time.Millisecond, "leads")
}

// exits waits for the end of a process and returns its exit code.
func (s *server) exits(t *testing.T, within time.Duration) int {
	t.Helper()
	began := time.Now()
	s.wait(t)
	require.Less(t, time.Since(began), within)
	return s.cmd.ProcessState.ExitCode()
}

// TestStartBeforeTheDatabase starts a replica while its database, or that of the
// servers, is down.
func TestStartBeforeTheDatabase(t *testing.T) {
	main := testserver.Database(t)
	storetest.NewLab(t, main)
	down := testserver.StartAnother(t)
	own, err := down.Create("lab")
	require.NoError(t, err)
	storetest.NewLab(t, own)
	for name, replica := range map[string]*server{
		"main":    newReplica(t, own),
		"servers": newReplica(t, main, "--servers-dsn", own),
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, down.Kill())
			replica.start(t)
			replica.waits(t, "database unreachable")
			require.NoError(t, down.Restart())
			replica.leadsWithin(t, backWithin)
		})
	}
}

func TestTheEndWhileWaiting(t *testing.T) {
	s := newReplica(t, "u@tcp(127.0.0.1:1)/lab")
	s.start(t)
	s.waits(t, "connection refused")
	s.signal(t, syscall.SIGTERM)
	require.Zero(t, s.exits(t, 2*time.Second))
}

// TestStartWithoutRoom waits while the server has no connection left.
func TestStartWithoutRoom(t *testing.T) {
	dsn := testserver.Database(t)
	storetest.NewLab(t, dsn)
	user := testserver.User(t, dsn, "crowded", "sesame", "ALL")
	admin := testserver.Shared(t).Admin()
	_, err := admin.Exec("ALTER USER 'crowded'@'127.0.0.1' WITH MAX_USER_CONNECTIONS 1")
	require.NoError(t, err)
	taken, err := sql.Open("mysql", user)
	require.NoError(t, err)
	require.NoError(t, taken.Ping())
	t.Cleanup(func() { require.NoError(t, taken.Close()) })
	s := newReplica(t, user)
	s.start(t)
	s.waits(t, "more connections")
	_, err = admin.Exec("ALTER USER 'crowded'@'127.0.0.1' WITH MAX_USER_CONNECTIONS 0")
	require.NoError(t, err)
	s.leadsWithin(t, backWithin)
}

// TestStartOnWhatIsWrong ends with 2: nobody but a person can mend it.
func TestStartOnWhatIsWrong(t *testing.T) {
	server, dsn := testserver.Shared(t), testserver.Database(t)
	for name, c := range map[string]struct{ dsn, text string }{
		"not migrated":     {dsn, "migrate up"},
		"no such user":     {server.DSN("mysql", "nobody", ""), "check user"},
		"no such database": {server.DSN("nowhere", "root", ""), "database name"},
		"no TLS":           {dsn + "?tls=true", "tls"},
		"unknown option":   {dsn + "?foo=bar", "option"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out := program(t, c.dsn, "serve", "--listen", "127.0.0.1:0")
			require.Equal(t, exitInput, code, out)
			require.Contains(t, strings.ToLower(out), c.text)
		})
	}
}

// TestStartOnAServerThatTakesNoChanges: a read-only server, also for a user who
// could write, and one whose binary log cannot record our transactions.
func TestStartOnAServerThatTakesNoChanges(t *testing.T) {
	db := testserver.StartAnother(t, "--log-bin=bin", "--server-id=1")
	dsn, err := db.Create("lab")
	require.NoError(t, err)
	storetest.NewLab(t, dsn)
	before := tables(t, db)
	for name, c := range map[string]struct {
		set, reset string
		texts      []string
	}{
		"read-only":        {"read_only = 1", "read_only = 0", []string{"read-only", "may be written to"}},
		"STATEMENT binlog": {"binlog_format = 'STATEMENT'", "binlog_format = 'ROW'", []string{"binlog_format", "ROW or MIXED"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := db.Admin().Exec("SET GLOBAL " + c.set)
			require.NoError(t, err)
			for _, args := range [][]string{{"serve", "--listen", "127.0.0.1:0"}, {"migrate", "up"}} {
				code, out := program(t, dsn, args...)
				require.Equal(t, exitInput, code, out)
				for _, text := range c.texts {
					require.Contains(t, out, text)
				}
			}
			code, out := program(t, dsn, "plan")
			require.Zero(t, code, out)
			_, err = db.Admin().Exec("SET GLOBAL " + c.reset)
			require.NoError(t, err)
			require.Equal(t, before, tables(t, db), "nothing was written")
		})
	}
}

// tables counts the rows of what a start could write.
func tables(t *testing.T, db *testserver.Server) (n [3]int) {
	t.Helper()
	require.NoError(t, db.Admin().QueryRow("SELECT (SELECT COUNT(*) FROM lab.hostsched_fence), (SELECT COUNT(*) FROM lab.hostsched_terms), (SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'lab')").Scan(&n[0], &n[1], &n[2]))
	return n
}

// TestStartOnAServerWithAnotherVersion: what a server says of its version decides
// nothing, neither in its variables, which only MariaDB can be told, nor in the greeting
// of a connection, which proxies write.
func TestStartOnAServerWithAnotherVersion(t *testing.T) {
	servers := map[string]func() (dsn string, err error){
		"greeting": func() (string, error) { return otherGreeting(t, testserver.Database(t)), nil },
	}
	kind := "MySQL "
	if testserver.Shared(t).Kind == testserver.MariaDB {
		kind = "MariaDB "
		for _, version := range []string{"5.7.44-log", "8.0.36", "10.11.6-log"} {
			servers[version] = func() (string, error) { return testserver.StartAnother(t, "--version="+version).Create("lab") }
		}
	}
	for version, begin := range servers {
		t.Run(version, func(t *testing.T) {
			dsn, err := begin()
			require.NoError(t, err)
			code, out := program(t, dsn, "migrate", "up")
			require.Zero(t, code, out)
			require.Contains(t, out, kind)
			if version != "greeting" {
				require.Contains(t, out, kind+version)
			}
			s := newReplica(t, dsn)
			s.start(t)
			s.leadsWithin(t, patience)
		})
	}
}

// otherGreeting returns a DSN of the same database by way of a proxy, which greets with
// another version: every digit of it is 1.
func otherGreeting(t *testing.T, dsn string) string {
	t.Helper()
	cfg, err := mysql.ParseDSN(dsn)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := cfg.Addr
	var copies sync.WaitGroup
	copies.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			copies.Go(func() { greetOtherwise(client, server) })
		}
	})
	t.Cleanup(func() {
		require.NoError(t, listener.Close())
		copies.Wait() // the replica has ended by then, and so have its connections
	})
	cfg.Addr = listener.Addr().String()
	return cfg.FormatDSN()
}

// greetOtherwise passes everything on between a client and a server until either hangs up,
// but for the digits in the first bytes of the server.
func greetOtherwise(client net.Conn, address string) {
	defer func() { _ = client.Close() }() // it may be closed already
	server, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	// Four bytes of header, one with the version of the protocol, and a text that ends with 0.
	greeting := make([]byte, 512)
	n, err := server.Read(greeting)
	if err != nil {
		return
	}
	for i := 5; i < n && greeting[i] != 0; i++ {
		if greeting[i] >= '0' && greeting[i] <= '9' {
			greeting[i] = '1'
		}
	}
	if _, err := client.Write(greeting[:n]); err != nil {
		return
	}
	go func() {
		defer func() { _ = server.Close() }()
		_, _ = io.Copy(server, client) // ends when either hangs up
	}()
	_, _ = io.Copy(client, server)
}

// TestMigrateUpThatStopsHalfWay: the exit code tells an error after which nothing is
// written from one after which something is.
func TestMigrateUpThatStopsHalfWay(t *testing.T) {
	dsn, admin := testserver.Database(t), testserver.Shared(t).Admin()
	database := dsn[strings.LastIndex(dsn, "/")+1:]
	user := testserver.User(t, dsn, "halfway", "sesame", "SELECT, INSERT, UPDATE, DELETE")
	made := func() (n int) {
		require.NoError(t, admin.QueryRow("SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = ?", database).Scan(&n))
		return n
	}
	code, out := program(t, user, "migrate", "up")
	require.Equal(t, exitInput, code, out)
	require.Zero(t, made())

	grant := func(rights string) {
		_, err := admin.Exec("GRANT " + rights + " ON " + database + ".* TO 'halfway'@'127.0.0.1'")
		require.NoError(t, err)
	}
	grant("CREATE, DROP, REFERENCES") // the guard needs ALTER
	code, out = program(t, user, "migrate", "up")
	require.Equal(t, exitFailed, code, out)
	require.Contains(t, out, "still to be done")
	require.Contains(t, out, "something may have been written")
	require.NotZero(t, made())

	grant("ALTER")
	code, out = program(t, user, "migrate", "up")
	require.Zero(t, code, out)
}

// program runs a command as a process, and returns its exit code and output.
func program(t *testing.T, dsn string, args ...string) (code int, out string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "HOSTSCHED_DATABASE_DSN="+dsn)
	text, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return cmd.ProcessState.ExitCode(), string(text)
}
