package admin_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
	"github.com/hostsched/hostsched/store/sqldb"
)

func TestRemoveShard(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillShardedLab(t, db)
		l := storetest.TakeOver(t, db, storetest.SharedScope("a"), 1)
		require.ErrorIs(t, admin.New(db).RemoveShard(t.Context(), "a", "me", "x"), admin.ErrInUse)
		require.ErrorIs(t, admin.New(db).RemoveShard(t.Context(), "q", "me", "x"), store.ErrNoShard)
		require.ErrorIs(t, admin.New(db).RemoveShard(t.Context(), shard.Master, "me", "x"), admin.ErrInput)
		_, err := admin.New(db).AssignLabel(t.Context(), "board:b00", shard.Master, "me", "x")
		require.NoError(t, err)
		require.NoError(t, admin.New(db).RemoveShard(t.Context(), "a", "me", "x"))
		_, err = l.Apply(t.Context(), scheduler.Plan{Releases: []scheduler.Release{{Host: 1}}})
		require.ErrorIs(t, err, store.ErrFenced)
		shards, err := admin.New(db).Shards(t.Context())
		require.NoError(t, err)
		require.Len(t, shards, 2)
		require.Equal(t, 60, shards[0].Hosts)
		require.ErrorIs(t, admin.New(db).AddShard(t.Context(), "b", "", "me", ""), admin.ErrInput)
		require.ErrorIs(t, admin.New(db).AddShard(t.Context(), shard.Master, "", "me", ""), admin.ErrInput)
		_, err = admin.New(db).AssignLabel(t.Context(), "board:none", "b", "me", "x")
		require.ErrorIs(t, err, admin.ErrInput)
		_, err = admin.New(db).AssignLabel(t.Context(), "board:b00", "none", "me", "x")
		require.ErrorIs(t, err, store.ErrNoShard)
	})
}

func TestShardAddedAgain(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		lab := admin.New(db)
		require.NoError(t, lab.AddShard(t.Context(), "again", "", "me", ""))
		require.NoError(t, lab.PauseShard(t.Context(), "again", "me", "broken", "x"))
		require.NoError(t, lab.RemoveShard(t.Context(), "again", "me", "x"))
		require.NoError(t, lab.AddShard(t.Context(), "again", "", "me", ""))
		fence, ok, err := db.ReadFence(t.Context(), "again")
		require.NoError(t, err)
		require.True(t, ok)
		require.Empty(t, fence.Paused)
		require.Empty(t, fence.PausedBy)
		require.Zero(t, fence.PausedAt)
		storetest.TakeOver(t, db, storetest.SharedScope("again"), 1)
	})
}

// TestJournalOfShards: whoever watches the journal hears of what is done to shards.
func TestJournalOfShards(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		lab := admin.New(db)
		require.NoError(t, lab.AddShard(t.Context(), "told", "", "me", "rack"))
		require.NoError(t, lab.PauseShard(t.Context(), "told", "me", "power work", "power work"))
		require.NoError(t, lab.PauseShard(t.Context(), "told", "me", "", "power is back"))
		require.ErrorIs(t, lab.PauseShard(t.Context(), "told", "me", "", "again"), admin.ErrNotPaused)
		require.NoError(t, lab.AuditShard(t.Context(), "me", admin.ActionSwitchover, "told", "from a to b"))
		require.NoError(t, lab.RemoveShard(t.Context(), "told", "me", "rack is gone"))
		var told []string
		require.NoError(t, sqldb.EachRow(t.Context(), db.SQL(), "SELECT kind, shard, who, reason FROM hostsched_events ORDER BY id", nil, func(scan sqldb.Scanner) error {
			var kind, name, who, reason string
			err := scan(&kind, &name, &who, &reason)
			told = append(told, strings.Join([]string{kind, name, who, reason}, " "))
			return err
		}))
		require.Equal(t, []string{
			"shard.added told me rack", "shard.paused told me power work", "shard.resumed told me power is back", "shard.switchover told me from a to b", "shard.removed told me rack is gone",
		}, told)
	})
}

func TestTextsLongerThanTheirColumn(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		lab := admin.New(db)
		require.NoError(t, lab.AddShard(t.Context(), "long", "", "me", ""))
		before, err := lab.AuditRecords(t.Context(), 10)
		require.NoError(t, err)
		for limit, err := range map[string]error{
			"at most 500":   lab.PauseShard(t.Context(), "long", "me", strings.Repeat("x", 501), "x"),
			"at most 16000": lab.PauseShard(t.Context(), "long", "me", "", strings.Repeat("x", 70000)),
			"at most 190":   lab.RemoveShard(t.Context(), "long", strings.Repeat("x", 191), "x"),
		} {
			require.ErrorIs(t, err, admin.ErrInput)
			require.ErrorContains(t, err, limit)
			storetest.RequireOneLine(t, err)
		}
		after, err := lab.AuditRecords(t.Context(), 10)
		require.NoError(t, err)
		require.Equal(t, before, after)
	})
}

// TestLongestTextsAreStoredWhole: what the limits allow fits into its column, whatever its
// letters are.
func TestLongestTextsAreStoredWhole(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		lab := admin.New(db)
		text := func(limit int) string { return strings.Repeat("😀", limit) }
		name, who, pause, reason := shard.Name(text(shard.MaxName)), text(shard.MaxName), text(shard.MaxPause), text(shard.MaxReason)
		require.NoError(t, lab.AddShard(t.Context(), name, text(shard.MaxDSN), who, reason))
		require.NoError(t, lab.PauseShard(t.Context(), name, who, pause, text(shard.MaxDetail)))
		server := admin.Server{Name: text(shard.MaxServer), Status: admin.ServerPrimary, Note: reason}
		_, err := lab.ChangeServers(t.Context(), "test", admin.Agreement{}, admin.AddServer(server))
		require.NoError(t, err)

		shards, err := lab.Shards(t.Context())
		require.NoError(t, err)
		require.Equal(t, name, shards[len(shards)-1].Name)
		require.Equal(t, text(shard.MaxDSN), shards[len(shards)-1].DSN)
		require.Equal(t, pause, shards[len(shards)-1].Paused)
		require.Empty(t, shards[0].Paused)
		fence, _, err := db.ReadFence(t.Context(), name)
		require.NoError(t, err)
		require.Equal(t, []string{pause, who}, []string{fence.Paused, fence.PausedBy})
		records, err := lab.AuditRecords(t.Context(), 2)
		require.NoError(t, err)
		require.Equal(t, text(shard.MaxDetail), records[0].Detail)
		require.Equal(t, text(shard.MaxDSN)+" "+reason, records[1].Detail)
		servers, err := lab.Servers(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{server.Name, reason}, []string{servers.Rows[len(servers.Rows)-1].Name, servers.Rows[len(servers.Rows)-1].Note})

		require.ErrorIs(t, lab.AddShard(t.Context(), "other", text(shard.MaxDSN+1), who, ""), admin.ErrInput)
		server.Name += "x"
		_, err = lab.ChangeServers(t.Context(), "test", admin.Agreement{}, admin.AddServer(server))
		require.ErrorIs(t, err, admin.ErrInput)
		require.ErrorContains(t, err, "129 characters, at most 128")
	})
}

// TestRefusedChangeWritesNothing: not even a row of the fence.
func TestRefusedChangeWritesNothing(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillLab(t, db)
		_, err := admin.New(db).AssignLabel(t.Context(), "board:b00", "ghost", "me", "")
		require.ErrorIs(t, err, store.ErrNoShard)
		require.Error(t, admin.New(db).RemoveShard(t.Context(), "ghost", "me", ""))
		require.Zero(t, storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_fence WHERE shard = 'ghost'"))
	})
}
