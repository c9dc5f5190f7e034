package testserver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	_ "github.com/go-sql-driver/mysql" // registers the driver "mysql"

	"github.com/hostsched/hostsched/internal/child"
	"github.com/hostsched/hostsched/internal/embedetcd"
)

// Server is a private MariaDB or MySQL server with an empty root password.
type Server struct {
	Kind Kind
	Dir  string
	Port int

	cmd   *exec.Cmd
	exit  *child.Exit
	admin *sql.DB
	env   []string // the process's; nil: this one's
	// rejoin returns the arguments with which a server of a cluster starts again; nil
	// if they are the same.
	rejoin func(args []string) ([]string, error)
}

// program is an installed server.
type program struct {
	command    []string // the program and what comes before all other arguments
	options    []string // what only servers of this kind understand
	initialise func(user, data, tmp string) error
}

// find finds the program of a kind of server.
func find(kind Kind) (*program, error) {
	switch kind {
	case MariaDB:
		return findMariaDB()
	case MySQL:
		return findMySQL()
	default:
		return nil, fmt.Errorf("start a database server of kind %q: only %s and %s are servers", kind, MariaDB, MySQL)
	}
}

// startTimeout bounds the start of a server on a slow machine.
const startTimeout = time.Minute

// Start starts a server whose files are all in the folder dir. More options of the
// server may be given, like --sql-mode=ANSI.
func Start(kind Kind, dir string, options ...string) (*Server, error) {
	s, err := prepare(kind, dir, options...)
	if err != nil {
		return nil, err
	}
	return s, s.run()
}

// prepare makes a server that is not started yet. Options are added to its command
// line.
func prepare(kind Kind, dir string, options ...string) (*Server, error) {
	p, err := find(kind)
	if err != nil {
		return nil, err
	}
	me, err := user.Current()
	if err != nil {
		return nil, err
	}
	data, tmp := filepath.Join(dir, "data"), filepath.Join(dir, "tmp")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.Mkdir(tmp, 0o700)); err != nil {
		return nil, err
	}
	if err := fillData(kind, p, me.Username, data, tmp); err != nil {
		return nil, fmt.Errorf("initialise %s in %s: %w", kind, dir, err)
	}
	s := &Server{Kind: kind, Dir: dir}
	if s.Port, err = FreePort(); err != nil {
		return nil, err
	}
	args := slices.Concat(p.command[1:], []string{
		"--user=" + me.Username, "--datadir=" + data,
		// Servers that share a folder for temporary files remove each other's.
		"--tmpdir=" + tmp,
		"--socket=" + filepath.Join(dir, "s"), fmt.Sprintf("--port=%d", s.Port), "--bind-address=127.0.0.1", "--skip-name-resolve", "--max-connections=300",
		"--pid-file=" + filepath.Join(dir, "pid"), "--log-error=" + filepath.Join(dir, "log.err"),
		"--skip-log-bin", "--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=512M",
	}, p.options, options)
	s.cmd = exec.Command(p.command[0], args...)
	s.admin, err = sql.Open("mysql", s.DSN("", "root", "")+harmless(kind))
	return s, err
}

// run starts the process and waits until it answers.
func (s *Server) run() (err error) {
	s.cmd.Env = s.env
	if s.exit, err = child.Start(s.cmd); err != nil {
		return err
	}
	if err := s.waitReady(); err != nil {
		return errors.Join(err, s.cmd.Process.Kill())
	}
	return nil
}

// Pid is the number of the server's process.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Signal sends the server a signal, such as SIGSTOP.
func (s *Server) Signal(sig syscall.Signal) error { return s.cmd.Process.Signal(sig) }

// Kill ends the server with SIGKILL and waits for it.
func (s *Server) Kill() error {
	if s.exit == nil {
		return nil // it was never started
	}
	if err := s.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-s.exit.Done()
	s.exit = nil
	return nil
}

// Restart starts a server again that was killed, on the same port and data.
func (s *Server) Restart() (err error) {
	args := s.cmd.Args[1:]
	if s.rejoin != nil {
		if args, err = s.rejoin(args); err != nil {
			return err
		}
	}
	s.cmd = exec.Command(s.cmd.Path, args...)
	return s.run()
}

// template is a data folder that was initialised by the shared server of this
// process; other servers of the same kind begin with a copy, which takes a
// fraction of the time.
var template struct {
	sync.Mutex
	kind Kind
	dir  string
}

// fillData makes the data folder of a new server.
func fillData(kind Kind, p *program, user, data, tmp string) error {
	template.Lock()
	defer template.Unlock()
	if template.kind != kind {
		return p.initialise(user, data, tmp)
	}
	if err := os.CopyFS(data, os.DirFS(template.dir)); err != nil {
		return err
	}
	// MySQL's identity, which it makes up if there is none: a standby has another one.
	if err := os.Remove(filepath.Join(data, "auto.cnf")); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// makeTemplate initialises a data folder in dir that servers can copy.
func makeTemplate(kind Kind, dir string) error {
	p, err := find(kind)
	if err != nil {
		return err
	}
	me, err := user.Current()
	if err != nil {
		return err
	}
	data, tmp := filepath.Join(dir, "template"), filepath.Join(dir, "template-tmp")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return err
	}
	if err := p.initialise(me.Username, data, tmp); err != nil {
		return fmt.Errorf("initialise %s in %s: %w", kind, dir, err)
	}
	template.Lock()
	defer template.Unlock()
	template.kind, template.dir = kind, data
	return nil
}

// runQuietly runs a command whose output matters only if it fails.
func runQuietly(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}

func (s *Server) waitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		err := s.admin.PingContext(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.exit.Done():
			log, _ := os.ReadFile(filepath.Join(s.Dir, "log.err"))
			return fmt.Errorf("%s ended at start: %w\n%s", s.Kind, s.exit.Err(), log)
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer on port %d: %w", s.Kind, s.Port, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Create makes an empty utf8mb4 database and returns root's DSN for it.
func (s *Server) Create(name string) (string, error) {
	if _, err := s.admin.Exec("CREATE DATABASE " + name + " DEFAULT CHARACTER SET utf8mb4"); err != nil {
		return "", err
	}
	return s.DSN(name, "root", ""), nil
}

// DSN returns the DSN of a database for a user, over TCP.
func (s *Server) DSN(database, user, password string) string {
	return fmt.Sprintf("%s:%s@tcp(127.0.0.1:%d)/%s", user, password, s.Port, database)
}

// Admin is root's connection pool.
func (s *Server) Admin() *sql.DB { return s.admin }

// Stop ends the server and waits for it.
func (s *Server) Stop() error { return errors.Join(s.admin.Close(), s.end()) }

// end ends the process in an orderly way.
func (s *Server) end() error {
	if s.exit == nil {
		return nil // it was killed, or never started
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.exit.Done():
		return s.exit.Err()
	case <-time.After(startTimeout):
		return errors.Join(fmt.Errorf("%s does not end", s.Kind), s.cmd.Process.Kill())
	}
}

func (s *Server) data() string { return filepath.Join(s.Dir, "data") }

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
