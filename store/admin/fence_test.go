package admin_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

func TestAnotherEtcdClusterIsRefusedUntilAdopted(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		old := storetest.TakeOver(t, db, storetest.WholeLab, 10)
		claim := store.Claim{Shard: shard.Master, Token: 3, Cluster: "rebuilt", Holder: "new"}
		_, err := db.TakeOver(t.Context(), claim)
		require.ErrorIs(t, err, store.ErrForeignCluster)
		require.ErrorContains(t, err, "fence adopt")

		require.NoError(t, admin.New(db).AdoptFence(t.Context(), shard.Master, "rebuilt", "alice", "disk failure"))
		l, err := db.TakeOver(t.Context(), claim)
		require.NoError(t, err)
		require.Greater(t, l.Fence().Epoch, old.Fence().Epoch, "epochs continue to rise")
		require.NoError(t, l.Close())
		var who, detail string
		require.NoError(t, db.SQL().QueryRow("SELECT who, detail FROM hostsched_audit").Scan(&who, &detail))
		require.Equal(t, "alice", who)
		require.Contains(t, detail, "disk failure")
		require.Error(t, admin.New(db).AdoptFence(t.Context(), "never-led", "rebuilt", "alice", "x"))
	})
}

// TestContradictoryFenceRows: nobody leads a shard whose writers have different
// epochs or tokens, until a person says so.
func TestContradictoryFenceRows(t *testing.T) {
	db := storetest.NewServerLab(t)
	storetest.FillLab(t, db)
	storetest.TakeOver(t, db, storetest.WholeLab, 10)
	_, err := db.SQL().Exec("UPDATE hostsched_fence SET token = 99, epoch = 50 WHERE lane = 1")
	require.NoError(t, err)
	claim := store.Claim{Shard: shard.Master, Token: 11, Cluster: "test", Holder: "next"}
	_, err = db.TakeOver(t.Context(), claim)
	require.ErrorContains(t, err, "fence adopt")
	require.NoError(t, admin.New(db).AdoptFence(t.Context(), shard.Master, "test", "alice", "edited by hand"))
	l, err := db.TakeOver(t.Context(), claim)
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	require.Greater(t, l.Fence().Epoch, int64(50), "epochs continue to rise")
	_, err = l.Apply(t.Context(), storetest.FullPlan(t, db))
	require.NoError(t, err)
}
