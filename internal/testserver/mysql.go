package testserver

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// mysqlDirEnv names the folder of an unpacked MySQL.
const mysqlDirEnv = "HOSTSCHED_MYSQL_DIR"

// oldestMySQL is the first major version whose statements are tested.
const oldestMySQL = 8

// findMySQL looks for MySQL in two places, as deploy/install-test-deps does
// before it installs one: a mysqld on the PATH that is MySQL 8.0 or later (on
// many machines it is MariaDB's other name), and else the one that is unpacked
// in the folder HOSTSCHED_MYSQL_DIR, by default hostsched/mysql in the user's
// cache folder.
func findMySQL() (*program, error) {
	if daemon, err := exec.LookPath("mysqld"); err == nil && isMySQL(daemon) {
		return mysqlProgram(daemon, "--no-defaults"), nil
	}
	dir, err := mysqlDir()
	if err != nil {
		return nil, err
	}
	// An unpacked MySQL runs with the C library that it was built for, which is
	// unpacked beside it, and not with that of this machine.
	loaders, err := filepath.Glob(filepath.Join(dir, "usr/lib/*-linux-gnu/ld-linux-*.so.*"))
	if err != nil {
		return nil, err
	}
	daemon := filepath.Join(dir, "usr/sbin/mysqld")
	if _, err := os.Stat(daemon); err != nil || len(loaders) == 0 {
		return nil, fmt.Errorf("look for MySQL: no mysqld %d.0 or later on the PATH and none unpacked in %s; "+
			"'deploy/install-test-deps mysql' installs it, and 'make test DATABASE=mysql' calls that", oldestMySQL, dir)
	}
	return mysqlProgram(loaders[0], "--library-path", filepath.Dir(loaders[0]), daemon, "--no-defaults", "--basedir="+filepath.Join(dir, "usr"),
		"--lc-messages-dir="+filepath.Join(dir, "usr/share/mysql"), "--plugin-dir="+filepath.Join(dir, "usr/lib/mysql/plugin")), nil
}

// mysqlDir is the folder of an unpacked MySQL.
func mysqlDir() (string, error) {
	if dir := os.Getenv(mysqlDirEnv); dir != "" {
		return dir, nil
	}
	dir, err := cached("mysql")
	if err != nil {
		return "", fmt.Errorf("look for MySQL: %w; set %s to the folder where it is unpacked", err, mysqlDirEnv)
	}
	return dir, nil
}

// cached is where deploy/install-test-deps unpacks what it does not install.
func cached(name string) (string, error) {
	if cache, err := os.UserCacheDir(); err == nil {
		return filepath.Join(cache, "hostsched", name), nil
	}
	// Some build services set no HOME.
	me, err := user.Current()
	if err != nil {
		return "", err
	}
	return filepath.Join(me.HomeDir, ".cache/hostsched", name), nil
}

var mysqlVersion = regexp.MustCompile(`Ver (\d+)\.[\d.]+(?:-\S+)? for `)

// isMySQL tells MySQL from MariaDB and from versions that are too old.
func isMySQL(daemon string) bool {
	out, err := exec.Command(daemon, "--version").Output()
	if err != nil {
		return false
	}
	return isMySQLVersion(string(out))
}

// isMySQLVersion judges what mysqld --version prints. MariaDB's number is 10 or
// more, so its name has to be looked for, too.
func isMySQLVersion(text string) bool {
	m := mysqlVersion.FindStringSubmatch(text)
	if m == nil || mariadbName.MatchString(text) {
		return false
	}
	major, err := strconv.Atoi(m[1])
	return err == nil && major >= oldestMySQL
}

var mariadbName = regexp.MustCompile(`(?i)mariadb`)

// mysqlRoot lets root in over TCP, as MariaDB does: the server resolves no names,
// so that root@localhost is only who comes by the socket.
const mysqlRoot = "CREATE USER root@127.0.0.1; GRANT ALL ON *.* TO root@127.0.0.1 WITH GRANT OPTION;\n"

func mysqlProgram(command ...string) *program {
	return &program{
		command: command,
		options: []string{"--mysqlx=OFF", "--secure-file-priv=NULL", "--innodb-redo-log-capacity=512M"},
		initialise: func(user, data, tmp string) error {
			init := filepath.Join(tmp, "root.sql")
			if err := os.WriteFile(init, []byte(mysqlRoot), 0o600); err != nil {
				return err
			}
			args := slices.Concat(command[1:], []string{"--initialize-insecure", "--init-file=" + init, "--user=" + user, "--datadir=" + data, "--tmpdir=" + tmp,
				"--secure-file-priv=NULL", "--innodb-redo-log-capacity=16M"})
			return runQuietly(exec.Command(command[0], args...))
		},
	}
}
