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
	// tableTimes is a query for what time it is, in seconds since 1970, for the
	// names of tables and the times of the last commit to them, if the server
	// keeps any, and for columns of what is joined.
	tableTimes    func(join string) string
	hasTableTimes bool
	// age is an SQL expression for the seconds since a datetime column.
	age func(column string) string

	// Tokens of schema/*.sql.
	primaryKey, caseless, engine string
	// fenceByLane are statements that give every lane a fence row of its own.
	fenceByLane string
}

func sqliteDialect(version string) dialect {
	return dialect{
		server: serverSQLite, version: version,
		lanes:        1, // a file has one writer
		insertIgnore: "INSERT OR IGNORE INTO",
		now:          "CURRENT_TIMESTAMP",
		nowMillis:    "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
		tableTimes:   sqliteTableTimes,
		age: func(c string) string {
			return "CAST(strftime('%s', 'now') - strftime('%s', " + c + ") AS INTEGER)"
		},
		primaryKey: "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT",
		caseless:   "COLLATE NOCASE",
		// The key stays as it is: there is one lane.
		fenceByLane: "ALTER TABLE hostsched_fence ADD COLUMN lane INTEGER NOT NULL DEFAULT 0",
	}
}

func mysqlDialect(version string) dialect {
	d := dialect{
		server: serverMySQL, version: version,
		reading:      map[string]string{"autocommit": "0"},
		lanes:        maxLanes,
		forUpdate:    " FOR UPDATE",
		insertIgnore: "INSERT IGNORE INTO",
		now:          "CURRENT_TIMESTAMP",
		nowMillis:    "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)",
		age:          func(c string) string { return "TIMESTAMPDIFF(SECOND, " + c + ", CURRENT_TIMESTAMP)" },
		byKey:        " FORCE INDEX (PRIMARY)",
		tableTimes:   mysqlTableTimes, hasTableTimes: true,
		primaryKey: "INT(11) NOT NULL AUTO_INCREMENT PRIMARY KEY",
		engine:     "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
		// In one statement: whoever leads meanwhile finds either the old table or
		// the new one.
		fenceByLane: "ALTER TABLE hostsched_fence ADD COLUMN lane INTEGER NOT NULL DEFAULT 0, DROP PRIMARY KEY, ADD PRIMARY KEY (shard, lane)",
	}
	if strings.Contains(strings.ToLower(version), "mariadb") {
		d.server = serverMariaDB
		return d
	}
	// Otherwise the server remembers the times of tables for a day.
	d.reading["information_schema_stats_expiry"] = "0"
	return d
}

// expand replaces the tokens of a schema text.
func (d dialect) expand(text string) string {
	return strings.NewReplacer("@PK@", d.primaryKey, " @CI@", spaced(d.caseless), "@ENGINE@", d.engine, "@FENCE_BY_LANE@", d.fenceByLane).Replace(text)
}

func spaced(s string) string {
	if s == "" {
		return ""
	}
	return " " + s
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
