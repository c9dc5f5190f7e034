package admin_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

// TestPrune: what is old goes, but for the latest term of each shard and the records of
// lost commits.
func TestPrune(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		lab := admin.New(db)
		for _, token := range []int64{1, 5, 9} {
			l := storetest.TakeOver(t, db, storetest.WholeLab, token)
			require.NoError(t, l.EndTerm(t.Context(), store.TermEnd{Cause: "handed over", Planned: true}))
			require.NoError(t, l.Close())
		}
		for _, action := range []string{"shard pause", "commits lost", "shard resume"} {
			require.NoError(t, lab.Audit(t.Context(), "me", action, "master", "test"))
		}
		for range 3 {
			require.NoError(t, db.Note(t.Context(), db.SQL(), slices.Repeat([]store.Event{{Kind: "host.assigned", Who: "me"}}, 700)...))
		}
		count := func() [3]int {
			return [3]int{storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_terms"), storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_audit"), storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_events")}
		}
		terms, records, events, err := lab.Prune(t.Context(), 90, 30)
		require.NoError(t, err)
		require.Equal(t, [3]int{0, 0, 0}, [3]int{terms, records, events}, "nothing is old")
		require.Equal(t, [3]int{3, 3, 2100}, count())

		const day = 24 * 60 * 60 * 1000
		storetest.Exec(t, db.DB, "UPDATE hostsched_terms SET began = began - ?, ended = ended - ?", 91*day, 91*day)
		storetest.Exec(t, db.DB, "UPDATE hostsched_audit SET at = '2020-02-03 04:05:06' WHERE action <> 'shard resume'")
		storetest.Exec(t, db, "UPDATE hostsched_events SET at = at - ? WHERE id <= (SELECT MIN(id) + 1399 FROM (SELECT id FROM hostsched_events) e)", 31*day)
		_, _, _, err = lab.Prune(t.Context(), 0, 0)
		require.NoError(t, err)
		require.Equal(t, [3]int{3, 3, 2100}, count(), "0 days keep everything")
		terms, records, events, err = lab.Prune(t.Context(), 90, 30)
		require.NoError(t, err)
		require.Equal(t, [3]int{2, 1, 1400}, [3]int{terms, records, events})
		require.Equal(t, [3]int{1, 2, 700}, count())
	})
}
