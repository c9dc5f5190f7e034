package store_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

// TestEverythingBelongsToOneShard: what the shards read of a random lab is
// disjoint, complete, and as the pure rules say.
func TestEverythingBelongsToOneShard(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillShardedLab(t, db)
		rng := rand.New(rand.NewPCG(4, 4))
		for range 10 {
			shuffleShards(t, db, rng)
			layout, hosts, entries := truth(t, db)
			seenHosts, seenEntries := map[int64]shard.ID{}, map[int64]shard.ID{}
			for id, name := range map[shard.ID]shard.Name{0: shard.Master, 1: "a", 2: "b"} {
				s, err := db.Snapshot(t.Context(), storetest.SharedScope(name))
				require.NoError(t, err)
				require.Equal(t, scheduler.ShardID(id), s.Basis.Shard)
				for _, h := range s.Hosts {
					require.NotContains(t, seenHosts, int64(h.ID), "host in two shards")
					seenHosts[int64(h.ID)] = id
					var labels []int64
					for _, l := range h.Labels {
						labels = append(labels, int64(l))
					}
					require.EqualValues(t, layout.Home(id, labels), h.Home)
					require.Equal(t, h.Home != h.Shard, h.Displaced)
				}
				for _, e := range s.Entries {
					require.NotContains(t, seenEntries, int64(e.ID), "entry in two shards")
					seenEntries[int64(e.ID)] = id
				}
			}
			require.Equal(t, hosts, seenHosts)
			require.Equal(t, entries, seenEntries)
		}
	})
}

// shuffleShards gives hosts and labels to random shards, and has some entries
// name a host.
func shuffleShards(t *testing.T, db *store.DB, rng *rand.Rand) {
	exec := func(query string, args ...any) {
		_, err := db.SQL().Exec(query, args...)
		require.NoError(t, err)
	}
	exec("DELETE FROM afe_shards_labels")
	exec("DELETE FROM hostsched_released_labels")
	exec("UPDATE afe_host_queue_entries SET host_id = NULL")
	for label := 1; label <= 20; label++ {
		switch owner := rng.IntN(4); owner {
		case 1, 2:
			exec("INSERT INTO afe_shards_labels (label_id, shard_id) VALUES (?, ?)", label, owner)
		case 3:
			exec("INSERT INTO hostsched_released_labels (label_id, shard_id) VALUES (?, ?)", label, 1+rng.IntN(2))
		}
	}
	for range 40 {
		var owner any
		if n := rng.IntN(3); n > 0 {
			owner = n
		}
		exec("UPDATE afe_hosts SET shard_id = ? WHERE id = ?", owner, 1+rng.IntN(60))
		exec("UPDATE afe_host_queue_entries SET host_id = ? WHERE id = ?", 1+rng.IntN(60), 1+rng.IntN(80))
	}
}

// truth reads the tables plainly and applies the pure rules row by row.
func truth(t *testing.T, db *store.DB) (layout shard.Layout, hosts, entries map[int64]shard.ID) {
	layout = shard.Layout{Names: map[shard.ID]shard.Name{1: "a", 2: "b"}, Labels: map[int64]shard.ID{}, Released: map[int64]bool{}}
	hosts, entries = map[int64]shard.ID{}, map[int64]shard.ID{}
	owner := map[int64]shard.ID{}
	for query, row := range map[string]func(a, b, c int64){
		"SELECT label_id, shard_id, 0 FROM afe_shards_labels":         func(l, s, _ int64) { layout.Labels[l] = shard.ID(s) },
		"SELECT label_id, shard_id, 0 FROM hostsched_released_labels": func(l, _, _ int64) { layout.Released[l] = true },
		"SELECT id, COALESCE(shard_id, 0), 0 FROM afe_hosts":          func(h, s, _ int64) { owner[h] = shard.ID(s) },
	} {
		triples(t, db, query, row)
	}
	for h, s := range owner {
		hosts[h] = layout.OfHost(s)
	}
	triples(t, db, "SELECT id, COALESCE(host_id, 0), COALESCE(meta_host, 0) FROM afe_host_queue_entries WHERE status = 'Queued' AND active = 0 AND complete = 0 AND aborted = 0", func(e, h, meta int64) {
		entries[e] = layout.OfEntry(h != 0, owner[h], meta)
	})
	return layout, hosts, entries
}

func triples(t *testing.T, db *store.DB, query string, row func(a, b, c int64)) {
	rows, err := db.SQL().Query(query)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	for rows.Next() {
		var a, b, c int64
		require.NoError(t, rows.Scan(&a, &b, &c))
		row(a, b, c)
	}
	require.NoError(t, rows.Err())
}

// TestHostsGoHome: hosts follow their label, those in use when they are
// released; until then nobody else has them, and they are not assigned.
func TestHostsGoHome(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillShardedLab(t, db)
		master := storetest.TakeOver(t, db, storetest.SharedScope(shard.Master), 1)
		a := storetest.TakeOver(t, db, storetest.SharedScope("a"), 2)
		storetest.RunTick(t, db, master, storetest.SharedScope(shard.Master)) // releases what is unused
		storetest.RunTick(t, db, master, storetest.SharedScope(shard.Master))
		require.Equal(t, 19, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_hosts WHERE shard_id = 1"), "all but the one with a special task")
		given := storetest.RunTick(t, db, a, storetest.SharedScope("a")).Applied.Assignments
		require.NotEmpty(t, given)
		inUse := storetest.Count(t, db, "SELECT COUNT(*) FROM afe_hosts WHERE shard_id = 1 AND leased = 1")
		require.Positive(t, inUse)

		_, err := admin.New(db).AssignLabel(t.Context(), "board:b00", "b", "me", "test")
		require.NoError(t, err)
		moved := storetest.RunTick(t, db, a, storetest.SharedScope("a")).Applied
		require.Empty(t, moved.Assignments, "a host that leaves is not assigned")
		require.Len(t, moved.Moves, 19-inUse)
		require.Equal(t, inUse, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_hosts WHERE shard_id = 1"), "those in use stay")
		host := given[slices.IndexFunc(given, func(a scheduler.Assignment) bool { return a.Status == scheduler.StatusQueued })].Host
		for _, text := range []string{
			fmt.Sprintf("UPDATE afe_host_queue_entries SET active = 0, complete = 1, status = 'Completed' WHERE host_id = %d", host),
			fmt.Sprintf("UPDATE afe_special_tasks SET is_complete = 1 WHERE host_id = %d", host),
			fmt.Sprintf("UPDATE afe_hosts SET status = 'Ready' WHERE id = %d", host),
		} {
			_, err := db.SQL().Exec(text)
			require.NoError(t, err)
		}
		require.Len(t, storetest.RunTick(t, db, a, storetest.SharedScope("a")).Applied.Releases, 1)
		require.Equal(t, host, storetest.RunTick(t, db, a, storetest.SharedScope("a")).Applied.Moves[0].Host)
		require.Equal(t, 1, storetest.Count(t, db, fmt.Sprintf("SELECT COUNT(*) FROM afe_hosts WHERE id = %d AND shard_id = 2", host)))
	})
}

// TestPlanOnAFormerLayoutIsRefused: between snapshot and apply a label moved, or
// the shard was paused.
func TestPlanOnAFormerLayoutIsRefused(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillShardedLab(t, db)
		l := storetest.TakeOver(t, db, storetest.SharedScope(shard.Master), 1)
		for _, change := range []func() error{
			func() error {
				_, err := admin.New(db).AssignLabel(t.Context(), "board:b02", "a", "me", "x")
				return err
			},
			func() error { return admin.New(db).PauseShard(t.Context(), shard.Master, "me", "power", "power") },
		} {
			s, err := db.Snapshot(t.Context(), storetest.SharedScope(shard.Master))
			require.NoError(t, err)
			plan := scheduler.MakePlan(s)
			require.False(t, plan.Empty())
			before := storetest.Dump(t, db)
			require.NoError(t, change())
			_, err = l.Apply(t.Context(), plan)
			require.ErrorIs(t, err, store.ErrLayout)
			require.NotErrorIs(t, err, store.ErrFenced)
			require.Equal(t, before, storetest.Dump(t, db))
		}
		require.True(t, storetest.RunTick(t, db, l, storetest.SharedScope(shard.Master)).Applied.Empty(), "a paused shard plans nothing")
		require.NoError(t, admin.New(db).PauseShard(t.Context(), shard.Master, "me", "", "on"))
		require.False(t, storetest.RunTick(t, db, l, storetest.SharedScope(shard.Master)).Applied.Empty())
	})
}

// TestStaleOwnerCannotTouchAHost: a host that went to another shard is not
// changed by a plan of the former owner, even with a valid fence.
func TestStaleOwnerCannotTouchAHost(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillShardedLab(t, db)
		l := storetest.TakeOver(t, db, storetest.SharedScope(shard.Master), 1)
		s, err := db.Snapshot(t.Context(), storetest.SharedScope(shard.Master))
		require.NoError(t, err)
		plan := scheduler.MakePlan(s)
		require.NotEmpty(t, plan.Assignments)
		require.NotEmpty(t, plan.Releases)
		_, err = db.SQL().Exec("UPDATE afe_hosts SET shard_id = 2") // by somebody else
		require.NoError(t, err)
		before := storetest.Dump(t, db)
		res, err := l.Apply(t.Context(), plan)
		require.NoError(t, err)
		require.Empty(t, res.Applied.Assignments)
		require.Len(t, res.Conflicts, len(plan.Assignments))
		require.Equal(t, before, storetest.Dump(t, db))
	})
}

// TestRenamedShard: a leader under the former name is fenced by the first one
// under the new.
func TestRenamedShard(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillShardedLab(t, db)
		old := storetest.TakeOver(t, db, storetest.SharedScope("a"), 1)
		_, err := db.SQL().Exec("UPDATE afe_shards SET hostname = 'z' WHERE hostname = 'a'")
		require.NoError(t, err)
		_, err = db.Snapshot(t.Context(), storetest.SharedScope("a"))
		require.ErrorIs(t, err, store.ErrNoShard)
		storetest.TakeOver(t, db, storetest.SharedScope("z"), 2)
		_, err = old.Apply(t.Context(), scheduler.Plan{Releases: []scheduler.Release{{Host: 1}}})
		require.ErrorIs(t, err, store.ErrFenced)
		_, err = db.TakeOver(t.Context(), store.Claim{Shard: "a", Token: 3, Cluster: "test", Holder: "x", Shared: true})
		require.ErrorIs(t, err, store.ErrNoShard)
	})
}

func TestHistoryOfTerms(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		first := storetest.TakeOver(t, db, storetest.WholeLab, 1)
		second := storetest.TakeOver(t, db, storetest.WholeLab, 5)
		require.NoError(t, second.EndTerm(t.Context(), store.TermEnd{Cause: "handed over", Planned: true, Ticks: 3, Assignments: 4}))
		storetest.TakeOver(t, db, storetest.WholeLab, 9)
		terms, err := db.Terms(t.Context(), shard.Master, 10)
		require.NoError(t, err)
		require.Len(t, terms, 3)
		require.True(t, terms[0].Ended.IsZero())
		require.Equal(t, "handed over", terms[1].Cause)
		require.True(t, terms[1].Planned)
		require.EqualValues(t, 4, terms[1].Assignments)
		require.Equal(t, "lease expired", terms[2].Cause)
		for _, unknown := range []store.Term{terms[0], terms[2]} {
			require.EqualValues(t, -1, unknown.Ticks)
			require.EqualValues(t, -1, unknown.Assignments)
		}
		require.Equal(t, []string{"", terms[0].Holder, terms[1].Holder}, []string{terms[0].Next, terms[1].Next, terms[2].Next})
		require.False(t, terms[2].Planned)
		require.Equal(t, first.Fence().Epoch, terms[2].Epoch)
		histories, err := db.Histories(t.Context())
		require.NoError(t, err)
		require.Equal(t, map[shard.Name]store.History{shard.Master: {Latest: terms[0], Failovers: 1}}, histories)
		holders, err := db.Holders(t.Context())
		require.NoError(t, err)
		require.Len(t, holders, len(terms))
		require.Equal(t, terms[0].Holder, holders[0])
		fences, err := db.Fences(t.Context())
		require.NoError(t, err)
		require.Equal(t, terms[0].Holder, fences[shard.Master].Holder)
		require.Equal(t, terms[0].Epoch, fences[shard.Master].Epoch)
	})
}

// TestHistoryOfTheDead: a successor that knows why its predecessor died says so, and
// whoever was taken for dead and lived adds what it saw, in either order.
func TestHistoryOfTheDead(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		causes := func() (out []string) {
			terms, err := db.Terms(t.Context(), shard.Master, 10)
			require.NoError(t, err)
			for _, term := range terms {
				out = append(out, term.Cause)
			}
			return out
		}
		successor := func(of *store.Leader, token, before int64) *store.Leader {
			l, err := db.TakeOver(t.Context(), store.Claim{Shard: shard.Master, Token: token, Cluster: "test", Holder: fmt.Sprint("r", token), Deaths: map[string]store.Death{of.Fence().Holder: {Why: "silent", Before: before}}})
			require.NoError(t, err)
			require.NoError(t, of.Close()) // every leader keeps connections
			return l
		}
		first := storetest.TakeOver(t, db, storetest.WholeLab, 1)
		second := successor(first, 5, 0)
		require.Equal(t, []string{"", "silent"}, causes())
		require.NoError(t, first.EndTerm(t.Context(), store.TermEnd{Cause: "lease lost"}))
		require.Equal(t, []string{"", "silent, but it lived: lease lost"}, causes())
		require.NoError(t, second.EndTerm(t.Context(), store.TermEnd{Cause: "key deleted"}))
		third := successor(second, 7, 6)
		require.Equal(t, "silent, but it lived: key deleted", causes()[1])
		require.NoError(t, third.EndTerm(t.Context(), store.TermEnd{Cause: "handed over", Planned: true}))
		fourth := successor(third, 9, 0)
		require.Equal(t, "handed over", causes()[1], "a planned end stays one")
		require.NoError(t, fourth.EndTerm(t.Context(), store.TermEnd{Cause: "lease lost"}))
		require.NoError(t, successor(fourth, 11, 8).Close())
		require.Equal(t, "lease lost", causes()[1], "it won this term after it had come back")
	})
}

// TestHistoryOfWhoCouldNotWrite: the history says why a term ended whose holder could not write
// so there, but told its successor, once, also if it can write later.
func TestHistoryOfWhoCouldNotWrite(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		const why = "stepping down after 3 failed ticks in a row: database unreachable"
		cause := func() string {
			terms, err := db.Terms(t.Context(), shard.Master, 10)
			require.NoError(t, err)
			require.False(t, terms[1].Planned)
			return terms[1].Cause
		}
		leader := storetest.TakeOver(t, db, storetest.WholeLab, 1)
		succeed := func(token int64, told store.LastWrites) (former *store.Leader) {
			next, err := db.TakeOver(t.Context(), store.Claim{Shard: shard.Master, Token: token, Cluster: "test", Holder: fmt.Sprint("r", token), Former: []store.LastWrites{told}})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, next.Close()) })
			require.NoError(t, leader.Close()) // every leader keeps connections
			former, leader = leader, next
			return former
		}
		told := leader.LastWrites()
		told.Cause = why[:20] // etcd has little room
		former := succeed(2, told)
		require.Equal(t, why[:20], cause())
		require.NoError(t, former.EndTerm(t.Context(), store.TermEnd{Cause: why}))
		require.Equal(t, why, cause())

		succeed(3, told)
		require.Equal(t, "lease expired", cause(), "what was told is of an earlier term")

		told = leader.LastWrites()
		told.Cause = why
		succeed(4, told)
		require.Equal(t, why, cause())
	})
}
