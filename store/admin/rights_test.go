package admin_test

import (
	"database/sql"
	"errors"
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

	second := storetest.TakeOver(t, db, storetest.WholeLab, 11)
	require.NoError(t, first.EndTerm(t.Context(), store.TermEnd{Cause: "seen late"}))
	require.NoError(t, second.EndTerm(t.Context(), store.TermEnd{Cause: "stopped", Planned: true}))
	terms, records, err := lab.Prune(t.Context(), 100)
	require.NoError(t, err)
	require.Equal(t, [2]int{1, 1}, [2]int{terms, records})
	lost, err := first.Lost(t.Context())
	require.NoError(t, err)
	require.NoError(t, lab.PauseAfterLoss(t.Context(), shard.Master, 12, "me", errors.New("a test"), lost))
	_, err = lab.Check(t.Context(), store.Scope{Shard: shard.Master, Shared: true}, nil)
	require.NoError(t, err)
	_, err = db.Snapshot(t.Context(), store.Scope{Shard: shard.Master, Shared: true, Details: true, Rules: scheduler.Rules{RespectStaticLabels: true}})
	require.NoError(t, err)
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
		if !used[h.ID] && !h.Leased && !h.Locked && !h.OpenTask && !h.ActiveEntry {
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
