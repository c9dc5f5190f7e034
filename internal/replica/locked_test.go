package replica_test

import (
	"bytes"
	"database/sql"
	"strings"
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
	"github.com/hostsched/hostsched/store"
)

// lockWitness counts the ticks that found rows locked.
type lockWitness struct {
	replica.Silent
	mu    sync.Mutex
	found int
	rows  []store.LockedRow
}

func (w *lockWitness) Ticked(_ shard.Name, r replica.Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(r.Result.Locked) > 0 {
		w.found++
		w.rows = r.Result.Locked
	}
}

func (w *lockWitness) seen() (int, []store.LockedRow) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.found, w.rows
}

// anyHost is an assignment to an entry that may have other hosts too.
func anyHost(t *testing.T, plan scheduler.Plan) scheduler.Assignment {
	t.Helper()
	for _, a := range plan.Assignments {
		if !a.Named && !a.Synch {
			return a
		}
	}
	t.Fatal("every entry names its host")
	return scheduler.Assignment{}
}

// nameHost adds an entry that names the host of an assignment, and returns its id. It is
// complete, so that it can be queued later without touching the host's row.
func nameHost(t *testing.T, db *store.DB, a scheduler.Assignment) (entry int64) {
	t.Helper()
	var job int64
	var owner string
	require.NoError(t, db.SQL().QueryRow("SELECT MAX(job_id) FROM afe_host_queue_entries").Scan(&job))
	require.NoError(t, db.SQL().QueryRow("SELECT owner FROM afe_jobs WHERE id = ?", a.Job).Scan(&owner))
	require.NotEqual(t, a.Job, scheduler.JobID(job))
	storetest.Exec(t, db, "UPDATE afe_jobs SET owner = ?, synch_count = 1 WHERE id = ?", owner, job)
	storetest.Exec(t, db, "DELETE FROM afe_jobs_dependency_labels WHERE job_id = ?", job)
	storetest.Exec(t, db, "INSERT INTO afe_host_queue_entries (job_id, host_id, status, active, complete, deleted, execution_subdir, aborted) VALUES (?, ?, 'Queued', 0, 1, 0, '', 0)", job, a.Host)
	require.NoError(t, db.SQL().QueryRow("SELECT MAX(id) FROM afe_host_queue_entries").Scan(&entry))
	return entry
}

// TestAnEntryWhoseHostIsLockedGetsAnother, while a client that went away inside a
// transaction keeps the host's row locked; an entry that names the host waits until that
// ends. The log says so once, and the status for as long as it lasts.
func TestAnEntryWhoseHostIsLockedGetsAnother(t *testing.T) {
	db := storetest.NewServerLab(t)
	_, err := simlab.Create(t.Context(), db.SQL(), simlab.Spec{Seed: 1, Hosts: 200, Boards: 2, Suites: 4, Entries: 40})
	require.NoError(t, err)
	victim := anyHost(t, storetest.FullPlan(t, db))
	named := nameHost(t, db, victim)
	other, err := db.SQL().BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	require.NoError(t, err)
	t.Cleanup(func() { _ = other.Rollback() })
	_, err = other.Exec("UPDATE afe_hosts SET lock_reason = 'never committed' WHERE id = ?", victim.Host)
	require.NoError(t, err)

	var log bytes.Buffer
	var w lockWitness
	r := startWithLog(t, "a", election.NewMemory().Replica("a"), db, &w, hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Debug}))
	require.Eventually(t, func() bool {
		return storetest.Count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries WHERE active = 1 AND id = ?", victim.Entry) == 1
	}, soon, 10*time.Millisecond, "the entry gets another host")
	found, _ := w.seen()
	require.Equal(t, 1, found, "it was planned for this host first")
	storetest.Exec(t, db, "UPDATE afe_host_queue_entries SET complete = 0 WHERE id = ?", named)
	require.Eventually(t, func() bool { found, _ := w.seen(); return found >= 2 }, soon, 10*time.Millisecond, "it is tried again")
	_, rows := w.seen()
	require.Equal(t, []store.LockedRow{{Table: "afe_hosts", ID: int64(victim.Host)}}, rows)
	require.Positive(t, r.Status().LockedRows)
	require.Zero(t, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries WHERE active = 1 AND id = ?", named))

	require.NoError(t, other.Rollback())
	require.Eventually(t, func() bool {
		return storetest.Count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries WHERE active = 1 AND id = ?", named) == 1
	}, soon, 10*time.Millisecond, "the entry that names the host gets it")
	require.Eventually(t, func() bool { return r.Status().LockedRows == 0 }, soon, 10*time.Millisecond)
	r.stop()
	require.Equal(t, 1, strings.Count(log.String(), "another client keeps rows locked"), "once, however often it is found")
	require.Contains(t, log.String(), "held by other transactions=1")
	require.NotContains(t, log.String(), "changed by others=1")
}
