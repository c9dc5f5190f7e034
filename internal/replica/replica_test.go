package replica_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

func TestMain(m *testing.M) { testserver.MainWithoutLeaks(m) }

const soon = 10 * time.Second

// witness notes what replicas report.
type witness struct {
	mu                                 sync.Mutex
	leading, ended, ticks, assignments int
	fenced, failed, checks, findings   int
	replanned                          int
}

func (w *witness) note(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

func (w *witness) Leading(shard.Name, int64, time.Duration) { w.note(func() { w.leading++ }) }
func (w *witness) Ended(shard.Name, error)                  { w.note(func() { w.ended++ }) }
func (w *witness) Ticked(_ shard.Name, r replica.Report) {
	w.note(func() { w.ticks++; w.assignments += len(r.Result.Applied.Assignments) })
}
func (w *witness) Checked(_ shard.Name, f admin.Findings) {
	w.note(func() { w.checks++; w.findings += f.Count() })
}
func (w *witness) Replanned(shard.Name) { w.note(func() { w.replanned++ }) }
func (w *witness) Failed(_ shard.Name, err error) {
	w.note(func() {
		if errors.Is(err, store.ErrFenced) {
			w.fenced++
			return
		}
		w.failed++
	})
}

func (w *witness) until(t *testing.T, what string, holds func(*witness) bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return holds(w)
	}, soon, time.Millisecond, what)
}

type runningReplica struct {
	*replica.Replica
	// end tells it to end, and stop waits for that, too.
	end  context.CancelFunc
	stop func()
}

func openLab(t *testing.T) *store.DB {
	t.Helper()
	db := storetest.NewLab(t, storetest.SQLiteFile(t))
	_, err := simlab.Create(t.Context(), db.SQL(), simlab.Spec{Seed: 1, Hosts: 50, Boards: 2, Suites: 4, Entries: 40, MinimumShare: 0.1})
	require.NoError(t, err)
	return db
}

func start(t *testing.T, name string, c election.Campaigner, db *store.DB, w replica.Observer) runningReplica {
	return startWithLog(t, name, c, db, w, hclog.NewNullLogger())
}

func startWithLog(t *testing.T, name string, c election.Campaigner, db *store.DB, w replica.Observer, log hclog.Logger) runningReplica {
	return startReplica(t, replica.Config{Holder: name}, c, db, w, log)
}

func startReplica(t *testing.T, cfg replica.Config, c election.Campaigner, db *store.DB, w replica.Observer, log hclog.Logger) runningReplica {
	cfg.Scope, cfg.MinTick, cfg.CheckEvery = store.Scope{Shard: shard.Master}, time.Millisecond, 2
	r := replica.New(cfg, c, db, w, log)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	stop := sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(stop)
	return runningReplica{r, cancel, stop}
}

func TestLeaderAssignsAndFollowerTakesOver(t *testing.T) {
	db := openLab(t)
	m := election.NewMemory()
	var w witness
	first := start(t, "a", m.Replica("a"), db, &w)
	w.until(t, "the leader assigns hosts", func(w *witness) bool { return w.assignments > 0 })
	require.Equal(t, replica.StateLeader, first.Status().State)
	require.NotNil(t, first.Holdings())
	second := start(t, "b", m.Replica("b"), db, &w)
	require.Eventually(t, func() bool { return second.Status().State == replica.StateCandidate }, soon, time.Millisecond)
	require.Nil(t, second.Holdings())

	epoch := first.Status().Epoch
	first.stop()
	require.Equal(t, replica.StateCandidate, first.Status().State)
	require.Eventually(t, func() bool { return second.Status().State == replica.StateLeader }, soon, time.Millisecond)
	require.Greater(t, second.Status().Epoch, epoch)
	w.until(t, "the successor ticks", func(w *witness) bool { return w.leading == 2 })
}

// TestLostLeaseEndsTheTerm: the replica steps down and becomes a candidate
// again.
func TestLostLeaseEndsTheTerm(t *testing.T) {
	db := openLab(t)
	m := election.NewMemory()
	var w witness
	r := start(t, "a", m.Replica("a"), db, &w)
	w.until(t, "leading", func(w *witness) bool { return w.leading == 1 })
	token := r.Status().Token
	m.Revoke(shard.Master)
	w.until(t, "leading again", func(w *witness) bool { return w.leading == 2 })
	require.Eventually(t, func() bool { return r.Status().Token > token }, soon, time.Millisecond)
}

// hangingTick is an Observer in whose report a tick hangs until it is closed.
type hangingTick struct {
	replica.Silent
	began, ended chan struct{}
	once         sync.Once
	over         atomic.Int32
}

func (h *hangingTick) Ended(shard.Name, error) { h.over.Add(1) }

func (h *hangingTick) Ticked(shard.Name, replica.Report) {
	h.once.Do(func() { close(h.began) })
	<-h.ended
}

// TestTermThatEndsBeforeItsTick: a replica whose tick hangs does not say that it leads when
// its term is over, and a term that was lost was not handed over, whatever was planned then.
func TestTermThatEndsBeforeItsTick(t *testing.T) {
	db, m := openLab(t), election.NewMemory()
	h := &hangingTick{began: make(chan struct{}), ended: make(chan struct{})}
	goOn := sync.OnceFunc(func() { close(h.ended) })
	r := start(t, "a", m.Replica("a"), db, h)
	defer goOn()
	<-h.began
	require.True(t, r.Leads())
	require.NotNil(t, r.Holdings())
	m.Revoke(shard.Master)
	require.Eventually(t, func() bool { return !r.Leads() && h.over.Load() == 1 }, soon, time.Millisecond)
	require.Nil(t, r.Holdings())
	require.NotZero(t, r.Status().OverSince)

	r.end()
	goOn()
	r.stop()
	require.EqualValues(t, 2, h.over.Load(), "again after the tick, which reports what only a leader knows")
	require.Zero(t, r.Status().OverSince)
	requireLost(t, db)
}

// requireLost requires that the only term was lost.
func requireLost(t *testing.T, db *store.DB) {
	t.Helper()
	terms, err := db.Terms(t.Context(), shard.Master, 2)
	require.NoError(t, err)
	require.Len(t, terms, 1)
	require.False(t, terms[0].Planned)
	require.Contains(t, terms[0].Cause, "lease lost")
}

// TestFencedLeaderStepsDown: another replica took the fence over behind the
// leader's back, as after a pause.
func TestFencedLeaderStepsDown(t *testing.T) {
	db := openLab(t)
	m := election.NewMemory()
	var w witness
	// Nothing can be written yet, so that the first write is the refused one.
	_, err := db.SQL().Exec("UPDATE afe_hosts SET locked = 1")
	require.NoError(t, err)
	r := start(t, "a", m.Replica("a"), db, &w)
	w.until(t, "ticking", func(w *witness) bool { return w.ticks > 0 })
	usurper, err := db.TakeOver(t.Context(), store.Claim{Shard: shard.Master, Token: r.Status().Token + 100, Cluster: "memory", Holder: "b"})
	require.NoError(t, err)
	_, err = db.SQL().Exec("UPDATE afe_hosts SET locked = 0")
	require.NoError(t, err)
	w.until(t, "a fenced write", func(w *witness) bool { return w.fenced > 0 && w.ended > 0 })
	require.NoError(t, usurper.Close())
	require.Eventually(t, func() bool { return r.Status().FencedWrites > 0 && r.Status().State == replica.StateCandidate }, soon, time.Millisecond)
	var active int
	require.NoError(t, db.SQL().QueryRow("SELECT COUNT(*) FROM afe_host_queue_entries WHERE active = 1").Scan(&active))
	require.Zero(t, active, "nothing of the refused plan was written")
}

// TestFailingTicksEndTheTerm: after some failures in a row another replica may
// try; when the fault is gone, somebody leads again.
func TestFailingTicksEndTheTerm(t *testing.T) {
	db := openLab(t)
	m := election.NewMemory()
	var w witness
	start(t, "a", m.Replica("a"), db, &w)
	w.until(t, "leading", func(w *witness) bool { return w.ticks > 0 })
	_, err := db.SQL().Exec("ALTER TABLE afe_users RENAME TO afe_users_away")
	require.NoError(t, err)
	w.until(t, "stepping down", func(w *witness) bool { return w.failed >= 3 && w.ended >= 1 })
	_, err = db.SQL().Exec("ALTER TABLE afe_users_away RENAME TO afe_users")
	require.NoError(t, err)
	var before int
	w.note(func() { before = w.ticks })
	w.until(t, "ticking again", func(w *witness) bool { return w.ticks > before })
}

// TestEndlessLayoutChanges: a leader whose every plan is refused, because labels
// keep moving, still notices the end of its term and rests between ticks.
func TestEndlessLayoutChanges(t *testing.T) {
	db := openLab(t)
	m := election.NewMemory()
	var w witness
	exec := func(text string) {
		_, err := db.SQL().Exec(text)
		require.NoError(t, err)
	}
	exec("UPDATE afe_hosts SET locked = 1")
	var log storetest.Log
	startWithLog(t, "a", m.Replica("a"), db, &w, hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Info}))
	w.until(t, "leading", func(w *witness) bool { return w.ticks > 0 })
	// The fence of no write matches, as if a label moved after each snapshot.
	exec("CREATE TRIGGER storm BEFORE UPDATE OF ticks ON hostsched_fence BEGIN SELECT RAISE(IGNORE); END")
	exec("UPDATE afe_hosts SET locked = 0")
	w.until(t, "plans are refused", func(w *witness) bool { return w.replanned > 5 })
	require.Equal(t, 1, log.Count("layout of the shard changed"), "said once")
	m.Revoke(shard.Master)
	w.until(t, "the term ends", func(w *witness) bool { return w.ended > 0 && w.failed == 0 })
	exec("DROP TRIGGER storm")
	w.until(t, "the next term assigns hosts", func(w *witness) bool { return w.leading == 2 && w.assignments > 0 })
}

// TestCheck: the leader looks for inconsistencies, and finds none in its own
// work.
func TestCheck(t *testing.T) {
	db := openLab(t)
	var w witness
	start(t, "a", election.NewMemory().Replica("a"), db, &w)
	w.until(t, "checks", func(w *witness) bool { return w.checks >= 3 && w.assignments > 0 })
	w.note(func() { require.Zero(t, w.findings) })
	_, err := db.SQL().Exec("UPDATE afe_hosts SET leased = 0 WHERE id = (SELECT MAX(host_id) FROM afe_host_queue_entries WHERE active = 1)")
	require.NoError(t, err)
	w.until(t, "a finding", func(w *witness) bool { return w.findings > 0 })
}

// TestStandingBy: what a replica read before it leads does not keep it from
// seeing what happened until then, nor afterwards.
func TestStandingBy(t *testing.T) {
	db := openLab(t)
	exec := func(text string) {
		_, err := db.SQL().Exec(text)
		require.NoError(t, err)
	}
	active := func() (n int) {
		require.NoError(t, db.SQL().QueryRow("SELECT COUNT(*) FROM afe_host_queue_entries WHERE active = 1").Scan(&n))
		return n
	}
	exec("UPDATE afe_hosts SET locked = 1")
	var w witness
	r := replica.New(replica.Config{Scope: store.Scope{Shard: shard.Master}, Holder: "a", MinTick: time.Millisecond}, election.NewMemory().Replica("a"), db, &w, hclog.NewNullLogger())
	r.StandBy(t.Context())
	exec("UPDATE afe_hosts SET locked = 0 WHERE id <= 25")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	defer func() {
		cancel()
		<-done
	}()
	w.until(t, "hosts that were unlocked meanwhile are assigned", func(w *witness) bool { return w.assignments > 0 })
	r.StandBy(t.Context()) // must not hide changes from the ticks
	before := active()
	exec("UPDATE afe_hosts SET locked = 0")
	r.StandBy(t.Context())
	require.Eventually(t, func() bool { return active() > before }, soon, time.Millisecond)
	r.Forget()
	w.note(func() { before = w.ticks })
	w.until(t, "ticking on", func(w *witness) bool { return w.ticks > before+2 })
}

// TestLogOfAssignments: the log says who got which host and why, and what was released,
// at level info only if it is told to.
func TestLogOfAssignments(t *testing.T) {
	for _, shown := range []bool{true, false} {
		db := openLab(t)
		_, err := db.SQL().Exec("UPDATE afe_hosts SET leased = 1 WHERE id = 50")
		require.NoError(t, err)
		var log storetest.Log
		var w witness
		cfg := replica.Config{Scope: store.Scope{Shard: shard.Master}, Holder: "a", MinTick: time.Millisecond, LogAssignments: shown}
		r := replica.New(cfg, election.NewMemory().Replica("a"), db, &w, hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Info}))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.Run(ctx)
		}()
		w.until(t, "hosts are assigned", func(w *witness) bool { return w.assignments > 0 && w.ticks > 2 })
		cancel()
		<-done
		if !shown {
			require.NotContains(t, log.String(), "assigned")
			continue
		}
		require.Equal(t, w.assignments, log.Count(" assigned: "))
		require.Regexp(t, `assigned: shard=master host=\S+ entry=\d+ job=\d+ suite=\d+ priority=\d+ round="?(rest|suite minimum)"? labels=\S*board:\S+ tasks=\S* status=\S+ waited=\d+`, log.String())
		require.Contains(t, log.String(), "released, because nobody uses it")
	}
}

// TestDatabaseThatLostCommits: the shard is paused, the check lists what is known to be
// lost, and once a person resumed it, everything goes on.
func TestDatabaseThatLostCommits(t *testing.T) {
	db := openLab(t)
	lab := admin.New(db)
	var w witness
	start(t, "a", election.NewMemory().Replica("a"), db, &w)
	w.until(t, "hosts are assigned", func(w *witness) bool { return w.assignments > 5 })
	lose := func() {
		tx, err := db.SQL().Begin()
		require.NoError(t, err)
		for _, query := range []string{
			"UPDATE afe_host_queue_entries SET host_id = NULL, active = 0, status = 'Queued' WHERE active = 1",
			"UPDATE afe_hosts SET leased = 0",
			"UPDATE hostsched_fence SET last_write = '1.1'",
		} {
			_, err := tx.Exec(query)
			require.NoError(t, err)
		}
		require.NoError(t, tx.Commit())
	}
	lose()
	var f store.Fence
	require.Eventually(t, func() bool {
		var err error
		f, _, err = db.ReadFence(t.Context(), shard.Master)
		return err == nil && f.Paused != ""
	}, soon, time.Millisecond, "the shard is paused")
	require.Contains(t, f.Paused, "the database lost commits")
	found, err := lab.Check(t.Context(), storetest.WholeLab, nil)
	require.NoError(t, err)
	require.Greater(t, len(found.Lost), 5)
	require.NotZero(t, found.Lost[1].Host)
	require.Zero(t, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries WHERE active = 1"), "nothing was given out again")

	require.NoError(t, lab.PauseShard(t.Context(), shard.Master, "me", "", "looked at the hosts"))
	require.Eventually(t, func() bool {
		return storetest.Count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries WHERE active = 1") > 5
	}, soon, 5*time.Millisecond, "hosts are assigned again")
	found, err = lab.Check(t.Context(), storetest.WholeLab, nil)
	require.NoError(t, err)
	require.Empty(t, found.Lost)
}

// TestTakeoverThatWasLost: a successor that has seen a later epoch than the database
// has now pauses the shard, too, and only once.
func TestTakeoverThatWasLost(t *testing.T) {
	db := openLab(t)
	var w witness
	m := election.NewMemory()
	former := start(t, "a", m.Replica("a"), db, &w)
	w.until(t, "leading", func(w *witness) bool { return w.leading == 1 })
	former.stop()
	startReplica(t, replica.Config{Holder: "b", Epoch: func() int64 { return 7 }}, m.Replica("b"), db, &w, hclog.NewNullLogger())
	require.Eventually(t, func() bool {
		f, _, err := db.ReadFence(t.Context(), shard.Master)
		return err == nil && f.Paused != "" && f.Epoch > 7
	}, soon, time.Millisecond, "the shard is paused, and led with a later epoch")
	require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_audit WHERE action = 'commits lost'"))
}

// TestLossWithoutTheRightToRecordIt: the shard is paused all the same, and the log has
// what no record could have; the term ends, and nobody tries for ever.
func TestLossWithoutTheRightToRecordIt(t *testing.T) {
	dsn := testserver.Database(t)
	root := storetest.NewLab(t, dsn)
	_, err := simlab.Create(t.Context(), root.SQL(), simlab.Spec{Seed: 1, Hosts: 50, Boards: 2, Suites: 4, Entries: 40})
	require.NoError(t, err)
	db := storetest.Open(t, storetest.UserWithRights(t, dsn, storetest.DocumentedRights(t, "## The database user")))
	var log bytes.Buffer
	var w witness
	r := startWithLog(t, "a", election.NewMemory().Replica("a"), db, &w, hclog.New(&hclog.LoggerOptions{Output: &log}))
	w.until(t, "hosts are assigned", func(w *witness) bool { return w.assignments > 5 })
	storetest.Account(t, dsn, "REVOKE INSERT ON lab.hostsched_audit FROM")
	tx, err := root.SQL().Begin()
	require.NoError(t, err)
	for _, query := range []string{
		"UPDATE hostsched_fence SET last_write = '1.1'",
		"UPDATE afe_host_queue_entries SET host_id = NULL, active = 0, status = 'Queued' WHERE active = 1",
		"UPDATE afe_hosts SET leased = 0",
	} {
		_, err := tx.Exec(query)
		require.NoError(t, err)
	}
	require.NoError(t, tx.Commit())
	w.until(t, "the term ends", func(w *witness) bool { return w.ended > 0 })
	f, _, err := root.ReadFence(t.Context(), shard.Master)
	require.NoError(t, err)
	require.Contains(t, f.Paused, "could not be recorded")
	found, err := admin.New(root).Check(t.Context(), storetest.WholeLab, nil)
	require.NoError(t, err)
	require.Len(t, found.Lost, 1)
	require.Contains(t, found.Lost[0].Text, "see the log of a")
	w.until(t, "it leads again", func(w *witness) bool { return w.leading > 1 })
	r.stop()
	require.Contains(t, log.String(), "what was lost is only in this line")
	require.Contains(t, log.String(), "{Entry:")
	require.Zero(t, storetest.Count(t, root, "SELECT COUNT(*) FROM afe_host_queue_entries WHERE active = 1"), "nothing was given out again")
}
