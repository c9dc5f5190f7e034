package admin_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

// TestTimesOfOneClockAgree: whatever zone the database writes its times in, all that is
// shown are the same instants.
func TestTimesOfOneClockAgree(t *testing.T) {
	storetest.OnEachDatabase(t, func(t *testing.T, dsn string) {
		if sqlite := dsn[:len("sqlite:")] == "sqlite:"; !sqlite {
			server := testserver.Shared(t).Admin()
			_, err := server.Exec("SET GLOBAL time_zone = '+05:00'")
			require.NoError(t, err)
			t.Cleanup(func() {
				_, err := server.Exec("SET GLOBAL time_zone = 'SYSTEM'")
				require.NoError(t, err)
			})
		}
		db := storetest.NewLab(t, dsn)
		storetest.TakeOver(t, db, storetest.WholeLab, 1)
		lab := admin.New(db)
		require.NoError(t, lab.Audit(t.Context(), "somebody", "test", "master", "why"))
		records, err := lab.AuditRecords(t.Context(), 1)
		require.NoError(t, err)
		fence, ok, err := lab.ReadFence(t.Context(), shard.Master)
		require.NoError(t, err)
		require.True(t, ok)
		terms, err := lab.Terms(t.Context(), shard.Master, 1)
		require.NoError(t, err)
		ahead, err := lab.ClockAhead(t.Context())
		require.NoError(t, err)
		require.Empty(t, store.Skew("the database", ahead))
		for _, at := range []time.Time{records[0].At, fence.TakenAt, terms[0].Began} {
			require.WithinDuration(t, time.Now(), at, time.Minute)
		}
		for _, at := range []time.Time{records[0].At, fence.TakenAt, terms[0].Began} {
			require.Equal(t, time.UTC, at.Location())
		}
	})
}
