package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/api"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/store"
)

// newLabServer is an API on a lab with hosts h1 to h3, of which h1 and h2 carry board:eve;
// users ann and bob, who are in Everyone as the hosts are; and ann's token.
func newLabServer(t *testing.T, db *store.DB) (s *server, ann, bob string) {
	t.Helper()
	return newLabServerWith(t, db, func(*api.Config) {})
}

func newLabServerWith(t *testing.T, db *store.DB, change func(*api.Config)) (s *server, ann, bob string) {
	t.Helper()
	s = newServerWith(t, db, change)
	for _, text := range []string{
		"INSERT INTO afe_acl_groups (id, name) VALUES (1, 'Everyone'), (2, 'lab')",
		"INSERT INTO afe_users (id, login, access_level, reboot_before, reboot_after) VALUES (20, 'ann', 0, 0, 0), (21, 'bob', 0, 0, 0)",
		"INSERT INTO afe_acl_groups_users (aclgroup_id, user_id) SELECT 1, id FROM afe_users",
		"INSERT INTO afe_hosts (id, hostname, status, locked, invalid, leased, dirty, protection) VALUES (1, 'h1', 'Ready', 0, 0, 0, 0, 0), (2, 'h2', 'Ready', 0, 0, 0, 0, 0), (3, 'h3', 'Ready', 0, 0, 0, 0, 0), (4, 'h4', 'Ready', 0, 0, 0, 0, 0)",
		"INSERT INTO afe_acl_groups_hosts (aclgroup_id, host_id) VALUES (1, 1), (1, 2), (1, 3), (2, 4)",
		"INSERT INTO afe_labels (id, name, invalid, only_if_needed) VALUES (1, 'board:eve', 0, 0), (2, 'pool:ci', 0, 0), (3, 'cros-version:R1', 0, 0), (4, 'rare', 0, 0), (5, 'gone', 1, 0)",
		"INSERT INTO afe_hosts_labels (host_id, label_id) VALUES (1, 1), (2, 1), (1, 2), (3, 2), (4, 4)",
	} {
		storetest.Exec(t, db, text)
	}
	return s, s.token(t, labapi.TokenInput{Login: "ann", Name: "t"}), s.token(t, labapi.TokenInput{Login: "bob", Name: "t"})
}

type problem struct{ Type, Detail string }

func (s *server) submit(t *testing.T, token string, spec labapi.JobSpec) labapi.Submitted {
	t.Helper()
	var out labapi.Submitted
	require.Equal(t, http.StatusCreated, s.call(t, token, http.MethodPost, "/jobs", spec, &out))
	return out
}

func TestSubmitJob(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, ann, _ := newLabServer(t, db)
		out := s.submit(t, ann, labapi.JobSpec{Name: "smoke", Priority: 5, Labels: []string{"board:eve", "cros-version:R1"}, Count: 2, Synch: 2, Keyvals: map[string]string{"k": "v"}, Script: "true\n", Timeout: "90m"})
		require.Len(t, out.Entries, 2)
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_jobs WHERE id = ? AND owner = 'ann' AND name = 'smoke' AND priority = 5 AND synch_count = 2 AND timeout_mins = 90 AND timeout = 2 AND max_runtime_mins = 1440 AND run_reset = 1 AND run_verify = 0 AND reboot_before = 1 AND reboot_after = 0 AND control_file = 'true\n' AND shard_id IS NULL", out.ID))
		require.Equal(t, 2, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries WHERE job_id = ? AND status = 'Queued' AND meta_host = 1 AND host_id IS NULL AND active = 0 AND complete = 0 AND aborted = 0", out.ID))
		require.Equal(t, 2, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_jobs_dependency_labels WHERE job_id = ?", out.ID))
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_events WHERE kind = 'job.submitted' AND job_id = ? AND who = 'ann'", out.ID))

		var job labapi.Job
		require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodGet, fmt.Sprint("/jobs/", out.ID), nil, &job))
		require.Equal(t, labapi.JobQueued, job.State)
		require.Equal(t, []string{"board:eve", "cros-version:R1"}, job.Labels)
		require.Equal(t, "true\n", job.Spec.Script)
		require.Equal(t, map[string]string{"k": "v"}, job.Keyvals)

		var why labapi.Explanation
		require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodGet, fmt.Sprint("/jobs/", out.ID, "/explain"), nil, &why))
		require.Equal(t, "the next tick gives 2 hosts", why.Text)
		require.Len(t, why.Entries, 2)

		named := s.submit(t, ann, labapi.JobSpec{Name: "named", Hosts: []string{"h3"}})
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries WHERE job_id = ? AND host_id = 3 AND meta_host IS NULL", named.ID))
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_ineligible_host_queues WHERE job_id = ? AND host_id = 3", named.ID))

		var list labapi.Page[labapi.Job]
		for query, want := range map[string][]int64{"": {named.ID, out.ID}, "?label=pool:ci": {}, "?label=board:eve": {out.ID}, "?owner=bob": {}, "?state=queued": {named.ID, out.ID}, "?state=running": {}, "?limit=1": {named.ID}} {
			require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodGet, "/jobs"+query, nil, &list), query)
			got := []int64{}
			for _, j := range list.Items {
				got = append(got, j.ID)
			}
			require.Equal(t, want, got, query)
			if query == "?limit=1" {
				require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodGet, "/jobs?limit=1&after="+list.After, nil, &list))
				require.Equal(t, out.ID, list.Items[0].ID)
			}
			list = labapi.Page[labapi.Job]{}
		}
	})
}

func TestJobsThatCanNeverRun(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, ann, _ := newLabServer(t, db)
		for _, c := range []struct {
			spec labapi.JobSpec
			says string
		}{
			{labapi.JobSpec{Labels: []string{"bored:eve"}}, "there is no such label"},
			{labapi.JobSpec{Labels: []string{"gone"}}, "there is no such label"},
			{labapi.JobSpec{Labels: []string{"board:eve", "rare"}}, "no valid host carries all of them"},
			{labapi.JobSpec{Labels: []string{"rare"}}, `none in an ACL group of owner "ann"`},
			{labapi.JobSpec{Labels: []string{"board:eve"}, Count: 3}, "3 hosts are wanted, and there are only 2"},
			{labapi.JobSpec{Labels: []string{"board:eve"}, Synch: 2}, "2 hosts should run together, but only 1 are asked for"},
			{labapi.JobSpec{Labels: []string{"bored:eve"}, Own: labapi.OwnRun}, "there is no such label; ask for other hosts"},
			{labapi.JobSpec{Labels: []string{"bored:eve"}, Script: "true"}, "queue it all the same with allow_unplaceable"},
			{labapi.JobSpec{Hosts: []string{"h4"}}, "h4"},
			{labapi.JobSpec{Hosts: []string{"h9"}}, `there is no host "h9"`},
			{labapi.JobSpec{Hosts: []string{"h3"}, Labels: []string{"board:eve"}}, "h3"},
			{labapi.JobSpec{Hosts: []string{"h3", "h3"}}, "named twice"},
		} {
			c.spec.Name = "never"
			var p problem
			require.Equal(t, http.StatusUnprocessableEntity, s.call(t, ann, http.MethodPost, "/jobs", c.spec, &p), c.says)
			require.Equal(t, "/problems/no-host-can-ever-run", p.Type)
			require.Contains(t, p.Detail, c.says)
		}
		require.Zero(t, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_jobs"))
		out := s.submit(t, ann, labapi.JobSpec{Name: "later", Labels: []string{"bored:eve"}, AllowUnplaceable: true})
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries q JOIN afe_labels l ON l.id = q.meta_host WHERE q.job_id = ? AND l.name = 'bored:eve'", out.ID))
		storetest.Exec(t, db, "UPDATE afe_hosts SET locked = 1")
		s.submit(t, ann, labapi.JobSpec{Name: "waits", Labels: []string{"board:eve"}})
	})
}

func TestDryRun(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, ann, _ := newLabServer(t, db)
		var out labapi.Submitted
		require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodPost, "/jobs?dry_run=true", labapi.JobSpec{Name: "a", Labels: []string{"pool:ci"}}, &out))
		require.Equal(t, "the next tick gives 1 host", out.Explain.Text)
		require.NotEmpty(t, out.Explain.Entries[0].Host)
		storetest.Exec(t, db, "UPDATE afe_hosts SET locked = 1")
		require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodPost, "/jobs?dry_run=true", labapi.JobSpec{Name: "a", Labels: []string{"pool:ci"}}, &out))
		require.Contains(t, out.Explain.Text, "2 locked")
		require.Equal(t, labapi.Reason{Reason: "locked", Hosts: 2}, out.Explain.Entries[0].Reasons[0])
		require.Zero(t, storetest.Count(t, db, "SELECT (SELECT COUNT(*) FROM afe_jobs) + (SELECT COUNT(*) FROM hostsched_events WHERE job_id IS NOT NULL)"))
	})
}

func TestAbortAndRequeue(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, ann, bob := newLabServer(t, db)
		out := s.submit(t, ann, labapi.JobSpec{Name: "a", Labels: []string{"board:eve"}, Count: 2})
		path := fmt.Sprint("/jobs/", out.ID)
		var p problem
		require.Equal(t, http.StatusForbidden, s.call(t, bob, http.MethodPost, path+"/abort", nil, &p))
		require.Equal(t, "/problems/not-allowed", p.Type)
		storetest.Exec(t, db, "UPDATE afe_host_queue_entries SET active = 1, status = 'Running', host_id = 1 WHERE id = ?", out.Entries[0])
		require.Equal(t, http.StatusNoContent, s.call(t, ann, http.MethodPost, path+"/abort", labapi.AbortInput{Reason: "wrong build"}, nil))
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries WHERE id = ? AND aborted = 1 AND active = 1 AND complete = 0", out.Entries[0]), "a runner ends what runs")
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries WHERE id = ? AND aborted = 1 AND complete = 1 AND status = 'Aborted'", out.Entries[1]))
		require.Equal(t, 2, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_aborted_host_queue_entries WHERE aborted_by_id = 20"))
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_events WHERE kind = 'job.aborted' AND who = 'ann' AND reason = 'wrong build'"))

		var again labapi.Submitted
		require.Equal(t, http.StatusForbidden, s.call(t, bob, http.MethodPost, path+"/requeue", nil, &p))
		require.Equal(t, http.StatusCreated, s.call(t, ann, http.MethodPost, path+"/requeue", nil, &again))
		require.Len(t, again.Entries, 2)
		var job labapi.Job
		require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodGet, fmt.Sprint("/jobs/", again.ID), nil, &job))
		require.Equal(t, out.ID, job.CloneOf)
		require.Equal(t, http.StatusNotFound, s.call(t, ann, http.MethodPost, "/jobs/12345/abort", nil, &p))

		storetest.Exec(t, db, "UPDATE afe_host_queue_entries SET active = 0, complete = 1, status = 'Aborted' WHERE job_id = ?", out.ID)
		// Who shares a group with the host of an entry, other than Everyone, may abort it.
		storetest.Exec(t, db, "UPDATE afe_host_queue_entries SET active = 1, status = 'Running', host_id = 1, meta_host = NULL WHERE id = ?", again.Entries[0])
		storetest.Exec(t, db, "UPDATE afe_host_queue_entries SET active = 1, status = 'Running', host_id = 2, meta_host = NULL WHERE id = ?", again.Entries[1])
		storetest.Exec(t, db, "INSERT INTO afe_acl_groups_users (aclgroup_id, user_id) VALUES (2, 21)")
		storetest.Exec(t, db, "INSERT INTO afe_acl_groups_hosts (aclgroup_id, host_id) VALUES (2, 1), (2, 2)")
		require.Equal(t, http.StatusNoContent, s.call(t, bob, http.MethodPost, fmt.Sprint("/jobs/", again.ID, "/abort"), nil, nil))
	})
}

func TestSecretsAreShownToNobody(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, ann, _ := newLabServer(t, db)
		out := s.submit(t, ann, labapi.JobSpec{Name: "a", Labels: []string{"board:eve"}, Env: map[string]string{"LEVEL": "3"}, Secrets: map[string]string{"PASSWORD": "correct horse"}})
		var job labapi.Job
		require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodGet, fmt.Sprint("/jobs/", out.ID), nil, &job))
		require.Equal(t, map[string]string{"PASSWORD": "******"}, job.Spec.Secrets)
		require.Equal(t, map[string]string{"LEVEL": "3"}, job.Spec.Env)
		var again labapi.Submitted
		require.Equal(t, http.StatusCreated, s.call(t, ann, http.MethodPost, fmt.Sprint("/jobs/", out.ID, "/requeue"), nil, &again))
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_job_specs WHERE job_id = ? AND spec LIKE '%correct horse%'", again.ID), "the job that runs once more has it")
	})
}

func TestJobsOfOnesOwn(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, ann, _ := newLabServer(t, db)
		out := s.submit(t, ann, labapi.JobSpec{Name: "a", Labels: []string{"board:eve"}, Count: 2, Own: labapi.OwnRun})
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_own_jobs WHERE job_id = ? AND kind = 'run' AND seen > 0", out.ID))
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_jobs WHERE id = ? AND synch_count = 2 AND timeout_mins = 366 * 1440 AND max_runtime_mins = 366 * 1440", out.ID))
		var p problem
		require.Equal(t, http.StatusConflict, s.call(t, ann, http.MethodPost, fmt.Sprint("/jobs/", out.ID, "/requeue"), nil, &p))
		require.Contains(t, p.Detail, "hostsched run")
		s.submit(t, ann, labapi.JobSpec{Name: "b", Labels: []string{"board:eve"}})
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_own_jobs"))
	})
}

func TestSuites(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, ann, _ := newLabServer(t, db)
		in := labapi.SuiteInput{Name: "bvt", Minimum: 1, Priority: 7}
		for range 3 {
			in.Jobs = append(in.Jobs, labapi.JobSpec{Name: "j", Labels: []string{"board:eve"}})
		}
		var made, suite labapi.Suite
		require.Equal(t, http.StatusCreated, s.call(t, ann, http.MethodPost, "/suites", in, &made))
		require.Len(t, made.Jobs, 3)
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_job_keyvals WHERE job_id = ? AND `key` = 'suite_min_duts' AND value = '1'", made.ID))
		require.Equal(t, 3, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_jobs WHERE parent_job_id = ? AND priority = 7", made.ID))
		storetest.Exec(t, db, "UPDATE afe_host_queue_entries SET active = 1, status = 'Running', host_id = 1 WHERE job_id = ?", made.Jobs[0])
		storetest.Exec(t, db, "UPDATE afe_host_queue_entries SET complete = 1, status = 'Completed', host_id = 2 WHERE job_id = ?", made.Jobs[1])
		require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodGet, fmt.Sprint("/suites/", made.ID), nil, &suite))
		require.Equal(t, []int{1, 1, 1, 1, 0}, []int{suite.Minimum, suite.Holds, suite.Waiting, suite.Passed, suite.Failed})
		require.Equal(t, made.Jobs, suite.Jobs)
		added := s.submit(t, ann, labapi.JobSpec{Name: "late", Labels: []string{"board:eve"}, Suite: made.ID})
		require.Equal(t, http.StatusNoContent, s.call(t, ann, http.MethodPost, fmt.Sprint("/suites/", made.ID, "/abort"), nil, nil))
		require.Equal(t, 2, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries WHERE status = 'Aborted'"))
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries WHERE status = 'Aborted' AND job_id = ?", added.ID))

		var page labapi.Page[labapi.Suite]
		require.Equal(t, http.StatusCreated, s.call(t, ann, http.MethodPost, "/suites", labapi.SuiteInput{Name: "empty"}, nil))
		require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodGet, "/suites?limit=1", nil, &page))
		require.Equal(t, "empty", page.Items[0].Name)
		after := page.After
		page = labapi.Page[labapi.Suite]{}
		require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodGet, "/suites?after="+after, nil, &page))
		require.Equal(t, made.ID, page.Items[0].ID)
		require.Empty(t, page.After)

		in.Jobs[2].Labels = []string{"nowhere"}
		var p problem
		require.Equal(t, http.StatusUnprocessableEntity, s.call(t, ann, http.MethodPost, "/suites", in, &p))
		require.Equal(t, 2, len(suiteIDs(t, db)), "nothing of a suite is entered if one of its jobs can never run")
	})
}

func suiteIDs(t *testing.T, db *store.DB) (ids []int64) {
	t.Helper()
	rows, err := db.SQL().QueryContext(context.Background(), "SELECT job_id FROM afe_job_keyvals WHERE `key` = 'suite_min_duts'")
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	for rows.Next() {
		var id int64
		require.NoError(t, rows.Scan(&id))
		ids = append(ids, id)
	}
	require.NoError(t, rows.Err())
	return ids
}

// TestWhoSubmits: for others, and above the cap, an operator does.
func TestWhoSubmits(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, ann, _ := newLabServer(t, db)
		viewer := s.token(t, labapi.TokenInput{Login: "ann", Name: "v", Role: "viewer"})
		for _, c := range []struct {
			token string
			spec  labapi.JobSpec
			want  int
		}{
			{"", labapi.JobSpec{}, http.StatusUnauthorized},
			{viewer, labapi.JobSpec{}, http.StatusForbidden},
			{ann, labapi.JobSpec{Owner: "bob"}, http.StatusForbidden},
			{ann, labapi.JobSpec{Owner: "ann"}, http.StatusCreated},
			{ann, labapi.JobSpec{Priority: 101}, http.StatusForbidden},
			{ann, labapi.JobSpec{Priority: 100}, http.StatusCreated},
			{s.admin, labapi.JobSpec{Owner: "bob", Priority: 1000}, http.StatusCreated},
			{s.admin, labapi.JobSpec{Owner: "nobody"}, http.StatusUnprocessableEntity},
		} {
			c.spec.Name, c.spec.Labels = "a", []string{"board:eve"}
			require.Equal(t, c.want, s.call(t, c.token, http.MethodPost, "/jobs", c.spec, nil), c.spec)
		}
	})
}

// post sends a text with headers.
func (s *server) post(t *testing.T, token, path, kind, key, text string, out any) int {
	t.Helper()
	return s.send(t, http.MethodPost, path, map[string]string{"Authorization": "Bearer " + token, "Content-Type": kind, "Idempotency-Key": key}, strings.NewReader(text), out)
}

func TestIdempotencyKey(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, ann, bob := newLabServer(t, db)
		const spec = "name: a\nlabels: [board:eve]\n"
		var first, second labapi.Submitted
		require.Equal(t, http.StatusCreated, s.post(t, ann, "/jobs", "application/yaml", `"k1"`, spec, &first))
		require.Equal(t, http.StatusCreated, s.post(t, ann, "/jobs", "application/json", `k1`, `{"name":"a","labels":["board:eve"]}`, &second))
		require.Equal(t, first, second)
		require.Equal(t, http.StatusCreated, s.post(t, ann, "/jobs", "application/yaml", `K1`, spec, &second), "capitals count")
		require.NotEqual(t, first.ID, second.ID)
		require.Equal(t, http.StatusCreated, s.post(t, bob, "/jobs", "application/yaml", `k1`, spec, &second), "keys are everybody's own")
		require.NotEqual(t, first.ID, second.ID)
		var p problem
		require.Equal(t, http.StatusUnprocessableEntity, s.post(t, ann, "/jobs", "application/yaml", `k1`, "name: b\nlabels: [board:eve]\n", &p))
		require.Equal(t, "/problems/idempotency-key-reused", p.Type)
		for _, key := range []string{`"`, `"a`, `""`, "é", strings.Repeat("k", 191)} {
			require.Equal(t, http.StatusBadRequest, s.post(t, ann, "/jobs", "application/yaml", key, spec, &p), key)
			require.Equal(t, "/problems/idempotency-key", p.Type)
		}
		// What was refused did not happen, so the same key may succeed later.
		require.Equal(t, http.StatusUnprocessableEntity, s.post(t, ann, "/jobs", "application/yaml", `k2`, "name: b\nlabels: [nowhere]\n", &p))
		storetest.Exec(t, db, "UPDATE hostsched_idempotency SET created = created - 86400001")
		require.Equal(t, http.StatusCreated, s.post(t, ann, "/jobs", "application/yaml", `k1`, "name: b\nlabels: [board:eve]\n", &second), "after a day a key is free again")
		require.NoError(t, s.lab.DropOldKeys(t.Context()))
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_idempotency"))

		before := storetest.Count(t, db, "SELECT COUNT(*) FROM afe_jobs")
		answers := make(chan int, 8)
		for range cap(answers) {
			go func() {
				req, err := http.NewRequest(http.MethodPost, s.URL+"/api/v1/jobs", strings.NewReader(spec))
				if err != nil {
					answers <- 0
					return
				}
				req.Header.Set("Authorization", "Bearer "+ann)
				req.Header.Set("Content-Type", "application/yaml")
				req.Header.Set("Idempotency-Key", "race")
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					answers <- 0
					return
				}
				_ = res.Body.Close()
				answers <- res.StatusCode
			}()
		}
		for range cap(answers) {
			require.Contains(t, []int{http.StatusCreated, http.StatusConflict}, <-answers)
		}
		require.Equal(t, before+1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_jobs"))
	})
}

// TestBadJobs: each gets one clear problem, and writes nothing.
func TestBadJobs(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, ann, _ := newLabServer(t, db)
		for _, c := range []struct {
			kind, text, name string
			status           int
		}{
			{"application/json", `{"name":"a","lables":["board:eve"]}`, "bad-input", 422},
			{"application/yaml", "name: a\nlabels: [\"board:eve\\a\"]\n", "bad-input", 422},
			{"application/json", "{\"name\":\"\xff\",\"labels\":[\"board:eve\"]}", "bad-input", 422},
			{"application/json", `{"name":"` + strings.Repeat("x", 256) + `","labels":["board:eve"]}`, "bad-input", 422},
			{"application/json", `{"name":"a","labels":["board:eve"],"count":0}`, "bad-input", 422},
			{"application/json", `{"name":"a","labels":["board:eve"],"count":-1}`, "bad-input", 422},
			{"application/json", `{"name":"a","labels":["board:eve"],"count":100000000000000000000}`, "bad-input", 422},
			{"application/json", `{"name":"a","labels":["board:eve"],"suite":99}`, "not-found", 404},
			{"text/html", `x`, "media-type", 415},
			{"application/json", ``, "", 0},
			{"application/json", strings.Repeat(" ", 33<<20), "too-large", 413},
		} {
			var p problem
			status := s.post(t, ann, "/jobs", c.kind, "", c.text, &p)
			if c.status != 0 {
				require.Equal(t, c.status, status, c.text[:min(len(c.text), 80)])
				require.Equal(t, "/problems/"+c.name, p.Type)
			}
			require.GreaterOrEqual(t, status, 400)
			require.NotContains(t, p.Detail, "\n")
		}
		var p problem
		for _, path := range []string{"/jobs?state=odd", "/jobs?limit=0", "/jobs?limit=1001", "/jobs?after=x", "/jobs?odd=1", "/jobs?label=%00", "/jobs?owner=%ff", "/jobs/0", "/jobs/-1", "/jobs/x", "/jobs/99999999999", "/suites?after=b0", "/events?after=x", "/events?after=-1", "/events?host=%07", "/events?limit=0"} {
			require.Contains(t, []int{400, 422}, s.call(t, ann, http.MethodGet, path, nil, &p), path)
			require.NotEmpty(t, p.Type, path)
		}
		require.Zero(t, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_jobs"))
	})
}

// TestLargeSuite: a suite of thousands of jobs is entered at once. The bound is for a machine
// that does other things, too; the benchmarks measure.
func TestLargeSuite(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, ann, _ := newLabServer(t, db)
		in := labapi.SuiteInput{Name: "large"}
		for i := range 5000 {
			in.Jobs = append(in.Jobs, labapi.JobSpec{Name: fmt.Sprint("j", i), Labels: []string{"board:eve", "pool:ci"}, Keyvals: map[string]string{"n": fmt.Sprint(i)}, Script: "true"})
		}
		var made labapi.Suite
		began := time.Now()
		require.Equal(t, http.StatusCreated, s.call(t, ann, http.MethodPost, "/suites", in, &made))
		took := time.Since(began)
		t.Log("5,000 jobs took", took)
		require.Less(t, took, 10*time.Second)
		require.Len(t, made.Jobs, 5000)
		require.Equal(t, 5000, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries q JOIN afe_jobs j ON j.id = q.job_id JOIN afe_job_keyvals k ON k.job_id = j.id WHERE j.parent_job_id = ? AND j.name = CONCAT('j', k.value)", made.ID))
		began = time.Now()
		require.Equal(t, http.StatusNoContent, s.call(t, ann, http.MethodPost, fmt.Sprint("/suites/", made.ID, "/abort"), nil, nil))
		t.Log("and to abort them", time.Since(began))
		require.Equal(t, 5000, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_host_queue_entries WHERE status = 'Aborted' AND aborted = 1"))
	})
}

// TestTextsThatTablesCannotHold: Autotest's tables may have a character set that lacks some.
func TestTextsThatTablesCannotHold(t *testing.T) {
	db := storetest.NewServerLab(t)
	s, ann, _ := newLabServer(t, db)
	storetest.Exec(t, db, "ALTER TABLE afe_jobs MODIFY control_file TEXT CHARACTER SET latin1, MODIFY owner VARCHAR(255) CHARACTER SET latin1, MODIFY name VARCHAR(255) CHARACTER SET latin1")
	storetest.Exec(t, db, "ALTER TABLE afe_labels MODIFY name VARCHAR(255) CHARACTER SET latin1")
	for _, spec := range []labapi.JobSpec{{Name: "a", Script: "echo ☃"}, {Name: "☃"}} {
		spec.Labels = []string{"board:eve"}
		var p problem
		require.Equal(t, http.StatusUnprocessableEntity, s.call(t, ann, http.MethodPost, "/jobs", spec, &p))
		require.Equal(t, "/problems/bad-input", p.Type)
		require.Contains(t, p.Detail, "cannot hold a text")
	}
	var p problem
	require.Equal(t, http.StatusUnprocessableEntity, s.call(t, ann, http.MethodPost, "/jobs", labapi.JobSpec{Name: "a", Labels: []string{"☃"}}, &p))
	require.Equal(t, "/problems/no-host-can-ever-run", p.Type)
	for _, query := range []string{"?owner=%E2%98%83", "?label=%E2%98%83"} {
		require.Contains(t, []int{http.StatusOK, http.StatusUnprocessableEntity}, s.call(t, ann, http.MethodGet, "/jobs"+query, nil, nil), query)
	}
	require.Zero(t, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_jobs"))
}

// TestSuitesAreTried: a dry run of a suite says what its jobs would get, with its minimum, and
// writes nothing.
func TestSuitesAreTried(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, ann, _ := newLabServer(t, db)
		rows := "SELECT (SELECT COUNT(*) FROM afe_jobs) + (SELECT COUNT(*) FROM hostsched_events) + (SELECT COUNT(*) FROM afe_labels) + (SELECT COUNT(*) FROM hostsched_idempotency)"
		before := storetest.Count(t, db, rows)
		in := labapi.SuiteInput{Name: "nightly", Minimum: 1, Jobs: []labapi.JobSpec{{Name: "a", Labels: []string{"pool:ci"}}, {Name: "b", Labels: []string{"pool:ci"}, Count: 2}, {Name: "c", Labels: []string{"no:where"}, AllowUnplaceable: true}}}
		var out labapi.Suite
		require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodPost, "/suites?dry_run=true", in, &out))
		require.Zero(t, out.ID)
		require.Contains(t, out.Explain.Text, "the next tick gives 2 hosts of 3")
		require.Contains(t, out.Explain.Text, "1 of its jobs can never run")
		require.Len(t, out.Explain.Entries, 4)
		require.Equal(t, "a", out.Explain.Entries[0].Job)
		require.Equal(t, "c", out.Explain.Entries[3].Job)
		require.Contains(t, out.Explain.Entries[3].Reasons[0].Reason, "can never run")
		var p problem
		in.Jobs[2].AllowUnplaceable = false
		require.Equal(t, http.StatusUnprocessableEntity, s.call(t, ann, http.MethodPost, "/suites?dry_run=true", in, &p))
		require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodPost, "/suites?dry_run=true", labapi.SuiteInput{Name: "empty"}, &out))
		require.Equal(t, http.StatusNotFound, s.call(t, ann, http.MethodPost, "/jobs?dry_run=true", labapi.JobSpec{Name: "a", Labels: []string{"pool:ci"}, Suite: 4711}, &p))
		require.Equal(t, before, storetest.Count(t, db, rows))
	})
}

// TestDryRunsHaveNoIDs: what is only tried is nowhere, so no answer, and no reason in it, has an
// id of it. Entries that are in the queue are named, beside those that are counted.
func TestDryRunsHaveNoIDs(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, ann, _ := newLabServer(t, db)
		try := func(path string, in any) (e labapi.Explanation) {
			var out map[string]json.RawMessage
			require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodPost, path+"?dry_run=true", in, &out))
			require.NotContains(t, out, "id")
			require.NotContains(t, out, "entries")
			require.NotRegexp(t, `[0-9]{6}`, string(out["explain"]))
			require.NoError(t, json.Unmarshal(out["explain"], &e))
			return e
		}
		onEve := labapi.JobSpec{Name: "a", Labels: []string{"board:eve"}, Count: 2}
		named := labapi.JobSpec{Name: "b", Hosts: []string{"h1"}}
		require.Contains(t, try("/suites", labapi.SuiteInput{Name: "nightly", Jobs: []labapi.JobSpec{onEve, onEve}}).Text, "2 given to other entries of this same submission in this tick; ")
		e := try("/suites", labapi.SuiteInput{Name: "nightly", Jobs: []labapi.JobSpec{named, named}})
		require.Contains(t, e.Text, "was given to another entry of this same submission in this tick")
		out := s.submit(t, ann, labapi.JobSpec{Name: "before", Labels: []string{"board:eve"}, Priority: 5})
		e = try("/suites", labapi.SuiteInput{Name: "nightly", Jobs: []labapi.JobSpec{onEve}})
		require.Contains(t, e.Text, fmt.Sprintf("1 given to other entries of this same submission in this tick, 1 given to others in this tick (entry %d)", out.Entries[0]))
		e = try("/jobs", onEve)
		require.Contains(t, e.Text, fmt.Sprintf("1 given to other entries of this same submission in this tick, 1 given to others in this tick (entry %d)", out.Entries[0]))
		require.Equal(t, []labapi.Reason{{Reason: "given to other entries of this same submission in this tick", Hosts: 1}, {Reason: "given to others in this tick", Hosts: 1, Entries: out.Entries[:1]}}, e.Entries[1].Reasons)
		e = try("/jobs", labapi.JobSpec{Name: "a", Labels: []string{"board:eve"}, Count: 2, Synch: 2})
		require.Contains(t, e.Text, fmt.Sprintf("entry %d", out.Entries[0]))
	})
}

// TestExplanationOfAJobKnowsItsEntries: what a job's own entries get is not said to go to others, as
// what goes to another job is.
func TestExplanationOfAJobKnowsItsEntries(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, ann, _ := newLabServer(t, db)
		explain := func(job int64) (e labapi.Explanation) {
			require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodGet, fmt.Sprint("/jobs/", job, "/explain"), nil, &e))
			return e
		}
		first := s.submit(t, ann, labapi.JobSpec{Name: "first", Labels: []string{"board:eve"}, Priority: 5})
		two := s.submit(t, ann, labapi.JobSpec{Name: "two", Labels: []string{"board:eve"}, Count: 2})
		require.Contains(t, explain(two.ID).Text, fmt.Sprintf("1 given to other entries of this job in this tick, 1 given to others in this tick (entry %d)", first.Entries[0]))
		require.Equal(t, []labapi.Reason{{Reason: "given to other entries of this job in this tick", Hosts: 1}, {Reason: "given to others in this tick", Hosts: 1, Entries: first.Entries[:1]}}, explain(two.ID).Entries[1].Reasons)
		last := s.submit(t, ann, labapi.JobSpec{Name: "last", Labels: []string{"board:eve"}})
		require.Contains(t, explain(last.ID).Text, fmt.Sprintf("2 given to others in this tick (entries %d, %d)", first.Entries[0], two.Entries[0]))
	})
}

// TestExplanationIsNotOlderThanTheQuestion: whoever changes something and asks at once hears what is so
// now, and not what was told before. A busy machine reads slowly at times, and then shares an answer.
func TestExplanationIsNotOlderThanTheQuestion(t *testing.T) {
	const inARow = 5
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, ann, _ := newLabServer(t, db)
		job := s.submit(t, ann, labapi.JobSpec{Name: "waits", Labels: []string{"board:eve"}})
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			for range inARow {
				for locked, says := range map[int]string{1: "locked", 0: "the next tick gives 1 host"} {
					_, err := db.SQL().Exec("UPDATE afe_hosts SET locked = ?", locked)
					require.NoError(c, err)
					var e labapi.Explanation
					require.Equal(c, http.StatusOK, s.call(t, ann, http.MethodGet, fmt.Sprint("/jobs/", job.ID, "/explain"), nil, &e))
					require.Contains(c, e.Text, says)
				}
			}
		}, 30*time.Second, 10*time.Millisecond)
	})
}

// TestJobsBySelector: jobs are chosen by the labels that they depend on.
func TestJobsBySelector(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, ann, _ := newLabServer(t, db)
		one := s.submit(t, ann, labapi.JobSpec{Name: "a", Labels: []string{"board:eve"}})
		two := s.submit(t, ann, labapi.JobSpec{Name: "b", Labels: []string{"board:eve", "pool:ci"}})
		for text, want := range map[string][]int64{"board=eve": {two.ID, one.ID}, "board=eve,!pool": {one.ID}, "pool in (ci)": {two.ID}, "board!=eve": nil} {
			var got labapi.Page[labapi.Job]
			require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodGet, "/jobs?selector="+url.QueryEscape(text), nil, &got), text)
			var ids []int64
			for _, j := range got.Items {
				ids = append(ids, j.ID)
			}
			require.Equal(t, want, ids, text)
		}
		require.Equal(t, http.StatusUnprocessableEntity, s.call(t, ann, http.MethodGet, "/jobs?selector=,", nil, nil))
	})
}

// TestAbortBesideAutotest: what is asked for is what Autotest's own frontend asks for: a flag,
// and who it was. Autotest ends the entries; nothing else of them is written.
func TestAbortBesideAutotest(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, ann, _ := newLabServer(t, db)
		out := s.submit(t, ann, labapi.JobSpec{Name: "a", Labels: []string{"board:eve"}, Count: 4, AllowUnplaceable: true})
		// The lab's tables are not ours if no version of them is recorded.
		storetest.Exec(t, db, "DROP TABLE hostsched_lab_schema")
		for i, text := range []string{"status = 'Running', active = 1, host_id = 1", "status = 'Parsing', host_id = 2", "status = 'Completed', complete = 1, host_id = 3"} {
			storetest.Exec(t, db, "UPDATE afe_host_queue_entries SET "+text+" WHERE id = ?", out.Entries[i])
		}
		entries := func() (rows []string) {
			found, err := db.SQL().QueryContext(t.Context(), "SELECT q.id, q.status, q.active, q.complete, q.aborted, COALESCE(u.login, ''), a.aborted_on IS NOT NULL FROM afe_host_queue_entries q LEFT JOIN afe_aborted_host_queue_entries a ON a.queue_entry_id = q.id LEFT JOIN afe_users u ON u.id = a.aborted_by_id ORDER BY q.id")
			require.NoError(t, err)
			defer func() { require.NoError(t, found.Close()) }()
			for found.Next() {
				var id, active, complete, aborted, dated int
				var status, by string
				require.NoError(t, found.Scan(&id, &status, &active, &complete, &aborted, &by, &dated))
				rows = append(rows, fmt.Sprint(status, active, complete, aborted, by, dated))
			}
			require.NoError(t, found.Err())
			return rows
		}
		for range 2 { // asking again changes nothing
			require.Equal(t, http.StatusNoContent, s.call(t, ann, http.MethodPost, fmt.Sprint("/jobs/", out.ID, "/abort"), labapi.AbortInput{Reason: "wrong build"}, nil))
			require.Equal(t, []string{"Running1 0 1ann1", "Parsing0 0 1ann1", "Completed0 1 00", "Queued0 0 1ann1"}, entries())
		}
		require.Equal(t, 3, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_aborted_host_queue_entries"))
		require.Zero(t, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_special_tasks"))
	})
}
