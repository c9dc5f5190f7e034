package replica_test

import (
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
)

// givenWitness notes how often hosts were assigned.
type givenWitness struct {
	replica.Silent
	mu    sync.Mutex
	hosts map[scheduler.HostID]int
	terms int
}

func (w *givenWitness) Ticked(_ shard.Name, r replica.Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range r.Result.Applied.Assignments {
		w.hosts[a.Host]++
	}
}

func (w *givenWitness) Leading(shard.Name, int64, time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.terms++
}

func (w *givenWitness) count() (hosts, twice, terms int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.hosts {
		if n > 1 {
			twice++
		}
	}
	return len(w.hosts), twice, w.terms
}

// TestDatabaseRestoredUnderItsLeader: a database is put back to an earlier state of the
// same term, table by table, while the leader lives. No host is assigned a second time
// until a person resumes the shard.
func TestDatabaseRestoredUnderItsLeader(t *testing.T) {
	db := storetest.NewServerLab(t)
	_, err := simlab.Create(t.Context(), db.SQL(), simlab.Spec{Seed: 1, Hosts: 60, Boards: 2, Suites: 4, Entries: 40})
	require.NoError(t, err)
	storetest.Exec(t, db, "UPDATE afe_hosts SET locked = 1 WHERE id > 20") // for later
	w := givenWitness{hosts: map[scheduler.HostID]int{}}
	startReplica(t, replica.Config{Holder: "a"}, election.NewMemory().Replica("a"), db, &w, hclog.NewNullLogger())
	require.Eventually(t, func() bool { hosts, _, _ := w.count(); return hosts > 5 }, soon, time.Millisecond)
	restore := storetest.BackUp(t, db)
	before, _, _ := w.count()
	storetest.Exec(t, db, "UPDATE afe_hosts SET locked = 0")
	require.Eventually(t, func() bool { hosts, _, _ := w.count(); return hosts > before+5 }, soon, time.Millisecond, "assignments that will be lost")

	restore()
	require.Eventually(t, func() bool {
		storetest.Exec(t, db, "UPDATE afe_hosts SET locked = 0")
		f, ok, err := db.ReadFence(t.Context(), shard.Master)
		return err == nil && ok && f.Paused != ""
	}, 3*soon, 10*time.Millisecond, "the shard is paused")
	_, twice, terms := w.count()
	require.Zero(t, twice, "hosts assigned twice, in %d terms", terms)
}
