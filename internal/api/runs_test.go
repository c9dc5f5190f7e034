package api_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/runs"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

const claimKey = "a key that nobody guesses"

// give does what the planner does with an entry, in one transaction with its event.
func give(t *testing.T, db *store.DB, job, entry, host int64) {
	t.Helper()
	tx, err := db.SQL().BeginTx(t.Context(), nil)
	require.NoError(t, err)
	for _, change := range []struct {
		query string
		args  []any
	}{
		{"UPDATE afe_hosts SET leased = 1, status = 'Pending' WHERE id = ?", []any{host}},
		{"UPDATE afe_host_queue_entries SET host_id = ?, active = 1, status = 'Starting', execution_subdir = 'h' WHERE id = ?", []any{host, entry}},
		{"INSERT INTO hostsched_events (at, kind, job_id, who) VALUES (" + db.Dialect.NowMillis + ", 'host.assigned', ?, 'x')", []any{job}},
	} {
		_, err := tx.ExecContext(t.Context(), change.query, change.args...)
		require.NoError(t, err)
	}
	require.NoError(t, tx.Commit())
}

func TestAClaimWaitsForItsHost(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, ann, bob := newLabServer(t, db)
		out := s.submit(t, ann, labapi.JobSpec{Name: "a", Labels: []string{"board:eve"}, Own: labapi.OwnRun})
		path := fmt.Sprint("/jobs/", out.ID, "/claim")
		var p problem
		require.Equal(t, http.StatusForbidden, s.call(t, bob, http.MethodPost, path, labapi.OwnClaimInput{ClaimKey: claimKey}, &p))
		var got labapi.OwnClaimed
		require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodPost, path, labapi.OwnClaimInput{ClaimKey: claimKey}, &got))
		require.Nil(t, got.Claimed)
		require.Equal(t, labapi.JobQueued, got.State)
		require.Equal(t, "the next tick gives 1 host", got.Waiting)

		given := time.AfterFunc(300*time.Millisecond, func() { give(t, db, out.ID, out.Entries[0], 1) })
		defer given.Stop()
		began := time.Now()
		require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodPost, path, labapi.OwnClaimInput{ClaimKey: claimKey, WaitMillis: 20_000}, &got))
		require.NotNil(t, got.Claimed)
		require.Less(t, time.Since(began), 4*time.Second, "the journal told it")
		var again labapi.OwnClaimed
		require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodPost, path, labapi.OwnClaimInput{ClaimKey: claimKey}, &again))
		require.Equal(t, got.Claimed, again.Claimed, "a lost answer comes again")

		var run labapi.Run
		require.Equal(t, http.StatusOK, s.call(t, bob, http.MethodGet, fmt.Sprint("/runs/", got.Claimed.Run), nil, &run))
		require.Equal(t, "ann", run.Login)
		require.Equal(t, "claimed", run.State)
		require.Equal(t, "h1", run.Hosts[0].Hostname)
		var page labapi.Page[labapi.Run]
		for query, n := range map[string]int{"": 1, "?host=h1&open=true": 1, "?host=h2": 0, fmt.Sprint("?job=", out.ID, "&login=ann&kind=job&state=claimed"): 1, "?login=bob": 0, "?state=done": 0} {
			require.Equal(t, http.StatusOK, s.call(t, bob, http.MethodGet, "/runs"+query, nil, &page))
			require.Len(t, page.Items, n, query)
		}
		require.Equal(t, http.StatusNotFound, s.call(t, bob, http.MethodGet, "/runs/4711", nil, &p))
		require.Equal(t, http.StatusNotFound, s.call(t, ann, http.MethodPost, fmt.Sprint("/runs/", got.Claimed.Run, "/release"), nil, &p), "it is no reservation")
	})
}

func TestAClaimOfAJobThatIsOverOrAnAgents(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, ann, _ := newLabServer(t, db)
		out := s.submit(t, ann, labapi.JobSpec{Name: "a", Labels: []string{"board:eve"}, Own: labapi.OwnRun})
		require.Equal(t, http.StatusNoContent, s.call(t, ann, http.MethodPost, fmt.Sprint("/jobs/", out.ID, "/abort"), nil, nil))
		var got labapi.OwnClaimed
		require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodPost, fmt.Sprint("/jobs/", out.ID, "/claim"), labapi.OwnClaimInput{ClaimKey: claimKey, WaitMillis: 20_000}, &got))
		require.Equal(t, labapi.JobAborted, got.State)
		require.Nil(t, got.Claimed)
		out = s.submit(t, ann, labapi.JobSpec{Name: "b", Labels: []string{"board:eve"}})
		var p problem
		require.Equal(t, http.StatusNotFound, s.call(t, ann, http.MethodPost, fmt.Sprint("/jobs/", out.ID, "/claim"), labapi.OwnClaimInput{ClaimKey: claimKey}, &p))
	})
}

func TestReservationsThroughTheAPI(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, ann, bob := newLabServer(t, db)
		out := s.submit(t, ann, labapi.JobSpec{Name: "a", Hosts: []string{"h1"}, Own: labapi.OwnReserve, MaxRuntime: "1h"})
		give(t, db, out.ID, out.Entries[0], 1)
		var got labapi.OwnClaimed
		require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodPost, fmt.Sprint("/jobs/", out.ID, "/claim"), labapi.OwnClaimInput{ClaimKey: claimKey}, &got))
		path := fmt.Sprint("/runs/", got.Claimed.Run)
		var run, longer labapi.Run
		require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodGet, path, nil, &run))
		require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodPost, path+"/extend", labapi.ExtendInput{For: "1h"}, &longer))
		require.Equal(t, time.Hour, longer.LeaseUntil.Sub(run.LeaseUntil))
		var p problem
		require.Equal(t, http.StatusUnprocessableEntity, s.call(t, ann, http.MethodPost, path+"/extend", labapi.ExtendInput{For: "soon"}, &p))
		require.Equal(t, http.StatusForbidden, s.call(t, bob, http.MethodPost, path+"/release", nil, &p))
		require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodPost, path+"/release", nil, &run))
		require.Equal(t, "done", run.State)
		require.Equal(t, http.StatusConflict, s.call(t, ann, http.MethodPost, path+"/release", nil, &p))
	})
}

// TestABadHostIsUnlockedThroughTheAPI: runs of several jobs in a row are lost on it, so nobody
// gets it, until a person who may do that unlocks it.
func TestABadHostIsUnlockedThroughTheAPI(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, ann, _ := newLabServer(t, db)
		sweeper := runs.New(lab.New(db, store.Scope{Shard: shard.Master, Shared: true}))
		var h labapi.Host
		for i := range 3 {
			require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodGet, "/hosts/h1", nil, &h))
			require.Nil(t, h.Bad)
			out := s.submit(t, ann, labapi.JobSpec{Name: "a", Hosts: []string{"h1"}, Own: labapi.OwnRun})
			give(t, db, out.ID, out.Entries[0], 1)
			var got labapi.OwnClaimed
			require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodPost, fmt.Sprint("/jobs/", out.ID, "/claim"), labapi.OwnClaimInput{ClaimKey: fmt.Sprint(claimKey, i)}, &got))
			require.NotNil(t, got.Claimed)
			storetest.Exec(t, db, "UPDATE hostsched_runs SET lease_until = 1 WHERE id = ?", got.Claimed.Run)
			storetest.Exec(t, db, "UPDATE hostsched_facts SET value = '1' WHERE name = 'no_loss_before'")
			// Nothing that ends well comes in between.
			storetest.Exec(t, db, "UPDATE afe_hosts SET locked = 1 WHERE id = 1")
			done, err := sweeper.Sweep(t.Context())
			require.NoError(t, err)
			require.Equal(t, 1, done.Lost)
			storetest.Exec(t, db, "DELETE FROM afe_special_tasks")
			storetest.Exec(t, db, "UPDATE afe_hosts SET locked = 0, status = 'Ready', leased = 0 WHERE id = 1")
		}
		require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodGet, "/hosts/h1", nil, &h))
		require.NotNil(t, h.Bad)
		require.Contains(t, h.Bad.Reason, "3 failed repairs or lost runs in a row, the last: run ")
		require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodDelete, "/hosts/h1/lock", nil, &h))
		require.Nil(t, h.Bad)
		require.Zero(t, storetest.Count(t, db, "SELECT failures FROM hostsched_host_epochs WHERE host_id = 1"))
	})
}
