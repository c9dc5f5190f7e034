package api_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/api"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

// TestJobsOfShards: a shard finds the entries that are its, whichever label comes first, and
// is woken once for all of them; only hosts that it has, or will have, count.
func TestJobsOfShards(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		woken := map[shard.Name][]int{}
		s, ann, _ := newLabServerWith(t, db, func(c *api.Config) {
			c.Wake = func(name shard.Name, entries ...int64) { woken[name] = append(woken[name], len(entries)) }
		})
		require.NoError(t, admin.New(db).AddShard(t.Context(), "a", "", "me", ""))
		_, err := admin.New(db).AssignLabel(t.Context(), "board:eve", "a", "me", "")
		require.NoError(t, err)

		// The hosts with board:eve are still the master's, and will be the shard's.
		out := s.submit(t, ann, labapi.JobSpec{Name: "a", Labels: []string{"pool:ci", "board:eve"}})
		require.Equal(t, 1, storetest.Count(t, db, "SELECT meta_host FROM afe_host_queue_entries WHERE job_id = ?", out.ID))
		require.Equal(t, map[shard.Name][]int{"a": {1}}, woken)
		storetest.Exec(t, db, "UPDATE afe_hosts SET shard_id = (SELECT id FROM afe_shards) WHERE id IN (1, 2)")
		var why labapi.Explanation
		require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodGet, fmt.Sprint("/jobs/", out.ID, "/explain"), nil, &why))
		require.Equal(t, "the next tick gives 1 host", why.Text)

		// Of those with pool:ci only h3 is the master's.
		s.submit(t, ann, labapi.JobSpec{Name: "b", Labels: []string{"pool:ci"}})
		var p problem
		require.Equal(t, http.StatusUnprocessableEntity, s.call(t, ann, http.MethodPost, "/jobs", labapi.JobSpec{Name: "b", Labels: []string{"pool:ci"}, Count: 2}, &p))
		require.Contains(t, p.Detail, "2 hosts are wanted, and there are only 1")
		named := s.submit(t, ann, labapi.JobSpec{Name: "c", Hosts: []string{"h1", "h3"}})
		require.Equal(t, map[shard.Name][]int{"a": {1, 1}, shard.Master: {1, 1}}, woken)
		require.Equal(t, http.StatusNoContent, s.call(t, ann, http.MethodPost, fmt.Sprint("/jobs/", named.ID, "/abort"), nil, nil))
		require.Equal(t, map[shard.Name][]int{"a": {1, 1, 1}, shard.Master: {1, 1, 1}}, woken)

		in := labapi.SuiteInput{Name: "s"}
		for range 50 {
			in.Jobs = append(in.Jobs, labapi.JobSpec{Name: "j", Labels: []string{"board:eve"}})
		}
		require.Equal(t, http.StatusCreated, s.call(t, ann, http.MethodPost, "/suites", in, nil))
		require.Equal(t, []int{1, 1, 1, 50}, woken["a"])
	})
}
