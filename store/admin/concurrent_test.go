package admin_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
	"github.com/hostsched/hostsched/store/sqldb"
)

// TestTwoMovesOfALabel: two people move a label of shard b at the same time, first
// to a, then to the master. The second one waits for the fence of b and has to see
// that the label is a's by then.
func TestTwoMovesOfALabel(t *testing.T) {
	storetest.OnEachDatabase(t, func(t *testing.T, dsn string) {
		db := storetest.NewLab(t, dsn)
		storetest.FillShardedLab(t, db)
		layout := layoutOf(t, db, "a")
		first, second := admin.New(db), admin.New(storetest.Open(t, dsn))
		locked, goOn := make(chan struct{}), make(chan struct{})
		first.FailAtStep(func(name string) error {
			if name == "fence b" {
				close(locked)
				<-goOn
			}
			return nil
		})
		var g errgroup.Group
		g.Go(func() error { _, err := first.AssignLabel(t.Context(), "board:b01", "a", "me", "first"); return err })
		<-locked
		g.Go(func() error {
			_, err := second.AssignLabel(t.Context(), "board:b01", shard.Master, "me", "second")
			return err
		})
		// The server renews what it says of waiting transactions only when nobody has
		// asked for a tenth of a second.
		require.Eventually(t, func() bool { return waits(t, db, second) }, 10*time.Second, 150*time.Millisecond, "the second move waits")
		close(goOn)
		require.NoError(t, g.Wait())
		require.Equal(t, layout+2, layoutOf(t, db, "a"), "a got the label and lost it")
		require.Equal(t, 1, storetest.Count(t, db, "SELECT shard_id FROM hostsched_released_labels WHERE label_id = (SELECT id FROM afe_labels WHERE name = 'board:b01')"), "the hosts of a must follow to the master")
	})
}

// waits tells whether a change waits for a lock; it has read by then who owns the
// label. SQLite does not say who waits, only that a connection is in use.
func waits(t *testing.T, db *store.DB, lab *admin.Lab) bool {
	if db.Dialect.Server == sqldb.ServerSQLite {
		return lab.Pool.Stats().InUse > 0
	}
	return storetest.Count(t, db, "SELECT COUNT(*) FROM information_schema.INNODB_TRX WHERE trx_state = 'LOCK WAIT'") > 0
}

func layoutOf(t *testing.T, db *store.DB, name shard.Name) int {
	return storetest.Count(t, db, "SELECT COALESCE(MAX(layout), 0) FROM hostsched_fence WHERE lane = 0 AND shard = ?", name.String())
}

// move is what the audit log says of a move.
type move struct{ label, from, to string }

// moves reads the audit log. Moves of one label follow each other there, because
// each holds the fence of the owner that the one before has set.
func moves(t *testing.T, lab *admin.Lab) []move {
	var out []move
	require.NoError(t, sqldb.EachRow(t.Context(), lab.Pool, "SELECT subject, detail FROM hostsched_audit WHERE action = 'shard assign-label' ORDER BY id", nil, func(scan sqldb.Scanner) error {
		var m move
		var detail string
		if err := scan(&m.label, &detail); err != nil {
			return err
		}
		_, err := fmt.Sscanf(detail, "from %s to %s", &m.from, &m.to)
		m.to = m.to[:len(m.to)-1] // the colon before the reason
		out = append(out, m)
		return err
	}))
	return out
}

// TestManyMoveLabels: whoever moves labels at the same time, the result is one move
// after the other.
func TestManyMoveLabels(t *testing.T) {
	const people, each = 4, 12
	names := []shard.Name{shard.Master, "a", "b", "c"}
	storetest.OnEachDatabase(t, func(t *testing.T, dsn string) {
		db := storetest.NewLab(t, dsn)
		storetest.FillShardedLab(t, db)
		require.NoError(t, admin.New(db).AddShard(t.Context(), "c", "", "me", ""))
		var g errgroup.Group
		for n := range people {
			lab, rng := admin.New(storetest.Open(t, dsn)), rand.New(rand.NewPCG(uint64(n), 6))
			g.Go(func() error {
				for range each {
					if _, err := lab.AssignLabel(t.Context(), fmt.Sprintf("board:b0%d", rng.IntN(3)), names[rng.IntN(len(names))], fmt.Sprint(n), "test"); err != nil {
						return err
					}
				}
				return nil
			})
		}
		require.NoError(t, g.Wait())
		last, involved := map[string]move{}, map[string]int{}
		for _, m := range moves(t, admin.New(db)) {
			if before, moved := last[m.label]; moved {
				require.Equal(t, before.to, m.from, "moves of %s follow each other", m.label)
			}
			last[m.label] = m
			involved[m.from]++
			involved[m.to]++
		}
		require.Len(t, last, 3)
		for _, name := range names {
			require.Equal(t, involved[name.String()], layoutOf(t, db, name), "each move raises the layout of %s", name)
		}
		requireHostsFollow(t, db, names, last)
	})
}

// requireHostsFollow: the labels belong where the last moves say, and the next
// leaders carry these moves on.
func requireHostsFollow(t *testing.T, db *store.DB, names []shard.Name, last map[string]move) {
	t.Helper()
	rows := map[string]int{shard.Master.String(): 0, "a": 1, "b": 2, "c": 3}
	for label, m := range last {
		owned, released := "SELECT COALESCE(SUM(shard_id), 0) FROM afe_shards_labels", "SELECT COALESCE(SUM(shard_id), 0) FROM hostsched_released_labels"
		where := " WHERE label_id = (SELECT id FROM afe_labels WHERE name = ?)"
		require.LessOrEqual(t, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_shards_labels"+where, label), 1)
		require.Equal(t, rows[m.to], storetest.Count(t, db, owned+where, label), label)
		want := 0
		if rows[m.to] == 0 {
			want = rows[m.from]
		}
		require.Equal(t, want, storetest.Count(t, db, released+where, label), label)
	}
	runTicks(t, db, names, 1)
	for label, m := range last {
		of := "SELECT COUNT(*) FROM afe_hosts h JOIN afe_hosts_labels l ON l.host_id = h.id JOIN afe_labels n ON n.id = l.label_id WHERE n.name = ? AND h.leased = 0 AND NOT EXISTS (SELECT 1 FROM afe_special_tasks t WHERE t.host_id = h.id AND t.is_complete = 0)"
		require.Zero(t, storetest.Count(t, db, of+" AND COALESCE(h.shard_id, 0) <> ?", label, rows[m.to]), "%+v", m)
	}
}

// runTicks runs two ticks of each shard with new leaders.
func runTicks(t *testing.T, db *store.DB, names []shard.Name, token int64) {
	t.Helper()
	leaders := map[shard.Name]*store.Leader{}
	db.ServeShards(len(names))
	for i, name := range names {
		leaders[name] = storetest.TakeOver(t, db, storetest.SharedScope(name), token+int64(i))
	}
	for range 2 {
		for name, l := range leaders {
			storetest.RunTick(t, db, l, storetest.SharedScope(name))
		}
	}
	for _, l := range leaders {
		require.NoError(t, l.Close())
	}
}

// TestHostsFollowALabelThatMovesOn: labels move on before their hosts have followed,
// leaders tick in between or do not, and shards come and go. In the end every host
// that nobody uses is with the shard of its board.
func TestHostsFollowALabelThatMovesOn(t *testing.T) {
	const walks, steps = 4, 12
	storetest.OnEachDatabase(t, func(t *testing.T, dsn string) {
		db := storetest.NewLab(t, dsn)
		storetest.FillShardedLab(t, db)
		// What is in use would stay.
		for _, text := range []string{"UPDATE afe_host_queue_entries SET complete = 1, active = 0", "UPDATE afe_special_tasks SET is_complete = 1", "UPDATE afe_hosts SET leased = 0"} {
			storetest.Exec(t, db, text)
		}
		lab := admin.New(db)
		token := int64(0)
		tick := func(names ...shard.Name) {
			runTicks(t, db, names, token+1)
			token += int64(len(names))
		}
		for walk := range walks {
			rng := rand.New(rand.NewPCG(uint64(walk), 7))
			brief := shard.Name(fmt.Sprintf("brief%d", walk))
			require.NoError(t, lab.AddShard(t.Context(), brief, "", "me", ""))
			names := []shard.Name{shard.Master, "a", "b", brief}
			for range steps {
				_, err := lab.AssignLabel(t.Context(), fmt.Sprintf("board:b0%d", rng.IntN(3)), names[rng.IntN(len(names))], "me", "test")
				require.NoError(t, err)
				if rng.IntN(3) == 0 {
					tick(names[rng.IntN(len(names))])
				}
			}
			for board := range 3 {
				_, err := lab.AssignLabel(t.Context(), fmt.Sprintf("board:b0%d", board), names[rng.IntN(3)], "me", "test")
				require.NoError(t, err)
			}
			tick(brief)
			require.NoError(t, lab.RemoveShard(t.Context(), brief, "me", "test"))
			tick(names[:3]...)
			tick(names[:3]...)
			require.Zero(t, storetest.Count(t, db, `SELECT COUNT(*) FROM afe_hosts h JOIN afe_hosts_labels l ON l.host_id = h.id JOIN afe_labels n ON n.id = l.label_id AND n.name LIKE 'board:%'
				LEFT JOIN afe_shards_labels s ON s.label_id = l.label_id WHERE COALESCE(h.shard_id, 0) <> COALESCE(s.shard_id, 0)`), "walk %d", walk)
		}
	})
}
