package sqldb

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

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
	// ErrUnreachable is a server that does not answer, or has no room for us. It may
	// come back by itself.
	ErrUnreachable = errors.New("database unreachable")
	// ErrAccess is a server that answers and does not let us in, or that we do not
	// trust. Somebody has to change that.
	ErrAccess = errors.New("no access to the database")
	// ErrBusy is a table, a row or a file that others hold locked.
	ErrBusy = errors.New("database locked by others")
	// ErrFull is a disk, or a table, without room for another row.
	ErrFull = errors.New("the database has no room")
	// ErrSchema is a missing table or column, or a wrong schema version.
	ErrSchema = errors.New("schema does not fit")
	// ErrPrivilege is a statement that the database user may not run.
	ErrPrivilege = errors.New("missing privilege")
	// ErrServer is a server version or a state that rules an operation out.
	ErrServer = errors.New("server cannot do this")
	// ErrPartly is part of an error after which something may have been written
	// all the same.
	ErrPartly = errors.New("something may have been written")
)

// IsAway tells whether the database is only away: it may come back without
// anybody changing anything.
func IsAway(err error) bool {
	return errors.Is(err, ErrUnreachable) || errors.Is(err, ErrBusy)
}

// MySQL error numbers, from the server's error reference.
const (
	myDupEntry     = 1062
	mySyntax       = 1064
	myLockWait     = 1205
	MyDeadlock     = 1213
	myNoWait       = 3572
	MyNoSuchThread = 1094
)

// meaning is what an error number of a server means: its class, and what to do.
type meaning struct {
	class  error
	advice string
}

// add gives several numbers the same meaning.
func add(all map[uint16]meaning, class error, advice string, numbers ...uint16) {
	for _, n := range numbers {
		all[n] = meaning{class, advice}
	}
}

var meanings = func() map[uint16]meaning {
	all := map[uint16]meaning{}
	add(all, ErrSchema, "run 'hostsched migrate up' or check that the database name is right", 1146, 1054)
	// A command, a column, the process list, anything that needs a privilege.
	add(all, ErrPrivilege, "grant it to this user", 1142, 1143, 1227)
	// The database's name, the user, the password, the host that the user comes from.
	add(all, ErrAccess, "check user, password and database name, and whether this user needs a certificate (database.cert_file)", 1044, 1045, 1049, 1130, 1251, 1698)
	// A password that must be changed or has expired, a locked account.
	add(all, ErrAccess, "make the server accept this user again", 1820, 1862, 3118, 3955, 4151)
	add(all, ErrAccess, "add tls=true to the DSN", 3159)
	// Connections of the server or the user, threads, memory.
	add(all, ErrUnreachable, "allow this user and the server more connections", 1040, 1203, 1226, 1135, 1041)
	// A host that is blocked after failed connections, names of hosts that cannot be
	// resolved by the server.
	add(all, ErrUnreachable, "make the server accept this host again, with FLUSH HOSTS", 1042, 1129)
	// A server that is starting, ending or taken out of service; a Galera node that
	// is not part of its cluster; a connection that somebody ended; ProxySQL without
	// any server behind it.
	add(all, ErrUnreachable, "wait until the server is in service again", 1053, 1077, 1078, 1079, 1080, 1047, 1317, 1927, 3032, 3168, 3169, 9001)
	add(all, ErrBusy, "see who holds it locked with SHOW ENGINE INNODB STATUS and SHOW PROCESSLIST, and try again", myLockWait, MyDeadlock)
	// A disk, a temporary file, a table, a tablespace, the cache of a transaction's log.
	add(all, ErrFull, "make room on the disk of the database", 1021, 1114, 1197, 3019)
	add(all, ErrServer, "use a server that may be written to", 1290, 1792, 1836)
	add(all, ErrServer, "set binlog_format to ROW or MIXED", 1665)
	// A variable that does not exist, or not with this value.
	add(all, ErrDSN, "remove that option from the DSN", 1193, 1229, 1231, 1232, 1238)
	return all
}()

// Partly marks an error after which something may have been written.
func Partly(err error) error {
	if err == nil || errors.Is(err, ErrPartly) {
		return err
	}
	return fmt.Errorf("%w; %w", err, ErrPartly)
}

// Committed marks the error of a commit. Something may have been written, unless it is certain
// that the transaction was rolled back: the driver of SQLite does so where there is no room or
// another process is at work, and a cluster of servers where another transaction was before it.
func Committed(err error) error {
	switch sqliteCode(err) & sqlitePrimary {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY:
		return err
	}
	if MysqlCode(err) == MyDeadlock {
		return err
	}
	return Partly(err)
}

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

// sqliteMeaning is what an error of SQLite means.
func sqliteMeaning(err error) (m meaning, known bool) {
	code, text := sqliteCode(err), err.Error()
	switch {
	case code == 0:
		return meaning{}, false
	case strings.Contains(text, "no such table") || strings.Contains(text, "no such column"):
		return meaning{ErrSchema, "run 'hostsched migrate up'"}, true
	}
	switch code & sqlitePrimary {
	case sqlite3.SQLITE_CANTOPEN:
		return meaning{ErrAccess, "check the path; 'hostsched migrate up' creates the file, but not its folder; whoever may not write there can read it while a server has it open"}, true
	case sqlite3.SQLITE_NOTADB:
		return meaning{ErrAccess, "check the path: this file is no SQLite database"}, true
	case sqlite3.SQLITE_READONLY:
		return meaning{ErrPrivilege, "make the file and its folder writable for this user"}, true
	case sqlite3.SQLITE_FULL:
		return meaning{ErrFull, "make room on the disk of the database"}, true
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return meaning{ErrBusy, "another process writes to the file, fuser shows which; try again"}, true
	}
	return meaning{}, false
}

// IsLockTimeout tells whether a statement gave up waiting for a lock.
func IsLockTimeout(err error) bool {
	code := MysqlCode(err)
	return code == myLockWait || code == MyDeadlock || sqliteCode(err)&sqlitePrimary == sqlite3.SQLITE_BUSY
}

// IsLockWait tells whether a statement waited too long for a row that another client
// keeps locked, or would have had to wait and was told not to.
func IsLockWait(err error) bool {
	code := MysqlCode(err)
	return code == myLockWait || code == myNoWait
}

// IsSyntax tells whether the server does not know a statement, as MariaDB before 10.6
// does not know SKIP LOCKED.
func IsSyntax(err error) bool { return MysqlCode(err) == mySyntax }

// IsDuplicate tells whether a unique key refused a row.
func IsDuplicate(err error) bool {
	code := sqliteCode(err)
	return MysqlCode(err) == myDupEntry ||
		code == sqlite3.SQLITE_CONSTRAINT_UNIQUE || code == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY
}

// IsUnfit tells whether a column cannot hold a value: its text is too long, or has characters
// that its character set does not have.
func IsUnfit(err error) bool {
	switch MysqlCode(err) {
	case 1264, 1267, 1300, 1366, 1406, 3854, 3988:
		return true
	}
	return false
}

// IsReferred tells whether a row cannot go because others refer to it.
func IsReferred(err error) bool {
	return MysqlCode(err) == 1451 || sqliteCode(err) == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY
}

// IsOrphan tells whether a row refers to one that is not there.
func IsOrphan(err error) bool {
	code := MysqlCode(err)
	return code == 1216 || code == 1452 || sqliteCode(err) == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY
}

// IsConnection tells whether the connection was lost, so that the fate of the
// statement is unknown.
func IsConnection(err error) bool {
	var netErr net.Error
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) ||
		errors.As(err, &netErr) || errors.Is(err, context.DeadlineExceeded)
}

// connectionMeaning is what the loss of a connection, or of the attempt to make
// one, means.
func connectionMeaning(err error) (m meaning, known bool) {
	var unverified *tls.CertificateVerificationError
	var alert tls.AlertError
	var header tls.RecordHeaderError
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &unverified):
		return meaning{certificateClass(err), describeCertificate(unverified)}, true
	case errors.As(err, &alert):
		return meaning{ErrAccess, "the server refuses TLS as it is offered; compare its TLS settings with those of the DSN, and look whether it takes the certificate in database.cert_file"}, true
	case errors.As(err, &header), errors.Is(err, mysql.ErrNoTLS):
		return meaning{ErrAccess, "the server does not speak TLS; remove tls from the DSN, or switch TLS on there"}, true
	case errors.Is(err, mysql.ErrOldPassword), errors.Is(err, mysql.ErrCleartextPassword), errors.Is(err, mysql.ErrNativePassword), errors.Is(err, mysql.ErrUnknownPlugin):
		return meaning{ErrAccess, "give this user another kind of password, or allow this one in the DSN"}, true
	case errors.As(err, &dns):
		return meaning{ErrUnreachable, fmt.Sprintf("check that the name %s is right and the name server answers", dns.Name)}, true
	case errors.As(err, &op) && op.Op == "dial":
		return meaning{ErrUnreachable, "check that the server runs and the address is right"}, true
	case errors.Is(err, context.DeadlineExceeded):
		return meaning{ErrUnreachable, "there was no answer in time; check that the server runs, is not overloaded and has no statement that holds up all others, with SHOW PROCESSLIST"}, true
	case IsConnection(err):
		return meaning{ErrUnreachable, "the connection was lost; check that the server runs and the address is right"}, true
	}
	return meaning{}, false
}

// certificateClass: a certificate that has expired will be renewed, so it is worth waiting
// for; others have to be mended here or there.
func certificateClass(err error) error {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return ErrUnreachable
	}
	return ErrAccess
}

// describeCertificate says which certificate was not accepted.
func describeCertificate(err *tls.CertificateVerificationError) string {
	if len(err.UnverifiedCertificates) == 0 {
		return "give the server a certificate that this machine trusts"
	}
	c := err.UnverifiedCertificates[0]
	return fmt.Sprintf("the server's certificate is of %s, by %s, valid from %s until %s; give it one that this machine trusts (database.ca_file and SSL_CERT_FILE name other authorities)",
		c.Subject, c.Issuer, c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339))
}

func meaningOf(err error) (m meaning, known bool) {
	if m, known = meanings[MysqlCode(err)]; known {
		return m, true
	}
	if m, known = sqliteMeaning(err); known {
		return m, true
	}
	return connectionMeaning(err)
}

// Explain turns a driver error into one line that says what to do. The DSN in
// target is already free of secrets.
func Explain(err error, tried, target string) error {
	if err == nil {
		return nil
	}
	if m, known := meaningOf(err); known {
		return fmt.Errorf("%w: %s on %s: %w; %s", m.class, tried, target, err, m.advice)
	}
	return fmt.Errorf("%s on %s: %w", tried, target, err)
}
