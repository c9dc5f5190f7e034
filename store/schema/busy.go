package schema

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hostsched/hostsched/store/sqldb"
)

// ErrInUse means that others used a table for longer than a migration waits.
var ErrInUse = errors.New("table in use")

// explain turns the error of a statement into one line that says what to do. If
// it waited in vain, that is who stands in the way.
func (s *session) explain(ctx context.Context, err error, tried string) error {
	if err == nil || !sqldb.IsLockTimeout(err) {
		return sqldb.Explain(err, tried, s.db.Target())
	}
	if s.db.Dialect.Server == sqldb.ServerSQLite {
		return fmt.Errorf("%w: %s on %s: another process is writing to the file; 'fuser %s' shows which; end it or wait, then try again",
			ErrInUse, tried, s.db.Target(), s.db.Path())
	}
	return fmt.Errorf("%w: %s on %s: waited %s for table %s, which %s; end it or wait, then try again",
		ErrInUse, tried, s.db.Target(), tableWait, s.table, s.holders(ctx))
}

// holder queries find sessions, in order of how exactly they say who it is. Each
// needs a privilege that the user may lack.
var (
	// Who was granted a lock of the table, on MySQL.
	metadataLocks = "SELECT DISTINCT t.PROCESSLIST_ID, t.PROCESSLIST_USER, t.PROCESSLIST_HOST FROM performance_schema.metadata_locks l JOIN performance_schema.threads t ON t.THREAD_ID = l.OWNER_THREAD_ID " +
		"WHERE l.OBJECT_SCHEMA = DATABASE() AND l.OBJECT_NAME = ? AND l.LOCK_STATUS = 'GRANTED' AND t.PROCESSLIST_ID <> CONNECTION_ID()"
	// Who has an open transaction: a table stays locked until its end.
	openTransactions = "SELECT DISTINCT p.ID, p.USER, p.HOST FROM information_schema.INNODB_TRX x JOIN information_schema.PROCESSLIST p ON p.ID = x.trx_mysql_thread_id WHERE p.ID <> CONNECTION_ID()"
)

func (s *session) holders(ctx context.Context) string {
	if s.db.Dialect.Server == sqldb.ServerMySQL {
		if found := s.sessions(ctx, metadataLocks, s.table); len(found) > 0 {
			return "is used by " + strings.Join(found, ", ")
		}
	}
	if found := s.sessions(ctx, openTransactions); len(found) > 0 {
		return "is used by a session with an open transaction, one of: " + strings.Join(found, ", ")
	}
	return "another session uses: ask SHOW PROCESSLIST"
}

// sessions lists those that a query finds; none if the user may not ask.
func (s *session) sessions(ctx context.Context, query string, args ...any) []string {
	var found []string
	err := sqldb.EachRow(ctx, s.db.Pool, query, args, func(scan sqldb.Scanner) error {
		var id, user, host string
		err := scan(&id, &user, &host)
		found = append(found, fmt.Sprintf("session %s of %s@%s", id, user, host))
		return err
	})
	if err != nil {
		return nil
	}
	slices.Sort(found)
	return found
}
