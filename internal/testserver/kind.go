package testserver

import (
	"fmt"
	"os"
)

// Kind is a kind of database.
type Kind string

// The kinds of database that tests can run on.
const (
	MariaDB Kind = "mariadb"
	MySQL   Kind = "mysql"
	SQLite  Kind = "sqlite"
)

// kindEnv is the environment variable that chooses the kind.
const kindEnv = "HOSTSCHED_TEST_DATABASE"

// Chosen is the kind of database that the tests run on. With MariaDB, the
// default, conformance tests run on SQLite, too. With MySQL they run on MySQL
// alone, because the default run has SQLite already. With SQLite no server is
// started, and tests that need one do not run.
func Chosen() (Kind, error) {
	switch kind := Kind(os.Getenv(kindEnv)); kind {
	case "":
		return MariaDB, nil
	case MariaDB, MySQL, SQLite:
		return kind, nil
	default:
		return "", fmt.Errorf("%s is %q; it must be %s, %s or %s", kindEnv, kind, MariaDB, MySQL, SQLite)
	}
}
