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

// TestContradictionsAreNamedAndMended: every column in which the rows of a shard must
// agree, also those that no takeover looks at.
func TestContradictionsAreNamedAndMended(t *testing.T) {
	db := storetest.NewServerLab(t)
	storetest.FillLab(t, db)
	lab := admin.New(db)
	storetest.TakeOver(t, db, storetest.WholeLab, 10)
	found := func() (texts []string) {
		f, err := lab.Check(t.Context(), storetest.WholeLab, nil)
		require.NoError(t, err)
		for _, finding := range f.Fence {
			texts = append(texts, finding.Text)
		}
		return texts
	}
	require.Empty(t, found())
	for token, edit := range []struct{ set, named string }{
		{"layout = 7", `layout is ["0" "7"]`},
		{"layout = 3", `layout is ["8" "3"]`},
		{"epoch = 50", "epoch is"},
		{"token = 99", "token is"},
		{"holder = 'nobody'", "holder is"},
		{"etcd_cluster = 'x'", "etcd_cluster is"},
		{"cluster_name = 'x'", "cluster_name is"},
		{"taken_at = '2001-01-01'", "taken_at is"},
		{"shard_id = 7", "shard_id is"},
		{"paused_by = 'me'", "paused_by is"},
		{"paused_at = 7", "paused_at is"},
	} {
		storetest.Exec(t, db, "UPDATE hostsched_fence SET "+edit.set+" WHERE lane = 1")
		texts := found()
		require.Len(t, texts, 1, edit.set)
		require.Contains(t, texts[0], edit.named)
		require.Contains(t, texts[0], "hostsched fence adopt master")
		require.NoError(t, lab.AdoptFence(t.Context(), shard.Master, admin.Cluster{Etcd: "test"}, "alice", "edited by hand"))
		require.Empty(t, found(), edit.set)
		l := storetest.TakeOver(t, db, storetest.WholeLab, int64(100+token))
		_, err := l.Apply(t.Context(), storetest.FullPlan(t, db))
		require.NoError(t, err, edit.set)
		require.NoError(t, l.Close())
		require.Empty(t, found())
	}
	storetest.Exec(t, db, "UPDATE hostsched_fence SET pause_reason = 'repairs' WHERE lane = 1")
	require.Len(t, found(), 1)
	require.NoError(t, lab.AdoptFence(t.Context(), shard.Master, admin.Cluster{Etcd: "test"}, "alice", "edited by hand"))
	f, _, err := db.ReadFence(t.Context(), shard.Master)
	require.NoError(t, err)
	require.Equal(t, "repairs", f.Paused, "nobody resumes a shard by mending its fence")
}
