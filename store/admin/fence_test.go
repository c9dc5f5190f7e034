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

		require.NoError(t, admin.New(db).AdoptFence(t.Context(), shard.Master, admin.Cluster{Etcd: "rebuilt", Name: "lab"}, "alice", "disk failure"))
		l, err := db.TakeOver(t.Context(), claim)
		require.NoError(t, err)
		require.Greater(t, l.Fence().Epoch, old.Fence().Epoch, "epochs continue to rise")
		require.NoError(t, l.Close())
		var who, detail string
		require.NoError(t, db.SQL().QueryRow("SELECT who, detail FROM hostsched_audit").Scan(&who, &detail))
		require.Equal(t, "alice", who)
		require.Contains(t, detail, "disk failure")
		require.Error(t, admin.New(db).AdoptFence(t.Context(), "never-led", admin.Cluster{Etcd: "rebuilt"}, "alice", "x"))
	})
}

// TestAnotherClusterIsRefusedUntilAdopted: two installations under one etcd have tokens that
// compare, and are told apart by their names. Who names none is refused by none.
func TestAnotherClusterIsRefusedUntilAdopted(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		lab := admin.New(db)
		claim := func(token int64, cluster string) store.Claim {
			return store.Claim{Shard: shard.Master, Token: token, Cluster: "test", ClusterName: cluster, Holder: "of " + cluster}
		}
		for token, cluster := range []string{"", "lab", "lab", ""} {
			l, err := db.TakeOver(t.Context(), claim(int64(token+1), cluster))
			require.NoError(t, err, cluster)
			require.NoError(t, l.Close())
		}
		for _, cluster := range []string{"lab2", "LAB", "la"} {
			_, err := db.TakeOver(t.Context(), claim(10, cluster))
			require.ErrorIs(t, err, store.ErrOtherCluster, cluster)
			require.ErrorContains(t, err, "belongs to cluster lab, and the setting 'cluster' here is "+cluster)
			require.ErrorContains(t, err, "fence adopt")
			require.ErrorIs(t, db.RehearseTakeOver(t.Context(), claim(10, cluster)), store.ErrOtherCluster)
			require.ErrorIs(t, lab.RequireCluster(t.Context(), cluster, []shard.Name{"never-led", shard.Master}), store.ErrOtherCluster)
		}
		require.NoError(t, lab.RequireCluster(t.Context(), "lab", []shard.Name{shard.Master}))
		require.NoError(t, lab.AdoptFence(t.Context(), shard.Master, admin.Cluster{Etcd: "test", Name: "lab2"}, "alice", "renamed"))
		l, err := db.TakeOver(t.Context(), claim(10, "lab2"))
		require.NoError(t, err)
		require.Equal(t, "lab2", l.Fence().ClusterName)
		require.NoError(t, l.Close())
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
	require.NoError(t, admin.New(db).AdoptFence(t.Context(), shard.Master, admin.Cluster{Etcd: "test"}, "alice", "edited by hand"))
	l, err := db.TakeOver(t.Context(), claim)
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	require.Greater(t, l.Fence().Epoch, int64(50), "epochs continue to rise")
	_, err = l.Apply(t.Context(), storetest.FullPlan(t, db))
	require.NoError(t, err)
}
