package admin_test

import (
	"database/sql"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

const rightsHeading = "## The database user"

// everything is what a replica may use.
var everything = schema.Use{StaticLabels: true, Shared: true}

// TestDocumentedRightsAreEnough for all that a leader does to a lab.
func TestDocumentedRightsAreEnough(t *testing.T) {
	dsn := testserver.Database(t)
	root := storetest.NewLab(t, dsn)
	storetest.FillLab(t, root)
	for _, text := range []string{
		"INSERT INTO afe_shards (id, hostname) VALUES (7, 'shard-7')",
		"UPDATE afe_hosts SET leased = 1 WHERE id <= 5",
		"INSERT INTO hostsched_terms (shard, epoch, token, holder, began, ended, planned, cause, ticks, assignments) VALUES ('master', 0, 0, 'old', 1, 1, 1, '', 0, 0)",
		"INSERT INTO hostsched_audit (at, who, action, subject, detail) VALUES ('2001-01-01', 'me', 'something', 'master', '')",
	} {
		storetest.Exec(t, root, text)
	}
	db := storetest.Open(t, storetest.UserWithRights(t, dsn, storetest.DocumentedRights(t, rightsHeading)))
	lab := admin.New(db)
	require.NoError(t, schema.Check(t.Context(), db.DB, everything))
	require.NoError(t, db.RehearseTakeOver(t.Context(), store.Claim{Shard: shard.Master, Token: 10, Cluster: "test"}))

	first := storetest.TakeOver(t, db, storetest.WholeLab, 10)
	plan := storetest.FullPlan(t, root)
	plan.Basis.Shared = true // so that hosts can be handed over
	plan.Moves = append(plan.Moves, scheduler.Move{Host: unusedHost(t, root, plan), To: 7})
	victim := plan.Assignments[len(plan.Assignments)-1]
	other, err := root.SQL().BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	require.NoError(t, err)
	t.Cleanup(func() { _ = other.Rollback() })
	_, err = other.Exec("UPDATE afe_hosts SET lock_reason = 'never committed' WHERE id = ?", victim.Host)
	require.NoError(t, err)
	res, err := first.Apply(t.Context(), plan)
	require.NoError(t, err)
	require.NoError(t, other.Rollback())
	require.Equal(t, []scheduler.EntryID{victim.Entry}, res.Contended, "it could look for locked rows")
	require.Len(t, res.Applied.Assignments, len(plan.Assignments)-1)
	require.NotEmpty(t, res.Applied.Releases)
	require.NotEmpty(t, res.Applied.Leases)
	require.Equal(t, plan.Moves, res.Applied.Moves)

	second, err := db.TakeOver(t.Context(), store.Claim{Shard: shard.Master, Token: 11, Cluster: "test", Holder: "second", Journal: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, second.Close()) })
	used := slices.IndexFunc(plan.Assignments, func(a scheduler.Assignment) bool { return a.Status == scheduler.StatusQueued })
	endEveryHold(t, root, second, plan.Assignments[used].Host)
	require.NoError(t, first.EndTerm(t.Context(), store.TermEnd{Cause: "seen late"}))
	require.NoError(t, second.EndTerm(t.Context(), store.TermEnd{Cause: "stopped", Planned: true}))
	storetest.Exec(t, root, "UPDATE hostsched_events SET at = 1 WHERE kind = 'shard.taken_over'")
	terms, records, events, err := lab.Prune(t.Context(), 100, 100)
	require.NoError(t, err)
	require.Equal(t, [3]int{1, 1, 1}, [3]int{terms, records, events})
	lost, err := db.Lost(t.Context(), first.Given())
	require.NoError(t, err)
	require.NoError(t, lab.PauseAfterLoss(t.Context(), shard.Master, 12, "me", errors.New("a test"), lost))
	_, err = lab.Check(t.Context(), store.Scope{Shard: shard.Master, Shared: true}, nil)
	require.NoError(t, err)
	_, err = db.Snapshot(t.Context(), store.Scope{Shard: shard.Master, Shared: true, Details: true, Rules: scheduler.Rules{RespectStaticLabels: true}})
	require.NoError(t, err)
}

// endEveryHold makes a leader end a hold of every kind: of a host in use, and of others.
func endEveryHold(t *testing.T, db *store.DB, l *store.Leader, used scheduler.HostID) {
	t.Helper()
	free := unusedHost(t, db, scheduler.Plan{})
	locked := unusedHost(t, db, scheduler.Plan{Assignments: []scheduler.Assignment{{Host: free}}})
	storetest.Exec(t, db, "INSERT INTO hostsched_hosts (host_id, drain_since, drain_by, drain_abort, drain_deadline) VALUES (?, 1, 'alice', 1, 1), (?, 1, 'alice', 0, NULL)", used, free)
	storetest.Exec(t, db, "UPDATE afe_hosts SET locked = 1, lock_time = '2020-02-03 04:05:06' WHERE id = ?", locked)
	storetest.Exec(t, db, "INSERT INTO hostsched_hosts (host_id, lock_until, lock_time) VALUES (?, 1, '2020-02-03 04:05:06')", locked)
	plan := storetest.FullPlan(t, db)
	res, err := l.Apply(t.Context(), scheduler.Plan{Unlocks: plan.Unlocks, Drained: plan.Drained, Aborts: plan.Aborts, Basis: plan.Basis})
	require.NoError(t, err)
	require.Equal(t, [3]int{1, 1, 1}, [3]int{len(res.Applied.Unlocks), len(res.Applied.Drained), len(res.Applied.Aborts)})
}

// unusedHost is a host that a plan leaves alone.
func unusedHost(t *testing.T, db *store.DB, plan scheduler.Plan) scheduler.HostID {
	t.Helper()
	used := map[scheduler.HostID]bool{}
	for _, a := range plan.Assignments {
		used[a.Host] = true
	}
	s, err := db.Snapshot(t.Context(), storetest.WholeLab)
	require.NoError(t, err)
	for _, h := range s.Hosts {
		if !used[h.ID] && !h.Leased && !h.Locked && !h.OpenTask && h.ActiveEntry == 0 {
			return h.ID
		}
	}
	t.Fatal("every host is used")
	return 0
}

// TestEveryDocumentedRightIsNeeded: the check at start names each one that is missing.
func TestEveryDocumentedRightIsNeeded(t *testing.T) {
	dsn := testserver.Database(t)
	storetest.NewLab(t, dsn)
	all := storetest.DocumentedRights(t, rightsHeading)
	db := storetest.Open(t, storetest.UserWithRights(t, dsn, all))
	require.NoError(t, schema.Check(t.Context(), db.DB, everything))
	for _, r := range all {
		if r.Verb == "SELECT" {
			continue // without it, nobody can even ask for the schema's version
		}
		storetest.Account(t, dsn, "REVOKE "+r.Verb+" ON lab."+r.Table+" FROM")
		err := schema.Check(t.Context(), db.DB, everything)
		require.ErrorIs(t, err, sqldb.ErrPrivilege, r)
		require.ErrorContains(t, err, strings.ToLower(r.Verb))
		require.ErrorContains(t, err, "table "+r.Table)
		storetest.RequireOneLine(t, err)
		storetest.Account(t, dsn, "GRANT "+r.Verb+" ON lab."+r.Table+" TO")
	}
	require.NoError(t, schema.Check(t.Context(), db.DB, everything))
}
