package sqldb

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// target is a parsed DSN.
type target struct {
	// name is what may be shown: no password in it.
	name string
	// mysql is nil for SQLite.
	mysql *mysql.Config
	path  string // SQLite file
	local bool
}

// parseDSN understands "sqlite:PATH" and the go-sql-driver form
// "user:password@tcp(host:port)/database?options", with or without "mysql:" in
// front.
func parseDSN(dsn string) (target, error) {
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		return parseSQLite(path)
	}
	cfg, err := mysql.ParseDSN(strings.TrimPrefix(dsn, "mysql:"))
	if err != nil || dsn == "" {
		// The driver's message may quote the DSN, and with it the password.
		return target{}, fmt.Errorf("%w: not of the form user@tcp(host:port)/database or sqlite:PATH (%s)", ErrDSN, dsnProblem(dsn))
	}
	if cfg.DBName == "" {
		return target{}, fmt.Errorf("%w: no database name; write user@tcp(host:port)/database", ErrDSN)
	}
	if _, port, err := net.SplitHostPort(cfg.Addr); err == nil && cfg.Net == "tcp" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return target{}, fmt.Errorf("%w: there is no port %q; it must be from 1 to 65535", ErrDSN, port)
		}
	}
	shown := *cfg
	shown.Passwd = ""
	return target{
		name:  "mysql:" + shown.User + "@" + shown.Net + "(" + shown.Addr + ")/" + shown.DBName,
		mysql: cfg,
		local: cfg.Net == "unix" || localAddress(cfg.Addr),
	}, nil
}

func dsnProblem(dsn string) string {
	if dsn == "" {
		return "it is empty"
	}
	if !strings.Contains(dsn, "/") {
		return "the slash before the database name is missing"
	}
	return "check brackets and options"
}

func parseSQLite(path string) (target, error) {
	path = strings.TrimPrefix(path, "//")
	if path == "" {
		return target{}, fmt.Errorf("%w: sqlite: needs a file path, like sqlite:data/lab.db", ErrDSN)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return target{}, fmt.Errorf("%w: %q: %w", ErrDSN, path, err)
	}
	return target{name: "sqlite:" + abs, path: abs, local: true}, nil
}

// Absolute writes a DSN so that it means the same database in whichever folder a process
// was started.
func Absolute(dsn string) (string, error) {
	t, err := parseDSN(dsn)
	if err != nil || t.mysql != nil {
		return dsn, err
	}
	return t.name, nil
}

// HasPassword tells whether a DSN carries a password, which does not belong on
// a command line.
func HasPassword(dsn string) bool {
	t, err := parseDSN(dsn)
	return err == nil && t.mysql != nil && t.mysql.Passwd != ""
}

// localAddress tells whether host:port is on this machine. Names other than
// localhost and the machine's own are not resolved: a guard must not depend on
// what a name server answers.
func localAddress(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	if own, err := os.Hostname(); err == nil && strings.EqualFold(host, own) {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// requireLocal is the guard against a test setup that writes to a production
// database (Autotest host_scheduler.py without --production).
func (t target) requireLocal(production bool) error {
	if production || t.local {
		return nil
	}
	return fmt.Errorf("%w: %s; give --production if this is meant", ErrNotLocal, t.name)
}
