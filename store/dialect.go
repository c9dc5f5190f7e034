package store

import (
	"regexp"
	"strconv"
	"strings"
)

// Servers told apart.
const (
	serverMySQL   = "MySQL"
	serverMariaDB = "MariaDB"
	serverSQLite  = "SQLite"
)

// dialect is all that differs between servers.
type dialect struct {
	server  string
	version string
	// reading are session variables of connections that only read, in transactions
	// that they begin by themselves and in which all queries see one state.
	reading map[string]string

	// lanes is how many connections a leader writes by.
	lanes int

	// forUpdate ends a query that locks what it reads. SQLite needs none: its
	// writing transactions are exclusive from the beginning.
	forUpdate string

	insertIgnore string // INSERT that passes over existing unique keys
	now          string // current time, of the same clock as the columns
	nowMillis    string // current time in milliseconds since 1970
	// byKey makes an UPDATE find its rows by primary key. Left to itself, the
	// server may prefer to read the index of some other condition.
	byKey string
	// hasTableTimes: the server keeps the time of the last commit to each table.
	hasTableTimes bool
	// age is an SQL expression for the seconds since a datetime column.
	age func(column string) string
}

func sqliteDialect(version string) dialect {
	return dialect{
		server: serverSQLite, version: version,
		lanes:        1, // a file has one writer
		insertIgnore: "INSERT OR IGNORE INTO",
		now:          "CURRENT_TIMESTAMP",
		nowMillis:    "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
		age: func(c string) string {
			return "CAST(strftime('%s', 'now') - strftime('%s', " + c + ") AS INTEGER)"
		},
	}
}

func mysqlDialect(version string) dialect {
	d := dialect{
		server: serverMySQL, version: version,
		reading:       map[string]string{"autocommit": "0"},
		lanes:         maxLanes,
		forUpdate:     " FOR UPDATE",
		insertIgnore:  "INSERT IGNORE INTO",
		now:           "CURRENT_TIMESTAMP",
		nowMillis:     "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)",
		age:           func(c string) string { return "TIMESTAMPDIFF(SECOND, " + c + ", CURRENT_TIMESTAMP)" },
		byKey:         " FORCE INDEX (PRIMARY)",
		hasTableTimes: true,
	}
	if strings.Contains(strings.ToLower(version), "mariadb") {
		d.server = serverMariaDB
		return d
	}
	// Otherwise the server remembers the times of tables for a day.
	d.reading["information_schema_stats_expiry"] = "0"
	return d
}

var versionNumber = regexp.MustCompile(`(\d+)\.(\d+)(?:\.(\d+))?`)

// atLeast compares the server's version. MariaDB may prefix its version with
// "5.5.5-" for old clients.
func (d dialect) atLeast(major, minor, patch int) bool {
	m := versionNumber.FindStringSubmatch(strings.TrimPrefix(d.version, "5.5.5-"))
	if m == nil {
		return false
	}
	want := [3]int{major, minor, patch}
	for i, w := range want {
		have, err := strconv.Atoi("0" + m[i+1])
		if err != nil {
			return false
		}
		if have != w {
			return have > w
		}
	}
	return true
}
