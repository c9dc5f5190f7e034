package admin_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

// wanderers is a lab whose labels move faster than their hosts.
type wanderers struct {
	*testing.T
	db     *store.DB
	lab    *admin.Lab
	rng    *rand.Rand
	shards []shard.Name // that exist, the master first
	token  int64
}

func (w *wanderers) exec(query string, args ...any) {
	w.Helper()
	_, err := w.db.SQL().Exec(query, args...)
	require.NoError(w, err, query)
}

func (w *wanderers) assign(label int, to shard.Name) {
	w.Helper()
	_, err := w.lab.AssignLabel(w.Context(), fmt.Sprintf("board:b0%d", label), to, "me", "test")
	require.NoError(w, err)
}

func (w *wanderers) anyShard() shard.Name { return w.shards[w.rng.IntN(len(w.shards))] }

// tick runs two ticks of a shard: hosts that are released in one move in the next.
func (w *wanderers) tick(name shard.Name) {
	w.Helper()
	w.token++
	l := storetest.TakeOver(w, w.db, storetest.SharedScope(name), w.token)
	for range 2 {
		storetest.RunTick(w, w.db, l, storetest.SharedScope(name))
	}
	require.NoError(w, l.Close())
}

// step does something that a person, a runner or a leader may do at any time.
func (w *wanderers) step(n int) {
	w.Helper()
	host := 1 + w.rng.IntN(60)
	switch w.rng.IntN(9) {
	case 0, 1, 2:
		w.assign(w.rng.IntN(3), w.anyShard())
	case 3:
		w.exec("UPDATE afe_hosts SET leased = 1, status = 'Running' WHERE id = ?", host)
	case 4:
		w.exec("UPDATE afe_hosts SET status = 'Ready'")
	case 5:
		w.exec("UPDATE afe_hosts SET shard_id = (SELECT MAX(id) FROM afe_shards) WHERE id = ?", host)
	case 6:
		w.exec("UPDATE afe_hosts SET shard_id = NULL WHERE id = ?", host)
	case 7:
		w.tick(w.anyShard())
	case 8:
		name := shard.Name(fmt.Sprintf("s%d", n))
		require.NoError(w, w.lab.AddShard(w.Context(), name, "", "me", ""))
		w.shards = append(w.shards, name)
	}
}

// settle lets every shard tick, the runners being done.
func (w *wanderers) settle() {
	w.Helper()
	w.exec("UPDATE afe_hosts SET status = 'Ready'")
	for range 2 {
		for _, name := range w.shards {
			w.tick(name)
		}
	}
}

// requireAtHome: each host is where the owners of its labels say, and with the master
// if its labels have none any more. Where no shard ever had one of its labels, it stays
// where somebody put it.
func (w *wanderers) requireAtHome() {
	w.Helper()
	const claimed = " IN (SELECT s.shard_id FROM afe_shards_labels s JOIN afe_hosts_labels l ON l.label_id = s.label_id WHERE l.host_id = h.id)"
	require.Zero(w, storetest.Count(w.T, w.db, "SELECT COUNT(*) FROM afe_hosts h WHERE h.shard_id IS NOT NULL AND NOT h.shard_id"+claimed+
		" AND EXISTS (SELECT 1 FROM hostsched_released_labels r JOIN afe_hosts_labels l ON l.label_id = r.label_id WHERE l.host_id = h.id)"), "hosts of a shard that does not claim them")
	require.Zero(w, storetest.Count(w.T, w.db, "SELECT COUNT(*) FROM afe_hosts h WHERE h.shard_id IS NULL AND EXISTS (SELECT 1 FROM afe_shards s WHERE s.id"+claimed+")"), "claimed hosts of the master")
}

// TestNoHostIsStranded: whatever labels, shards and hosts went through, in the end
// every host is where its labels belong, and every shard can be removed.
func TestNoHostIsStranded(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillShardedLab(t, db)
		w := &wanderers{T: t, db: db, lab: admin.New(db), rng: rand.New(rand.NewPCG(15, 7)), shards: []shard.Name{shard.Master, "a", "b"}}
		w.exec("UPDATE afe_host_queue_entries SET active = 0, complete = 1, status = 'Completed'")
		w.exec("UPDATE afe_special_tasks SET is_active = 0, is_complete = 1")
		w.exec("UPDATE afe_hosts SET leased = 0, locked = 0")
		for round := range 6 {
			for n := range 12 {
				w.step(100*round + n)
			}
			w.settle()
			w.requireAtHome()
		}
		for label := range 3 {
			w.assign(label, shard.Master)
		}
		w.settle()
		w.requireAtHome()
		for _, name := range w.shards[1:] {
			require.NoError(t, w.lab.RemoveShard(t.Context(), name, "me", "test"))
		}
	})
}

// TestLabelMovesOnBeforeItsHosts: a label goes from the master through two shards and
// back before the hosts of the first one have moved.
func TestLabelMovesOnBeforeItsHosts(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillShardedLab(t, db)
		w := &wanderers{T: t, db: db, lab: admin.New(db), shards: []shard.Name{shard.Master, "a", "b"}}
		w.exec("UPDATE afe_host_queue_entries SET active = 0, complete = 1, status = 'Completed'")
		w.exec("UPDATE afe_special_tasks SET is_active = 0, is_complete = 1")
		w.assign(2, "a")
		w.settle()
		require.Positive(t, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_hosts WHERE shard_id = 1"))
		for _, to := range []shard.Name{shard.Master, "b", shard.Master} {
			w.assign(2, to)
		}
		w.settle()
		w.requireAtHome()
	})
}

// TestStrandedHostsAreFound: hosts that are not where their labels belong, and do not
// get there by waiting, are found by the check, and named by what removes the shard.
func TestStrandedHostsAreFound(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillShardedLab(t, db)
		w := &wanderers{T: t, db: db, lab: admin.New(db), shards: []shard.Name{shard.Master, "a", "b"}}
		w.exec("UPDATE afe_host_queue_entries SET active = 0, complete = 1, status = 'Completed'")
		w.exec("UPDATE afe_special_tasks SET is_active = 0, is_complete = 1")
		w.exec("UPDATE afe_hosts SET leased = 0, locked = 0, status = 'Ready'")
		w.settle()
		require.Empty(t, w.stranded("a"))
		text, stuck, err := w.lab.Remaining(t.Context(), 1)
		require.NoError(t, err)
		require.False(t, stuck, text)

		// carrying is a host that carries a label.
		carrying := func(label string, nth int) int {
			return storetest.Count(t, db, fmt.Sprintf("SELECT l.host_id FROM afe_hosts_labels l JOIN afe_labels n ON n.id = l.label_id WHERE n.name = '%s' ORDER BY l.host_id LIMIT 1 OFFSET %d", label, nth))
		}
		pinned, locked, broken := carrying("board:b02", 0), carrying("board:b00", 0), carrying("board:b00", 1)
		w.exec("UPDATE afe_hosts SET shard_id = 1 WHERE id = ?", pinned)
		w.exec("UPDATE afe_hosts SET leased = 1, locked = 1 WHERE id = ?", locked)
		w.exec("UPDATE afe_hosts SET leased = 1, status = 'Repair Failed' WHERE id = ?", broken)
		w.assign(0, shard.Master)
		_, stuck, err = w.lab.Remaining(t.Context(), 1)
		require.NoError(t, err)
		require.False(t, stuck, "the others have yet to move")
		w.settleAsTheyAre()
		require.Len(t, w.stranded("a"), 3)
		require.Empty(t, w.stranded("b"))
		require.Empty(t, w.stranded(shard.Master))
		text, stuck, err = w.lab.Remaining(t.Context(), 1)
		require.NoError(t, err)
		require.True(t, stuck, text)
		for _, want := range []string{"by afe_hosts.shard_id alone", "while locked", "Repair Failed"} {
			require.Contains(t, text, want)
		}

		elsewhere, err := w.lab.Elsewhere(t.Context(), storetest.SharedScope(shard.Master))
		require.NoError(t, err)
		require.Len(t, elsewhere, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_hosts WHERE shard_id IS NOT NULL AND invalid = 0"))
		for _, h := range elsewhere {
			require.Contains(t, []string{"a", "b"}, h.Shard)
			require.NotEmpty(t, h.Labels)
		}

		w.exec("UPDATE afe_hosts SET locked = 0, status = 'Ready'")
		w.exec("UPDATE afe_hosts SET shard_id = NULL WHERE id = ?", pinned)
		w.settle()
		require.Empty(t, w.stranded("a"))
		require.NoError(t, w.lab.RemoveShard(t.Context(), "a", "me", "test"))
	})
}

// settleAsTheyAre lets every shard tick without repairing any host.
func (w *wanderers) settleAsTheyAre() {
	w.Helper()
	for _, name := range w.shards {
		w.tick(name)
	}
}

func (w *wanderers) stranded(name shard.Name) []admin.Finding {
	w.Helper()
	found, err := w.lab.Check(w.Context(), storetest.SharedScope(name), nil)
	require.NoError(w, err)
	return found.Stranded
}
