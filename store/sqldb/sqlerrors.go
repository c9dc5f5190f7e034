package sqldb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/go-sql-driver/mysql"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Errors that callers tell apart. Each message that wraps one says what was
// tried, on what, and what to do.
var (
	// ErrDSN is a malformed data source name.
	ErrDSN = errors.New("malformed DSN")
	// ErrNotLocal is a database on another machine without production mode.
	ErrNotLocal = errors.New("database is not local")
	// ErrUnreachable is a server that does not answer or refuses the login.
	ErrUnreachable = errors.New("database unreachable")
	// ErrSchema is a missing table or column, or a wrong schema version.
	ErrSchema = errors.New("schema does not fit")
	// ErrPrivilege is a statement that the database user may not run.
	ErrPrivilege = errors.New("missing privilege")
	// ErrServer is a server version or a state that rules an operation out.
	ErrServer = errors.New("server cannot do this")
)

// MySQL error numbers, from the server's error reference.
const (
	myDupEntry       = 1062
	myLockWait       = 1205
	MyDeadlock       = 1213
	myNoSuchTable    = 1146
	myNoSuchColumn   = 1054
	myTableDenied    = 1142
	myColumnDenied   = 1143
	mySpecificDenied = 1227
	myDBDenied       = 1044
	myLoginDenied    = 1045
	myNoSuchDB       = 1049
	MyNoSuchThread   = 1094

	myTooManyConnections     = 1040
	myHostBlocked            = 1129
	myTooManyUserConnections = 1203
	myUserLimit              = 1226
	myMustChangePassword     = 1820
	myPasswordExpired        = 1862
	myAccountLocked          = 3118
	mySecureTransport        = 3159
	mariaAccountLocked       = 4151

	myOptionPrevents  = 1290
	myBinlogStatement = 1665
	myReadOnlyTx      = 1792
	myReadOnly        = 1836
)

func MysqlCode(err error) uint16 {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return e.Number
	}
	return 0
}

func sqliteCode(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

// sqlitePrimary strips the extended part of a result code.
const sqlitePrimary = 0xff

// IsLockTimeout tells whether a statement gave up waiting for a lock.
func IsLockTimeout(err error) bool {
	code := MysqlCode(err)
	return code == myLockWait || code == MyDeadlock || sqliteCode(err)&sqlitePrimary == sqlite3.SQLITE_BUSY
}

// IsDuplicate tells whether a unique key refused a row.
func IsDuplicate(err error) bool {
	code := sqliteCode(err)
	return MysqlCode(err) == myDupEntry ||
		code == sqlite3.SQLITE_CONSTRAINT_UNIQUE || code == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY
}

// IsConnection tells whether the connection was lost, so that the fate of the
// statement is unknown.
func IsConnection(err error) bool {
	var netErr net.Error
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) ||
		errors.As(err, &netErr) || errors.Is(err, context.DeadlineExceeded)
}

// Explain turns a driver error into one line that says what to do. The DSN in
// target is already free of secrets.
func Explain(err error, tried, target string) error {
	if err == nil {
		return nil
	}
	switch MysqlCode(err) {
	case myNoSuchTable, myNoSuchColumn:
		return fmt.Errorf("%w: %s on %s: %w; run 'hostsched migrate up' or check that the database name is right", ErrSchema, tried, target, err)
	case myTableDenied, myColumnDenied, mySpecificDenied:
		return fmt.Errorf("%w: %s on %s: %w; grant it to this user", ErrPrivilege, tried, target, err)
	case myDBDenied, myLoginDenied, myNoSuchDB:
		return fmt.Errorf("%w: %s on %s: %w; check user, password and database name", ErrUnreachable, tried, target, err)
	case myTooManyConnections, myTooManyUserConnections, myUserLimit:
		return fmt.Errorf("%w: %s on %s: %w; allow this user and the server more connections", ErrUnreachable, tried, target, err)
	case myHostBlocked, myMustChangePassword, myPasswordExpired, myAccountLocked, mariaAccountLocked:
		return fmt.Errorf("%w: %s on %s: %w; make the server accept this user again", ErrUnreachable, tried, target, err)
	case mySecureTransport:
		return fmt.Errorf("%w: %s on %s: %w; add tls=true to the DSN", ErrUnreachable, tried, target, err)
	case myOptionPrevents, myReadOnlyTx, myReadOnly:
		return fmt.Errorf("%w: %s on %s: %w; use a server that may be written to", ErrServer, tried, target, err)
	case myBinlogStatement:
		return fmt.Errorf("%w: %s on %s: %w; set binlog_format to ROW or MIXED", ErrServer, tried, target, err)
	}
	if text := err.Error(); sqliteCode(err) != 0 && (strings.Contains(text, "no such table") || strings.Contains(text, "no such column")) {
		return fmt.Errorf("%w: %s on %s: %w; run 'hostsched migrate up'", ErrSchema, tried, target, err)
	}
	if sqliteCode(err)&sqlitePrimary == sqlite3.SQLITE_CANTOPEN {
		return fmt.Errorf("%w: %s on %s: %w; check the path; 'hostsched migrate up' creates the file, but not its folder", ErrUnreachable, tried, target, err)
	}
	if sqliteCode(err)&sqlitePrimary == sqlite3.SQLITE_READONLY {
		return fmt.Errorf("%w: %s on %s: %w; make the file and its folder writable for this user", ErrPrivilege, tried, target, err)
	}
	if IsConnection(err) {
		return fmt.Errorf("%w: %s on %s: %w; check that the server runs and the address is right", ErrUnreachable, tried, target, err)
	}
	return fmt.Errorf("%s on %s: %w", tried, target, err)
}
