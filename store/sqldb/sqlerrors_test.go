package sqldb_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/store/sqldb"
)

func TestExplainClassifiesStatesOfTheServer(t *testing.T) {
	for class, numbers := range map[error][]uint16{
		sqldb.ErrUnreachable: {1040, 1047, 1053, 1129, 1203, 1226, 1927},
		sqldb.ErrAccess:      {1044, 1045, 1049, 1130, 1820, 1862, 3118, 3159, 4151},
		sqldb.ErrServer:      {1290, 1665, 1792, 1836},
		sqldb.ErrBusy:        {1205, 1213},
		sqldb.ErrDSN:         {1193, 1231},
		sqldb.ErrFull:        {1021, 1114},
	} {
		for _, number := range numbers {
			err := sqldb.Explain(&mysql.MySQLError{Number: number, Message: "refused"}, "connect", "lab")
			require.ErrorIs(t, err, class, "%d", number)
			storetest.RequireOneLine(t, err)
		}
	}
}

// TestCommitted: whether something was written is said to be uncertain only where it is.
func TestCommitted(t *testing.T) {
	require.NoError(t, sqldb.Committed(nil))
	require.NotErrorIs(t, sqldb.Committed(&mysql.MySQLError{Number: 1213}), sqldb.ErrPartly, "a cluster gave another transaction precedence")
	for _, err := range []error{mysql.ErrInvalidConn, context.DeadlineExceeded, &mysql.MySQLError{Number: 1180}, &mysql.MySQLError{Number: 1290}, errors.New("other")} {
		require.ErrorIs(t, sqldb.Committed(err), sqldb.ErrPartly, err)
		require.ErrorIs(t, sqldb.Committed(err), err)
	}
}

// TestEndedBy: a transaction that its context ended has written nothing, and says why, also if
// the end is only noticed when it commits.
func TestEndedBy(t *testing.T) {
	db := storetest.NewServerLab(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	tx, err := db.Pool.BeginTx(ctx, nil)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := tx.ExecContext(t.Context(), "SELECT 1") // not bounded as the transaction is
		return errors.Is(err, sql.ErrTxDone)
	}, 10*time.Second, time.Millisecond)
	err = sqldb.EndedBy(ctx, sqldb.Committed(tx.Commit()))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, sqldb.ErrPartly)
	require.ErrorIs(t, sqldb.EndedBy(t.Context(), sql.ErrTxDone), sql.ErrTxDone)
}

func TestOpenAsLockedAccount(t *testing.T) {
	server := testserver.Shared(t)
	admin := server.Admin()
	_, err := admin.ExecContext(t.Context(), "CREATE USER sqldb_locked@'%' ACCOUNT LOCK")
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := admin.Exec("DROP USER sqldb_locked@'%'")
		require.NoError(t, err)
	})
	_, err = sqldb.Open(t.Context(), sqldb.Config{DSN: server.DSN("mysql", "sqldb_locked", "")})
	require.ErrorIs(t, err, sqldb.ErrAccess)
	require.ErrorContains(t, err, "accept this user")
}
