package store_test

import (
	"bufio"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// bound is what a takeover may take although the predecessor sleeps inside a
// transaction: one lock wait, the eviction, and some slack for a busy machine.
const bound = 5 * time.Second

func TestStaleEpochIsRefusedInEveryWritePath(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillLab(t, db)
		full := storetest.FullPlan(t, db)
		old := storetest.TakeOver(t, db, storetest.WholeLab, 10)
		next := storetest.TakeOver(t, db, storetest.WholeLab, 11)
		require.Greater(t, next.Fence().Epoch, old.Fence().Epoch)
		before := storetest.Dump(t, db)
		for name, plan := range map[string]scheduler.Plan{
			"lease":   {Leases: full.Leases},
			"assign":  {Assignments: full.Assignments, Changes: full.Changes},
			"release": {Releases: full.Releases},
		} {
			require.False(t, plan.Empty(), name)
			res, err := old.Apply(t.Context(), plan)
			require.ErrorIsf(t, err, store.ErrFenced, name)
			require.True(t, res.Applied.Empty(), name)
		}
		require.Equal(t, before, storetest.Dump(t, db), "nothing was written")
		_, err := next.Apply(t.Context(), full)
		require.NoError(t, err)
	})
}

// TestStaleEpochCannotRegisterAgain: an old leader whose connection was lost is
// refused already when it registers a new one.
func TestStaleEpochCannotRegisterAgain(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillLab(t, db)
		old := storetest.TakeOver(t, db, storetest.WholeLab, 10)
		storetest.TakeOver(t, db, storetest.WholeLab, 11)
		require.NoError(t, old.Close())
		_, err := old.Apply(t.Context(), storetest.FullPlan(t, db))
		require.ErrorIs(t, err, store.ErrFenced)
	})
}

func TestTakeOverNeedsAHigherToken(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.TakeOver(t, db, storetest.WholeLab, 10)
		for _, token := range []int64{10, 9, 1} {
			_, err := db.TakeOver(t.Context(), store.Claim{Shard: shard.Master, Token: token, Cluster: "test", Holder: "late"})
			require.ErrorIs(t, err, store.ErrOvertaken)
			require.ErrorContains(t, err, "fence adopt")
		}
		f, ok, err := db.ReadFence(t.Context(), shard.Master)
		require.NoError(t, err)
		require.True(t, ok)
		require.EqualValues(t, 10, f.Token)
		require.Equal(t, "replica 10", f.Holder)
		// Shards do not touch each other.
		storetest.TakeOver(t, db, store.Scope{Shard: "other"}, 1)
	})
}

// TestPausedLeaderDoesNotBlockItsSuccessor stops a real process (SIGSTOP) in the
// middle of transactions of all its writers, which hold the fence.
func TestPausedLeaderDoesNotBlockItsSuccessor(t *testing.T) {
	storetest.OnEachDatabase(t, func(t *testing.T, dsn string) {
		db := storetest.NewLab(t, dsn)
		fillLargeLab(t, db)
		sleeper := startSleeper(t, dsn)

		began := time.Now()
		next := storetest.TakeOver(t, db, storetest.WholeLab, 11)
		took := time.Since(began)
		t.Logf("takeover from a paused leader took %v", took)
		require.Less(t, took, bound)
		res, err := next.Apply(t.Context(), storetest.FullPlan(t, db))
		require.NoError(t, err)
		require.NotEmpty(t, res.Applied.Assignments)

		// The sleeper wakes up and must not get anything written.
		before := storetest.Dump(t, db)
		require.NotEqual(t, 0, sleeper.wake(t))
		require.Equal(t, before, storetest.Dump(t, db))
	})
}

const sleeperEnv = "HOSTSCHED_TEST_SLEEPER_DSN"

// sleepInTransaction is the process that TestPausedLeader… stops: it leads with
// token 10, opens a transaction by every writer and stops itself inside.
func sleepInTransaction(dsn string) int {
	ctx := context.Background()
	// The transaction must not end by its own timeout while others look on.
	db, err := store.Open(ctx, sqldb.Config{DSN: dsn, TxTimeout: time.Minute})
	if err != nil {
		fmt.Println(err)
		return 3
	}
	l, err := db.TakeOver(ctx, store.Claim{Shard: shard.Master, Token: 10, Cluster: "test", Holder: "sleeper"})
	if err != nil {
		fmt.Println(err)
		return 3
	}
	db.FailInTx(inTx(meet(db, func() error {
		fmt.Println("sleeping")
		if err := syscall.Kill(os.Getpid(), syscall.SIGSTOP); err != nil {
			return err
		}
		// The stop reaches every thread only after a moment: until it was woken,
		// this one must not continue.
		_, err := os.Stdin.Read(make([]byte, 1))
		return err
	})))
	s, err := db.Snapshot(ctx, storetest.WholeLab)
	if err == nil {
		_, err = l.Apply(ctx, scheduler.MakePlan(s))
	}
	fmt.Println("woke up:", err)
	if err != nil {
		return 1
	}
	return 0
}

type sleeper struct {
	cmd    *exec.Cmd
	wakeUp io.WriteCloser
}

func startSleeper(t *testing.T, dsn string) sleeper {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), sleeperEnv+"="+dsn)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it has ended if the test went well
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "sleeping\n", line)
	require.Eventually(t, func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		return err == nil && strings.Contains(string(stat), ") T ")
	}, bound, time.Millisecond, "the process stops")
	return sleeper{cmd, in}
}

// wake lets the process continue and returns its exit code; -1 if it was killed.
func (s sleeper) wake(t *testing.T) int {
	if err := s.cmd.Process.Signal(syscall.SIGCONT); !errors.Is(err, os.ErrProcessDone) {
		require.NoError(t, err)
	}
	_, _ = s.wakeUp.Write([]byte{'\n'}) // fails if it was killed
	var exit *exec.ExitError
	if err := s.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return s.cmd.ProcessState.ExitCode()
}

// TestStuckTransactionEnds: a leader that hangs inside a transaction, without
// its process being stopped, lets go after TxTimeout.
func TestStuckTransactionEnds(t *testing.T) {
	storetest.OnEachLabInParallel(t, func(t *testing.T, db *store.DB) {
		storetest.FillLab(t, db)
		plan := storetest.FullPlan(t, db)
		old := storetest.TakeOver(t, db, storetest.WholeLab, 10)
		inside := make(chan struct{})
		db.FailInTx(func(ctx context.Context) error {
			close(inside)
			<-ctx.Done()
			return ctx.Err()
		})
		failed := make(chan error, 1)
		go func() {
			_, err := old.Apply(context.Background(), plan)
			failed <- err
		}()
		<-inside
		db.FailInTx(nil)
		began := time.Now()
		next := storetest.TakeOver(t, db, storetest.WholeLab, 11)
		require.Less(t, time.Since(began), bound)
		require.Error(t, <-failed)
		_, err := next.Apply(t.Context(), plan)
		require.NoError(t, err)
	})
}

// TestLostCommitAnswer: the COMMIT happened, but its answer never came.
func TestLostCommitAnswer(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillLab(t, db)
		l := storetest.TakeOver(t, db, storetest.WholeLab, 10)
		plan := storetest.FullPlan(t, db)
		lost := 0
		db.FailAfterCommit(func() error {
			lost++
			return driver.ErrBadConn
		})
		res, err := l.Apply(t.Context(), plan)
		require.NoError(t, err)
		require.Positive(t, lost)
		require.Len(t, res.Applied.Assignments, len(plan.Assignments))
		db.FailAfterCommit(nil)
		requireApplied(t, db, plan)
		// Nothing is done twice: what comes next are other entries and hosts.
		done := map[scheduler.EntryID]bool{}
		for _, a := range plan.Assignments {
			done[a.Entry] = true
		}
		for _, a := range storetest.FullPlan(t, db).Assignments {
			require.False(t, done[a.Entry])
		}
	})
}

// TestLostCommitAnswerAfterTakeOver: when the answer is looked up, somebody else
// leads already.
func TestLostCommitAnswerAfterTakeOver(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillLab(t, db)
		l := storetest.TakeOver(t, db, storetest.WholeLab, 10)
		db.FailAfterCommit(func() error {
			db.FailAfterCommit(nil)
			storetest.TakeOver(t, db, storetest.WholeLab, 11)
			return driver.ErrBadConn
		})
		_, err := l.Apply(t.Context(), storetest.FullPlan(t, db))
		require.ErrorIs(t, err, store.ErrFenced)
	})
}

// TestKilledConnection: the server ends the leader's connection in the middle of
// a transaction. Nothing of it stays, and the leader continues with a new one.
func TestKilledConnection(t *testing.T) {
	db := storetest.NewServerLab(t)
	storetest.FillLab(t, db)
	l := storetest.TakeOver(t, db, storetest.WholeLab, 10)
	plan := storetest.FullPlan(t, db)
	before := storetest.Dump(t, db)
	db.FailInTx(func(ctx context.Context) error {
		db.FailInTx(nil)
		var id int64
		if err := db.SQL().QueryRowContext(ctx, "SELECT session_id FROM hostsched_fence").Scan(&id); err != nil {
			return err
		}
		_, err := db.SQL().ExecContext(ctx, fmt.Sprintf("KILL CONNECTION %d", id))
		return err
	})
	_, err := l.Apply(t.Context(), plan)
	require.Error(t, err)
	require.NotErrorIs(t, err, store.ErrFenced)
	require.Equal(t, before, storetest.Dump(t, db))
	_, err = l.Apply(t.Context(), plan)
	require.NoError(t, err)
	requireApplied(t, db, plan)
}
