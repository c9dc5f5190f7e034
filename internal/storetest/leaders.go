package storetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

// WholeLab is the scope of a master that is the only shard in its database.
var WholeLab = store.Scope{Shard: shard.Master}

// SharedScope is the scope of one of several shards in a database.
func SharedScope(name shard.Name) store.Scope { return store.Scope{Shard: name, Shared: true} }

// TakeOver makes a new leader of a shard, until the test ends.
func TakeOver(t testing.TB, db *store.DB, scope store.Scope, token int64) *store.Leader {
	t.Helper()
	l, err := db.TakeOver(context.Background(), store.Claim{Shard: scope.Shard, Shared: scope.Shared, Token: token, Cluster: "test", Holder: fmt.Sprint("replica ", token)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

// FullPlan is the plan of a whole lab as it is now.
func FullPlan(t testing.TB, db *store.DB) scheduler.Plan {
	t.Helper()
	s, err := db.Snapshot(context.Background(), WholeLab)
	require.NoError(t, err)
	return scheduler.MakePlan(s)
}

// RunTick runs one tick of a shard.
func RunTick(t testing.TB, db *store.DB, l *store.Leader, scope store.Scope) store.Result {
	t.Helper()
	ctx := context.Background()
	s, err := db.Snapshot(ctx, scope)
	require.NoError(t, err)
	s.Recorder, err = db.Recorder(ctx, scope)
	require.NoError(t, err)
	res, err := l.Apply(ctx, scheduler.MakePlan(s))
	require.NoError(t, err)
	return res
}
