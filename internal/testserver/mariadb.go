package testserver

import (
	"fmt"
	"os/exec"
)

// findMariaDB looks for MariaDB on the PATH. A MariaDB server is not used under
// its other name, mysqld.
func findMariaDB() (*program, error) {
	daemon, err := exec.LookPath("mariadbd")
	if err != nil {
		return nil, fmt.Errorf("look for MariaDB: %w; 'deploy/install-test-deps mariadb' installs it, and 'make test' calls that", err)
	}
	return &program{
		command: []string{daemon, "--no-defaults"},
		options: []string{"--innodb-log-file-size=256M"},
		initialise: func(user, data, tmp string) error {
			return runQuietly(exec.Command("mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db",
				"--user="+user, "--datadir="+data, "--tmpdir="+tmp, "--innodb-log-file-size=16M"))
		},
	}, nil
}
