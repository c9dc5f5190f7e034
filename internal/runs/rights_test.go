package runs_test

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gocloud.dev/blob/memblob"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/runs"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

// TestDocumentedRightsAreEnough for all that agents report and sweeps do. What people do, and
// what the planner does, another user does here.
func TestDocumentedRightsAreEnough(t *testing.T) {
	dsn := testserver.Database(t)
	w := newWorld(t, storetest.NewLab(t, dsn))
	rights := append(storetest.DocumentedRights(t, "## The database user"), storetest.DocumentedRights(t, "### What runs need")...)
	l := lab.New(storetest.Open(t, storetest.UserWithRights(t, dsn, rights)), store.Scope{Shard: shard.Master, Shared: true})
	w.Runs = runs.New(l)

	h := w.host("h1")
	added, err := w.lab.AddAgent(w.ctx, root, labapi.AgentInput{Name: "a1", Hosts: []string{"h1"}})
	require.NoError(t, err)
	a := w.joined(l, added.Join.Token)
	w.jobWithAllThatItLeaves(l, a, h)
	w.lostAndAborted(l, a, h)
	w.ownJobs(h)
	require.NoError(t, l.Goodbye(w.ctx, lab.AgentCaller{ID: a.Agent, Name: a.Name, Session: a.Session}, labapi.AgentLeave{Session: a.Session}))

	storetest.Exec(t, w.db, "UPDATE hostsched_own_jobs SET seen = 1")
	sweepWholeAs(w, l)
	require.Zero(t, storetest.Count(t, w.db, "SELECT COUNT(*) FROM hostsched_own_jobs"))
	require.Zero(t, storetest.Count(t, w.db, "SELECT COUNT(*) FROM afe_ineligible_host_queues"))
	storetest.Exec(t, w.db, "UPDATE hostsched_runs SET closed = 1")
	pruned, err := l.PruneRuns(w.ctx, 1)
	require.NoError(t, err)
	require.Positive(t, pruned)
}

// joined is an agent that has joined, with a token that was rotated.
func (w *world) joined(l *lab.Lab, join string) runs.Claimant {
	w.t.Helper()
	secret, err := l.JoinAgent(w.ctx, labapi.AgentJoin{Name: "a1", JoinToken: join})
	require.NoError(w.t, err)
	caller, err := l.AuthenticateAgent(w.ctx, secret)
	require.NoError(w.t, err)
	in := labapi.AgentSync{Session: "s1", Begin: true, BootID: "b1", Version: "1"}
	require.NoError(w.t, l.EnterSession(w.ctx, caller, in, 1))
	require.NoError(w.t, l.EnterBoot(w.ctx, caller, "b1"))
	require.NoError(w.t, l.NoteSeen(w.ctx, []lab.AgentSeen{{ID: caller.ID, Capacity: 1, Changed: true}}))
	require.NoError(w.t, w.lab.RotateAgent(w.ctx, root, "a1"))
	secret, err = l.NextToken(w.ctx, caller)
	require.NoError(w.t, err)
	caller, err = l.AuthenticateAgent(w.ctx, secret)
	require.NoError(w.t, err)
	require.NoError(w.t, l.AskForDrain(w.ctx, caller, labapi.AgentLeave{Session: "s1"}))
	return runs.Claimant{Agent: caller.ID, Name: caller.Name, Session: "s1"}
}

// jobWithAllThatItLeaves is a job with special tasks, logs, files and results.
func (w *world) jobWithAllThatItLeaves(l *lab.Lab, a runs.Claimant, h int64) {
	w.t.Helper()
	files := memblob.OpenBucket(nil)
	w.t.Cleanup(func() { require.NoError(w.t, files.Close()) })
	l.KeepFilesIn(files, "the store")
	e := w.job(labapi.JobSpec{}).Entries[0]
	w.give(e, h, "Reset")
	// A Reset takes the place of what nobody asked for.
	storetest.Exec(w.t, w.db, "INSERT INTO afe_special_tasks (host_id, task, time_requested, requested_by_id) SELECT ?, 'Verify', "+w.db.Dialect.Now+", id FROM afe_users WHERE login = 'root'", h)
	w.perform(a, "Reset", "passed")
	_, run := w.claim(a, "job")
	w.begin(run)
	for _, part := range []lab.LogPart{{Data: []byte("hel")}, {Data: []byte("lo"), Offset: 3}} {
		part.Run, part.Stream, part.Cap = run.ID, "output", 100
		_, err := l.AppendLog(w.ctx, part)
		require.NoError(w.t, err)
	}
	for _, text := range []string{"one", "other"} {
		sum := sha256.Sum256([]byte(text))
		_, err := l.AppendArtifact(w.ctx, lab.ArtifactPart{Run: run.ID, Path: "a", Size: int64(len(text)), SHA256: hex.EncodeToString(sum[:]), Data: []byte(text)})
		require.NoError(w.t, err)
	}
	_, err := w.Finish(w.ctx, run, labapi.RunFinish{
		Result: "unusable", Streams: []labapi.StreamEnd{{Stream: "output", Size: 5}}, Tests: []labapi.TestResult{{Name: "t", Status: "failed"}}, TestsFailed: 1,
	})
	require.NoError(w.t, err)
	w.perform(a, "Repair", "failed")
	moved, err := l.MoveLogs(w.ctx)
	require.NoError(w.t, err)
	require.Equal(w.t, 2, moved)
	storetest.Exec(w.t, w.db, "UPDATE afe_hosts SET status = 'Ready', leased = 0")
}

// lostAndAborted are runs that end otherwise, and an entry that gets another host.
func (w *world) lostAndAborted(l *lab.Lab, a runs.Claimant, h int64) {
	w.t.Helper()
	e := w.job(labapi.JobSpec{}).Entries[0]
	w.give(e, h)
	_, run := w.claim(a, "job")
	w.late(run)
	require.Equal(w.t, 1, w.sweep().Lost)
	require.Equal(w.t, "Queued ", w.entry(e))
	w.perform(a, "Reset", "passed")
	storetest.Exec(w.t, w.db, "UPDATE afe_jobs SET timeout_mins = 1, created_on = '2001-01-01'")
	sweepWholeAs(w, l)
	w.sweep()
	require.Equal(w.t, "Aborted complete", w.entry(e))

	e = w.job(labapi.JobSpec{}).Entries[0]
	w.give(e, h)
	_, run = w.claim(a, "job")
	w.begin(run)
	_, _, _, err := w.Renew(w.ctx, a.Agent, a.Session, "b1", []labapi.AgentRun{{Run: run.ID, State: "running"}})
	require.NoError(w.t, err)
	storetest.Exec(w.t, w.db, "UPDATE hostsched_runs SET hard_ms = 1, started = 1, claimed = 1 WHERE id = ?", run.ID)
	require.Equal(w.t, 1, w.sweep().Stopped)
	w.finish(run, "failed")
	storetest.Exec(w.t, w.db, "UPDATE afe_hosts SET status = 'Ready', leased = 0")
}

// ownJobs are those that people run themselves.
func (w *world) ownJobs(h int64) {
	w.t.Helper()
	run := w.reserve(h)
	_, err := w.Extend(w.ctx, root, run.ID, time.Minute)
	require.NoError(w.t, err)
	_, err = w.Release(w.ctx, root, run.ID)
	require.NoError(w.t, err)
	storetest.Exec(w.t, w.db, "DELETE FROM afe_special_tasks WHERE is_complete = 0")
}

// sweepWholeAs sweeps as a server that has just begun, over the connections of a lab.
func sweepWholeAs(w *world, l *lab.Lab) {
	w.t.Helper()
	_, err := runs.New(l).Sweep(w.ctx)
	require.NoError(w.t, err)
}
