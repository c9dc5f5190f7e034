package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

func scopeFor(name shard.Name) store.Scope { return store.Scope{Shard: name, Shared: true} }

func takeOverShared(t testing.TB, db *store.DB, name shard.Name, token int64) *store.Leader {
	t.Helper()
	l, err := db.TakeOver(context.Background(), store.Claim{Shard: name, Token: token, Cluster: "test", Holder: fmt.Sprint(name, token), Shared: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

// shardedLab has shards a and b beside the master; board:b00 is a's, board:b01
// is b's, board:b02 nobody's.
func shardedLab(t testing.TB, db *store.DB) {
	t.Helper()
	fillLab(t, db)
	for i, name := range []shard.Name{"a", "b"} {
		require.NoError(t, admin.New(db).AddShard(t.Context(), name, "", "me", ""))
		_, err := admin.New(db).AssignLabel(t.Context(), fmt.Sprintf("board:b0%d", i), name, "me", "")
		require.NoError(t, err)
	}
}

// tick runs one tick of a shard.
func tick(t testing.TB, db *store.DB, l *store.Leader, name shard.Name) store.Result {
	t.Helper()
	s, err := db.Snapshot(t.Context(), scopeFor(name))
	require.NoError(t, err)
	s.Recorder, err = db.Recorder(t.Context(), scopeFor(name))
	require.NoError(t, err)
	res, err := l.Apply(t.Context(), scheduler.MakePlan(s))
	require.NoError(t, err)
	return res
}

// TestEverythingBelongsToOneShard: what the shards read of a random lab is
// disjoint, complete, and as the pure rules say.
func TestEverythingBelongsToOneShard(t *testing.T) {
	onEveryServer(t, func(t *testing.T, db *store.DB) {
		shardedLab(t, db)
		rng := rand.New(rand.NewPCG(4, 4))
		for range 10 {
			shuffleShards(t, db, rng)
			layout, hosts, entries := truth(t, db)
			seenHosts, seenEntries := map[int64]shard.ID{}, map[int64]shard.ID{}
			for id, name := range map[shard.ID]shard.Name{0: shard.Master, 1: "a", 2: "b"} {
				s, err := db.Snapshot(t.Context(), scopeFor(name))
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
	layout = shard.Layout{Names: map[shard.ID]shard.Name{1: "a", 2: "b"}, Labels: map[int64]shard.ID{}, Released: map[int64]shard.ID{}}
	hosts, entries = map[int64]shard.ID{}, map[int64]shard.ID{}
	owner := map[int64]shard.ID{}
	for query, row := range map[string]func(a, b, c int64){
		"SELECT label_id, shard_id, 0 FROM afe_shards_labels":         func(l, s, _ int64) { layout.Labels[l] = shard.ID(s) },
		"SELECT label_id, shard_id, 0 FROM hostsched_released_labels": func(l, s, _ int64) { layout.Released[l] = shard.ID(s) },
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
// released; until then nobody else has them, and they are not given out.
func TestHostsGoHome(t *testing.T) {
	onEveryServer(t, func(t *testing.T, db *store.DB) {
		shardedLab(t, db)
		master := takeOverShared(t, db, shard.Master, 1)
		a := takeOverShared(t, db, "a", 2)
		tick(t, db, master, shard.Master) // releases what is unused
		tick(t, db, master, shard.Master)
		require.Equal(t, 19, count(t, db, "SELECT COUNT(*) FROM afe_hosts WHERE shard_id = 1"), "all but the one with a special task")
		given := tick(t, db, a, "a").Applied.Assignments
		require.NotEmpty(t, given)
		inUse := count(t, db, "SELECT COUNT(*) FROM afe_hosts WHERE shard_id = 1 AND leased = 1")
		require.Positive(t, inUse)

		_, err := admin.New(db).AssignLabel(t.Context(), "board:b00", "b", "me", "test")
		require.NoError(t, err)
		moved := tick(t, db, a, "a").Applied
		require.Empty(t, moved.Assignments, "a host that leaves is not given out")
		require.Len(t, moved.Moves, 19-inUse)
		require.Equal(t, inUse, count(t, db, "SELECT COUNT(*) FROM afe_hosts WHERE shard_id = 1"), "those in use stay")
		host := given[slices.IndexFunc(given, func(a scheduler.Assignment) bool { return a.Status == scheduler.StatusQueued })].Host
		for _, text := range []string{
			fmt.Sprintf("UPDATE afe_host_queue_entries SET active = 0, complete = 1, status = 'Completed' WHERE host_id = %d", host),
			fmt.Sprintf("UPDATE afe_special_tasks SET is_complete = 1 WHERE host_id = %d", host),
			fmt.Sprintf("UPDATE afe_hosts SET status = 'Ready' WHERE id = %d", host),
		} {
			_, err := db.SQL().Exec(text)
			require.NoError(t, err)
		}
		require.Len(t, tick(t, db, a, "a").Applied.Releases, 1)
		require.Equal(t, host, tick(t, db, a, "a").Applied.Moves[0].Host)
		require.Equal(t, 1, count(t, db, fmt.Sprintf("SELECT COUNT(*) FROM afe_hosts WHERE id = %d AND shard_id = 2", host)))
	})
}

// TestPlanOnAFormerLayoutIsRefused: between snapshot and apply a label moved, or
// the shard was paused.
func TestPlanOnAFormerLayoutIsRefused(t *testing.T) {
	onEveryServer(t, func(t *testing.T, db *store.DB) {
		shardedLab(t, db)
		l := takeOverShared(t, db, shard.Master, 1)
		for _, change := range []func() error{
			func() error {
				_, err := admin.New(db).AssignLabel(t.Context(), "board:b02", "a", "me", "x")
				return err
			},
			func() error { return admin.New(db).PauseShard(t.Context(), shard.Master, "me", "power", "power") },
		} {
			s, err := db.Snapshot(t.Context(), scopeFor(shard.Master))
			require.NoError(t, err)
			plan := scheduler.MakePlan(s)
			require.False(t, plan.Empty())
			before := dump(t, db)
			require.NoError(t, change())
			_, err = l.Apply(t.Context(), plan)
			require.ErrorIs(t, err, store.ErrLayout)
			require.NotErrorIs(t, err, store.ErrFenced)
			require.Equal(t, before, dump(t, db))
		}
		require.True(t, tick(t, db, l, shard.Master).Applied.Empty(), "a paused shard plans nothing")
		require.NoError(t, admin.New(db).PauseShard(t.Context(), shard.Master, "me", "", "on"))
		require.False(t, tick(t, db, l, shard.Master).Applied.Empty())
	})
}

// TestStaleOwnerCannotTouchAHost: a host that went to another shard is not
// changed by a plan of the former owner, even with a valid fence.
func TestStaleOwnerCannotTouchAHost(t *testing.T) {
	onEveryServer(t, func(t *testing.T, db *store.DB) {
		shardedLab(t, db)
		l := takeOverShared(t, db, shard.Master, 1)
		s, err := db.Snapshot(t.Context(), scopeFor(shard.Master))
		require.NoError(t, err)
		plan := scheduler.MakePlan(s)
		require.NotEmpty(t, plan.Assignments)
		require.NotEmpty(t, plan.Releases)
		_, err = db.SQL().Exec("UPDATE afe_hosts SET shard_id = 2") // by somebody else
		require.NoError(t, err)
		before := dump(t, db)
		res, err := l.Apply(t.Context(), plan)
		require.NoError(t, err)
		require.Empty(t, res.Applied.Assignments)
		require.Len(t, res.Conflicts, len(plan.Assignments))
		require.Equal(t, before, dump(t, db))
	})
}

// TestRenamedShard: a leader under the former name is fenced by the first one
// under the new.
func TestRenamedShard(t *testing.T) {
	onEveryServer(t, func(t *testing.T, db *store.DB) {
		shardedLab(t, db)
		old := takeOverShared(t, db, "a", 1)
		_, err := db.SQL().Exec("UPDATE afe_shards SET hostname = 'z' WHERE hostname = 'a'")
		require.NoError(t, err)
		_, err = db.Snapshot(t.Context(), scopeFor("a"))
		require.ErrorIs(t, err, store.ErrNoShard)
		takeOverShared(t, db, "z", 2)
		_, err = old.Apply(t.Context(), scheduler.Plan{Releases: []scheduler.Release{{Host: 1}}})
		require.ErrorIs(t, err, store.ErrFenced)
		_, err = db.TakeOver(t.Context(), store.Claim{Shard: "a", Token: 3, Cluster: "test", Holder: "x", Shared: true})
		require.ErrorIs(t, err, store.ErrNoShard)
	})
}

var errStop = errors.New("stopped here")

// steps returns the names of all steps of moving a label.
func moveSteps(t *testing.T, lab *admin.Lab) (steps []string) {
	lab.FailAtStep(func(name string) error {
		steps = append(steps, name)
		return nil
	})
	defer lab.FailAtStep(nil)
	_, err := lab.AssignLabel(t.Context(), "board:b00", "b", "me", "all steps")
	require.NoError(t, err)
	_, err = lab.AssignLabel(t.Context(), "board:b00", "a", "me", "and back")
	require.NoError(t, err)
	require.Greater(t, len(steps), 8)
	return steps[:len(steps)/2]
}

// requireOneOwner: the label has one owner, want, and every host of it has one;
// then the next leaders of both shards carry the move on.
func requireMoved(t *testing.T, db *store.DB, want int, token int64) {
	t.Helper()
	require.Equal(t, 1, count(t, db, "SELECT COUNT(*) FROM afe_shards_labels s JOIN afe_labels l ON l.id = s.label_id WHERE l.name = 'board:b00'"))
	require.Equal(t, want, count(t, db, "SELECT s.shard_id FROM afe_shards_labels s JOIN afe_labels l ON l.id = s.label_id WHERE l.name = 'board:b00'"))
	leaders := map[shard.Name]*store.Leader{}
	for i, name := range []shard.Name{shard.Master, "a", "b"} {
		leaders[name] = takeOverShared(t, db, name, token+int64(i))
	}
	for range 2 {
		for name, l := range leaders {
			tick(t, db, l, name)
		}
	}
	require.Zero(t, count(t, db, fmt.Sprintf("SELECT COUNT(*) FROM afe_hosts h JOIN afe_hosts_labels l ON l.host_id = h.id JOIN afe_labels n ON n.id = l.label_id WHERE n.name = 'board:b00' AND h.leased = 0 AND COALESCE(h.shard_id, 0) <> %d", want)))
	require.Zero(t, count(t, db, "SELECT COUNT(*) FROM (SELECT host_id FROM afe_host_queue_entries WHERE active = 1 GROUP BY host_id HAVING COUNT(*) > 1) d"))
	for _, l := range leaders {
		require.NoError(t, l.Close())
	}
}

// TestMovingALabelFailsAtEveryStep: wherever it stops, nothing has happened, or,
// after the commit, everything.
func TestMovingALabelFailsAtEveryStep(t *testing.T) {
	onEveryServer(t, func(t *testing.T, db *store.DB) {
		shardedLab(t, db)
		token, lab := int64(1), admin.New(db)
		for _, stop := range moveSteps(t, lab) {
			lab.FailAtStep(func(name string) error {
				if name == stop {
					return errStop
				}
				return nil
			})
			_, err := lab.AssignLabel(t.Context(), "board:b00", "b", "me", "stops at "+stop)
			require.ErrorIs(t, err, errStop, stop)
			lab.FailAtStep(nil)
			want := 1
			if stop == "commit" {
				want = 2
			}
			requireMoved(t, db, want, token)
			require.Equal(t, want-1, count(t, db, "SELECT COUNT(*) FROM hostsched_audit WHERE detail LIKE '%stops at "+stop+"'"))
			token += 3
		}
	})
}

// moverEnv makes this binary move a label and hang at a step.
const moverEnv = "HOSTSCHED_TEST_MOVER"

// moveAndHang is the process that the next test kills.
func moveAndHang(dsn, stop string) int {
	db, err := store.Open(context.Background(), sqldb.Config{DSN: dsn, TxTimeout: txTimeout})
	if err != nil {
		fmt.Println(err)
		return 3
	}
	lab := admin.New(db)
	lab.FailAtStep(func(name string) error {
		if name != stop {
			return nil
		}
		fmt.Println("here")
		_, err := os.Stdin.Read(make([]byte, 1)) // until it is killed
		return err
	})
	_, err = lab.AssignLabel(context.Background(), "board:b00", "b", "me", "killed")
	fmt.Println(err)
	return 1
}

// TestMovingALabelIsKilledAtEveryStep: as above, with SIGKILL of a process.
func TestMovingALabelIsKilledAtEveryStep(t *testing.T) {
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			dsn := s.dsn(t)
			db := open(t, dsn)
			_, err := schema.Up(t.Context(), db.DB, schema.Options{})
			require.NoError(t, err)
			shardedLab(t, db)
			token := int64(1)
			for _, stop := range moveSteps(t, admin.New(db)) {
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), moverEnv+"="+stop, sleeperEnv+"="+dsn)
				stdin, err := cmd.StdinPipe()
				require.NoError(t, err)
				out, err := cmd.StdoutPipe()
				require.NoError(t, err)
				require.NoError(t, cmd.Start())
				line, err := bufio.NewReader(out).ReadString('\n')
				require.NoError(t, err)
				require.Equal(t, "here\n", line)
				require.NoError(t, cmd.Process.Kill())
				require.Error(t, cmd.Wait())
				_ = stdin.Close() // the process is gone
				want := 1
				if stop == "commit" {
					want = 2
				}
				requireMoved(t, db, want, token)
				token += 3
			}
		})
	}
}

func TestRemoveShard(t *testing.T) {
	onEveryServer(t, func(t *testing.T, db *store.DB) {
		shardedLab(t, db)
		l := takeOverShared(t, db, "a", 1)
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

func TestHistoryOfTerms(t *testing.T) {
	onEveryServer(t, func(t *testing.T, db *store.DB) {
		first := takeOver(t, db, shard.Master, 1)
		second := takeOver(t, db, shard.Master, 5)
		require.NoError(t, second.EndTerm(t.Context(), store.TermEnd{Cause: "handed over", Planned: true, Ticks: 3, Assignments: 4}))
		takeOver(t, db, shard.Master, 9)
		terms, err := db.Terms(t.Context(), shard.Master, 10)
		require.NoError(t, err)
		require.Len(t, terms, 3)
		require.True(t, terms[0].Ended.IsZero())
		require.Equal(t, "handed over", terms[1].Cause)
		require.True(t, terms[1].Planned)
		require.EqualValues(t, 4, terms[1].Assignments)
		require.Contains(t, terms[2].Cause, "lost")
		require.False(t, terms[2].Planned)
		require.Equal(t, first.Fence().Epoch, terms[2].Epoch)
		failovers, err := db.Failovers(t.Context())
		require.NoError(t, err)
		require.Equal(t, map[shard.Name]int{shard.Master: 1}, failovers)
	})
}

func TestServersTable(t *testing.T) {
	onEveryServer(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		there, err := admin.New(db).HasServers(ctx)
		require.NoError(t, err)
		require.True(t, there)
		require.NoError(t, admin.New(db).AddServer(ctx, admin.Server{Name: "s1", Status: admin.ServerPrimary, Roles: []string{admin.RoleHostScheduler, "drone"}}))
		require.ErrorIs(t, admin.New(db).AddServer(ctx, admin.Server{Name: "s1"}), admin.ErrInput)
		changed, err := admin.New(db).SetRole(ctx, "s1", "drone", true)
		require.NoError(t, err)
		require.False(t, changed)
		changed, err = admin.New(db).SetRole(ctx, "s1", "drone", false)
		require.NoError(t, err)
		require.True(t, changed)
		require.NoError(t, admin.New(db).SetServerStatus(ctx, "s1", admin.ServerBackup))
		all, err := admin.New(db).Servers(ctx)
		require.NoError(t, err)
		require.Equal(t, []admin.Server{{Name: "s1", Status: "backup", Roles: []string{"host_scheduler"}}}, all)
		require.NoError(t, admin.New(db).RetireServer(ctx, "s1", "old"))
		require.ErrorIs(t, admin.New(db).RetireServer(ctx, "s2", "old"), admin.ErrInput)
		all, err = admin.New(db).Servers(ctx)
		require.NoError(t, err)
		require.Equal(t, []admin.Server{{Name: "s1", Status: "repair_required", Roles: []string{}, Note: "old"}}, all)
	})
}
