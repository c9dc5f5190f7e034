package testserver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql" // registers the driver "mysql"

	"github.com/hostsched/hostsched/internal/child"
	"github.com/hostsched/hostsched/internal/embedetcd"
)

// MariaDB is a private server with an empty root password.
type MariaDB struct {
	Dir    string
	Socket string
	Port   int

	cmd   *exec.Cmd
	exit  *child.Exit
	admin *sql.DB
}

// startTimeout bounds the start of a server on a slow machine.
const startTimeout = time.Minute

var shared struct {
	server *MariaDB
	number atomic.Int64
}

// Main runs a package's tests with one MariaDB server for all of them. Call it
// from TestMain.
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run is Main for a TestMain that has more to do; it returns the exit code.
func Run(m interface{ Run() int }) (code int) {
	dir, err := os.MkdirTemp("", "hostsched-mariadb-")
	if err == nil {
		shared.server, err = StartMariaDB(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "start MariaDB for the tests:", err)
		return 1
	}
	defer func() {
		if err := errors.Join(shared.server.Stop(), os.RemoveAll(dir)); err != nil {
			fmt.Fprintln(os.Stderr, "stop MariaDB:", err)
			code = 1
		}
	}()
	return m.Run()
}

// Database creates an empty database on the shared server and returns its DSN.
// The database is dropped when the test ends.
func Database(t testing.TB) string {
	t.Helper()
	if shared.server == nil {
		t.Fatal("testserver.Database needs a TestMain that calls testserver.Main")
	}
	name := fmt.Sprintf("lab%d", shared.number.Add(1))
	dsn, err := shared.server.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := shared.server.admin.Exec("DROP DATABASE " + name); err != nil {
			t.Error(err)
		}
	})
	return dsn
}

// User creates a user with a password and some rights on the database of a DSN,
// and returns the user's DSN. The user is dropped when the test ends.
func User(t testing.TB, dsn, name, password, rights string) string {
	t.Helper()
	database := dsn[strings.LastIndex(dsn, "/")+1:]
	account := "'" + name + "'@'127.0.0.1'"
	for _, text := range []string{
		"CREATE USER " + account + " IDENTIFIED BY '" + password + "'",
		"GRANT " + rights + " ON " + database + ".* TO " + account,
	} {
		if _, err := shared.server.admin.Exec(text); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if _, err := shared.server.admin.Exec("DROP USER " + account); err != nil {
			t.Error(err)
		}
	})
	return shared.server.DSN(database, name, password)
}

// Shared returns the server that Main started.
func Shared() *MariaDB { return shared.server }

// StartMariaDB initialises a data folder and starts a server on it.
func StartMariaDB(dir string) (*MariaDB, error) {
	daemon, err := exec.LookPath("mariadbd")
	if err != nil {
		return nil, fmt.Errorf("%w; install it with 'apt-get install -y mariadb-server', or run 'make test', which does", err)
	}
	me, err := user.Current()
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	install := exec.Command("mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db",
		"--user="+me.Username, "--datadir="+data, "--innodb-log-file-size=16M")
	if out, err := install.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("mariadb-install-db: %w\n%s", err, out)
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	m := &MariaDB{Dir: dir, Socket: filepath.Join(dir, "s"), Port: port}
	m.cmd = exec.Command(daemon, "--no-defaults", "--user="+me.Username, "--datadir="+data, "--socket="+m.Socket,
		fmt.Sprintf("--port=%d", port), "--bind-address=127.0.0.1", "--skip-log-bin", "--skip-name-resolve",
		"--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=512M", "--innodb-log-file-size=256M",
		"--max-connections=300", "--pid-file="+filepath.Join(dir, "pid"), "--log-error="+filepath.Join(dir, "log"))
	if m.exit, err = child.Start(m.cmd); err != nil {
		return nil, err
	}
	return m, m.waitReady()
}

func (m *MariaDB) waitReady() error {
	admin, err := sql.Open("mysql", m.DSN("", "root", ""))
	if err != nil {
		return err
	}
	m.admin = admin
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		if err = admin.PingContext(ctx); err == nil {
			return nil
		}
		select {
		case <-m.exit.Done():
			log, _ := os.ReadFile(filepath.Join(m.Dir, "log"))
			return fmt.Errorf("mariadbd ended at start: %w\n%s", m.exit.Err(), log)
		case <-ctx.Done():
			return fmt.Errorf("mariadbd does not answer: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Create makes an empty utf8mb4 database and returns root's DSN for it.
func (m *MariaDB) Create(name string) (string, error) {
	if _, err := m.admin.Exec("CREATE DATABASE " + name + " DEFAULT CHARACTER SET utf8mb4"); err != nil {
		return "", err
	}
	return m.DSN(name, "root", ""), nil
}

// DSN returns the DSN of a database for a user, over TCP.
func (m *MariaDB) DSN(database, user, password string) string {
	return fmt.Sprintf("%s:%s@tcp(127.0.0.1:%d)/%s", user, password, m.Port, database)
}

// Admin is root's connection pool.
func (m *MariaDB) Admin() *sql.DB { return m.admin }

// Stop ends the server and waits for it.
func (m *MariaDB) Stop() error {
	err := m.admin.Close()
	if serr := m.cmd.Process.Signal(syscall.SIGTERM); serr != nil {
		return errors.Join(err, serr)
	}
	select {
	case <-m.exit.Done():
		return errors.Join(err, m.exit.Err())
	case <-time.After(startTimeout):
		return errors.Join(err, errors.New("mariadbd does not end"), m.cmd.Process.Kill())
	}
}

// FreePort returns a port that nobody listens on.
func FreePort() (int, error) {
	addr, err := embedetcd.FreeAddr()
	if err != nil {
		return 0, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(port)
}
