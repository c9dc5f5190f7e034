package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

// insideAChunk returns a leader that is inside of a transaction and goes on when told to,
// with what came of its plan.
func insideAChunk(t *testing.T) (db *store.DB, leader *store.Leader, goOn func() error) {
	db = storetest.NewServerLab(t)
	storetest.FillLab(t, db)
	plan := storetest.FullPlan(t, db)
	leader = storetest.TakeOver(t, db, storetest.WholeLab, 10)
	inside, on := make(chan struct{}), make(chan struct{})
	db.FailInTx(func(context.Context) error {
		close(inside)
		<-on
		return nil
	})
	applied := make(chan error, 1)
	go func() {
		_, err := leader.Apply(context.Background(), plan)
		applied <- err
	}()
	<-inside
	db.FailInTx(nil)
	return db, leader, func() error {
		close(on)
		return <-applied
	}
}

// TestLateClaimantDisturbsNobody: whoever is refused anyway does not disconnect a leader
// that holds its fence row for longer than a claimant waits. On SQLite a claimant can
// only end a process that is stopped.
func TestLateClaimantDisturbsNobody(t *testing.T) {
	db, _, goOn := insideAChunk(t)
	// Without waiting for the row, which the next claimant would have to wait for, too.
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, late := db.TakeOver(ctx, store.Claim{Shard: shard.Master, Token: 9, Cluster: "test", Holder: "late"})
	_, foreign := db.TakeOver(ctx, store.Claim{Shard: shard.Master, Token: 99, Cluster: "another", Holder: "foreign"})
	require.NoError(t, goOn(), "the leader's connection lives")
	require.ErrorIs(t, late, store.ErrOvertaken)
	require.ErrorIs(t, foreign, store.ErrForeignCluster)
}

// TestDeadLeaderWithALockedRow: a rehearsal does not wait for a row that a leader holds
// locked of whom it is known that it is dead or stands still, although the token of the
// last takeover is older.
func TestDeadLeaderWithALockedRow(t *testing.T) {
	db, leader, goOn := insideAChunk(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	deaths := map[string]store.Death{leader.Fence().Holder: {Why: "silent"}}
	err := db.RehearseTakeOver(ctx, store.Claim{Shard: shard.Master, Token: 9, Cluster: "test", Holder: "heir", Deaths: deaths})
	require.Error(t, goOn(), "its connection was cut")
	require.NoError(t, err)
}
