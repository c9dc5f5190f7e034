package sqldb

import "fmt"

// Servers told apart.
const (
	ServerMySQL   = "MySQL"
	ServerMariaDB = "MariaDB"
	ServerSQLite  = "SQLite"
)

// maxWriters is how many connections a leader writes by. Nearly all the time of a
// large plan is the server's, which works for a connection on one core. More than
// two would leave little of a small server for other clients.
const maxWriters = 2

// AnyText is the character set of connections, in which every text can be written.
const AnyText = "utf8mb4"

// Dialect is all that differs between servers.
type Dialect struct {
	Server  string
	Version string
	// session are the variables of every connection that the server knows, reading
	// those that connections which only read have instead or besides.
	session, reading map[string]string

	// Writers is how many connections a leader writes by.
	Writers int

	// ForUpdate ends a query that locks what it reads. SQLite needs none: its
	// writing transactions are exclusive from the beginning.
	ForUpdate string

	// ForShare ends a query that locks what it reads, but lets others do the same.
	ForShare string

	// SkipLocked comes after these two and passes over what others have locked; MariaDB
	// knows it since 10.6. NoWait, which all servers know, refuses the query instead.
	SkipLocked, NoWait string

	InsertIgnore string // INSERT that passes over existing unique keys
	Now          string // current time, of the same clock as the columns
	NowMillis    string // current time in milliseconds since 1970
	// ByKey makes an UPDATE find its rows by primary key. Left to itself, the
	// server may prefer to read the index of some other condition.
	ByKey string
	// HasTableTimes: the server keeps the time of the last commit to each table.
	HasTableTimes bool
	// OwnText makes an SQL expression compare as the texts in hostsched's own tables do.
	OwnText func(expression string) string
	// Unix is an SQL expression for the seconds since 1970 of a datetime column that
	// was written with Now.
	Unix func(column string) string
	// Age is an SQL expression for the seconds since a datetime column.
	Age func(column string) string
}

func sqliteDialect(version string) Dialect {
	return Dialect{
		Server: ServerSQLite, Version: version,
		Writers:      1, // a file has one writer
		InsertIgnore: "INSERT OR IGNORE INTO",
		Now:          "CURRENT_TIMESTAMP",
		OwnText:      func(x string) string { return x + " COLLATE BINARY" },
		NowMillis:    "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
		Unix:         func(c string) string { return "CAST(strftime('%s', " + c + ") AS INTEGER)" },
		Age: func(c string) string {
			return "CAST(strftime('%s', 'now') - strftime('%s', " + c + ") AS INTEGER)"
		},
	}
}

// mysqlDialect tells by its variables which server this is, and refuses one that
// lacks what statements of hostsched need.
func mysqlDialect(have serverVariables) (Dialect, error) {
	d := Dialect{
		Server: ServerMySQL, Version: have["version"],
		session: have.known(sessionVariables), reading: have.known(readingVariables),
		Writers:   maxWriters,
		ForUpdate: " FOR UPDATE", ForShare: " FOR SHARE", SkipLocked: " SKIP LOCKED", NoWait: " NOWAIT",
		InsertIgnore: "INSERT IGNORE INTO",
		Now:          "CURRENT_TIMESTAMP",
		// Those tables have the server's default collation for this character set.
		OwnText:       func(x string) string { return "CONVERT(" + x + " USING " + AnyText + ")" },
		NowMillis:     "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)",
		Unix:          func(c string) string { return "CAST(UNIX_TIMESTAMP(" + c + ") AS SIGNED)" },
		Age:           func(c string) string { return "TIMESTAMPDIFF(SECOND, " + c + ", CURRENT_TIMESTAMP)" },
		ByKey:         " FORCE INDEX (PRIMARY)",
		HasTableTimes: true,
	}
	needed := mysql8013
	if have.has(mariaDBOnly) {
		d.Server, needed = ServerMariaDB, mariaDB103
		d.ForShare = " LOCK IN SHARE MODE"
	}
	if !have.has(needed) {
		return Dialect{}, fmt.Errorf("%w: this is %s, which says that it has version %s; hostsched needs MySQL 8.0.13, MariaDB 10.3.4 or SQLite", ErrServer, d.Server, d.Version)
	}
	return d, nil
}
