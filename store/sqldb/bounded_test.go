package sqldb_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
)

// TestTransactionEndsInTime: a transaction ends by its deadline, or its rollback soon after,
// although the server does not answer, and what it had begun is not in the next one.
func TestTransactionEndsInTime(t *testing.T) {
	const deadline = 500 * time.Millisecond
	link, dsn := testserver.LinkDatabase(t, testserver.Database(t))
	db := storetest.Open(t, dsn).SQL()
	_, err := db.Exec("CREATE TABLE numbers (n INT)")
	require.NoError(t, err)
	count := func() (n int) {
		require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM numbers").Scan(&n))
		return n
	}
	for name, end := range map[string]func(*sql.Tx) error{"commit": (*sql.Tx).Commit, "rollback": (*sql.Tx).Rollback} {
		for _, answered := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				before := count()
				ctx, cancel := context.WithTimeout(t.Context(), deadline)
				defer cancel()
				tx, err := db.BeginTx(ctx, nil)
				require.NoError(t, err)
				_, err = tx.ExecContext(ctx, "INSERT INTO numbers VALUES (1)")
				require.NoError(t, err)
				if answered {
					require.NoError(t, end(tx))
					require.Equal(t, name == "commit", count() == before+1)
					return
				}
				link.Cut(t)
				defer link.Heal(t)
				began := time.Now()
				require.Error(t, end(tx))
				require.Less(t, time.Since(began), 5*time.Second)
				link.Reset(t)
				link.Heal(t)
				require.Eventually(t, func() bool { return db.PingContext(t.Context()) == nil }, 10*time.Second, 10*time.Millisecond)
				require.Equal(t, before, count(), "nothing is left in the connection")
			})
		}
	}
}
