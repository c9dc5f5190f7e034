package admin_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

// TestCheck finds nothing in a sound lab, and each kind of inconsistency once it is
// there.
func TestCheck(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillLab(t, db)
		l := storetest.TakeOver(t, db, storetest.WholeLab, 1)
		plan := storetest.FullPlan(t, db)
		res, err := l.Apply(t.Context(), plan)
		require.NoError(t, err)
		recorder := scheduler.NewRecorder(nil)
		recorder.Record(res.Applied)
		f, err := admin.New(db).Check(t.Context(), storetest.WholeLab, recorder)
		require.NoError(t, err)
		require.Zero(t, f.Count(), "%+v", f)

		storetest.RemoveGuard(t, db)
		var used []scheduler.Assignment
		for _, a := range plan.Assignments {
			if a.Status == scheduler.StatusQueued {
				used = append(used, a)
			}
		}
		for _, text := range []string{
			// A second active entry on the first host, by hand.
			fmt.Sprintf("UPDATE afe_host_queue_entries SET active = 1, host_id = %d WHERE id = %d", used[0].Host, plan.Waiting[0].Entry),
			fmt.Sprintf("UPDATE afe_hosts SET leased = 0 WHERE id = %d", used[1].Host),
			"UPDATE afe_hosts SET leased = 1, status = 'Repair Failed' WHERE id = 1",
			fmt.Sprintf("UPDATE afe_host_queue_entries SET active = 0, complete = 1 WHERE id = %d", used[2].Entry),
			fmt.Sprintf("UPDATE afe_special_tasks SET is_complete = 1 WHERE queue_entry_id = %d", used[2].Entry),
			fmt.Sprintf("UPDATE afe_hosts SET leased = 0 WHERE id = %d", used[2].Host),
		} {
			_, err := db.SQL().Exec(text)
			require.NoError(t, err, text)
		}
		f, err = admin.New(db).Check(t.Context(), storetest.WholeLab, recorder)
		require.NoError(t, err)
		require.Len(t, f.Overlapping, 2)
		require.Equal(t, used[0].Host, f.Overlapping[0].Host)
		require.Len(t, f.Unleased, 1)
		require.Equal(t, used[1].Host, f.Unleased[0].Host)
		require.Len(t, f.Unheld, 1)
		require.Contains(t, f.Unheld[0].Text, "Repair Failed")
		require.NotEmpty(t, f.Drift)
	})
}
