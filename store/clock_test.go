package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
)

// TestClockOfTheDatabaseGoesBack changes a table in the same second twice, because the
// database's clock shows that second again. The snapshots must see both changes.
func TestClockOfTheDatabaseGoesBack(t *testing.T) {
	server, clock := testserver.StartWithClock(t)
	dsn, err := server.Create("lab")
	require.NoError(t, err)
	db := storetest.NewLab(t, dsn)
	storetest.FillLab(t, db)
	f := &followed{db: db, scope: storetest.WholeLab, snapshots: db.Snapshots(storetest.WholeLab)}
	f.snapshots.RefreshRows(0)
	f.next(t, "nothing")
	rename := func(name string) (at int) {
		storetest.Exec(t, db, "UPDATE afe_labels SET name = ? WHERE id = 1", name)
		return storetest.Count(t, db, "SELECT UNIX_TIMESTAMP()")
	}
	shows := func(second int) {
		t.Helper()
		require.Eventually(t, func() bool { return storetest.Count(t, db, "SELECT UNIX_TIMESTAMP()") == second }, 10*time.Second, time.Millisecond)
	}
	const settles = 4 // seconds until the time of a table surely is in the past
	second := rename("first")
	shows(second + settles)
	require.True(t, f.next(t, "a change"))
	clock.Set(t, -(settles+3)*time.Second)
	shows(second)
	require.Equal(t, second, rename("second"), "it was changed in the same second of its clock")
	require.True(t, f.next(t, "a change while the clock shows the same second again"))

	clock.Set(t, -5*time.Hour)
	rename("third")
	require.True(t, f.next(t, "a change while the clock shows a time long past"))
	clock.Set(t, 5*time.Hour)
	rename("fourth")
	require.True(t, f.next(t, "a change while the clock shows a time to come"))
}
