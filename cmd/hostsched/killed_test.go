package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/store"
)

// mortal is a server with an API that is killed.
type mortal struct {
	socket               string
	start, leads, killed func()
}

// deeds are the requests that were begun in one life of a server, by their keys.
type deeds struct {
	life    int
	jobs    []string
	answers map[string]int64
}

const (
	killedLives = 2
	killedSuite = 5000
	killedHosts = 1500
)

// TestKilledInTheMiddleOfRequests: whenever the server dies, each request is done whole or not at
// all, and the same request is done once, however often it is sent.
func TestKilledInTheMiddleOfRequests(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		s := newStandalone(t)
		m := &mortal{socket: filepath.Join(s.dir, "hostsched.sock"), start: func() { s.start(t) }, leads: func() { s.leads(t) }, killed: func() { s.end(t, syscall.SIGKILL) }}
		m.start()
		m.leads()
		m.live(t, storetest.Open(t, "sqlite:"+filepath.Join(s.dir, "lab.db")))
	})
	t.Run("server", func(t *testing.T) {
		dsn := testserver.Database(t)
		db := storetest.NewLab(t, dsn)
		socket := filepath.Join(shortDir(t), "api.sock")
		s := newReplica(t, dsn, "--api-socket", socket)
		m := &mortal{socket: socket, start: func() { s.start(t) }, leads: func() { s.leadsWithin(t, patience) }, killed: func() { s.kill(t) }}
		m.start()
		m.leads()
		m.live(t, db)
	})
}

// live lets a server that runs live several lives.
func (m *mortal) live(t *testing.T, db *store.DB) {
	const seed = 14
	random := rand.New(rand.NewPCG(seed, seed))
	m.ask(t, http.MethodPost, "/users", "", labapi.UserInput{Login: "ann"}, nil)
	m.ask(t, http.MethodPost, "/hosts", "", labapi.HostInput{Hostname: "h1", Labels: []string{"board:eve"}}, nil)
	for life := range killedLives {
		moment := time.Duration(100+random.IntN(400)) * time.Millisecond
		done := m.work(t, life, moment)
		m.start()
		m.leads()
		requireWhole(t, db)
		t.Logf("killed after %v: %d jobs were asked for, %d suites and %d hosts are there", moment, len(done.jobs),
			storetest.Count(t, db, "SELECT COUNT(*) FROM afe_jobs WHERE name LIKE 'suite-%'"), storetest.Count(t, db, "SELECT COUNT(*) FROM afe_hosts"))
		m.again(t, db, done)
		requireWhole(t, db)
	}
}

// work sends requests of all kinds at once until the server is killed.
func (m *mortal) work(t *testing.T, life int, moment time.Duration) *deeds {
	done := &deeds{life: life, answers: map[string]int64{}}
	var working sync.WaitGroup
	working.Go(func() {
		for i := 0; ; i++ {
			key := fmt.Sprintf("job-%d-%d", life, i)
			done.jobs = append(done.jobs, key)
			var out labapi.Submitted
			if m.send(t.Context(), http.MethodPost, "/jobs", key, jobNamed(key), &out) != nil {
				return
			}
			done.answers[key] = out.ID
		}
	})
	working.Go(func() { _ = m.send(t.Context(), http.MethodPost, "/suites", suiteKey(life), suiteOf(life), nil) })
	working.Go(func() { _ = m.send(t.Context(), http.MethodPut, "/hosts", "", rackOf(life), nil) })
	working.Go(func() {
		for m.send(t.Context(), http.MethodPut, "/hosts/h1/lock", "", labapi.LockInput{Reason: "dust"}, nil) == nil &&
			m.send(t.Context(), http.MethodDelete, "/hosts/h1/lock", "", nil, nil) == nil {
			continue
		}
	})
	time.Sleep(moment) // the moment is what the test is about
	m.killed()
	working.Wait()
	return done
}

// again sends all requests once more, as their clients do who got no answer.
func (m *mortal) again(t *testing.T, db *store.DB, done *deeds) {
	for _, key := range done.jobs[max(0, len(done.jobs)-20):] {
		var out labapi.Submitted
		m.ask(t, http.MethodPost, "/jobs", key, jobNamed(key), &out)
		if id, known := done.answers[key]; known {
			require.Equal(t, id, out.ID, key)
		}
	}
	require.Equal(t, len(done.jobs), storetest.Count(t, db, "SELECT COUNT(*) FROM afe_jobs WHERE name LIKE ?", fmt.Sprintf("job-%d-%%", done.life)))
	var suite labapi.Suite
	m.ask(t, http.MethodPost, "/suites", suiteKey(done.life), suiteOf(done.life), &suite)
	require.Len(t, suite.Jobs, killedSuite)
	require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_jobs WHERE name = ?", suiteKey(done.life)))
	var d labapi.HostsDifference
	m.ask(t, http.MethodPut, "/hosts", "", rackOf(done.life), &d)
	require.Equal(t, killedHosts, len(d.Added)+d.Unchanged, "%+v", d.Refused)
	require.Empty(t, d.Changed, "no host is half there")
	m.ask(t, http.MethodDelete, "/hosts/h1/lock", "", nil, nil)
}

// requireWhole looks for what is half there.
func requireWhole(t *testing.T, db *store.DB) {
	t.Helper()
	const isSuite = "EXISTS (SELECT 1 FROM afe_job_keyvals k WHERE k.job_id = j.id AND k.`key` = 'suite_min_duts')"
	for what, query := range map[string]string{
		"jobs without entries":                   "afe_jobs j WHERE NOT " + isSuite + " AND NOT EXISTS (SELECT 1 FROM afe_host_queue_entries q WHERE q.job_id = j.id)",
		"jobs without spec":                      "afe_jobs j WHERE NOT " + isSuite + " AND NOT EXISTS (SELECT 1 FROM hostsched_job_specs s WHERE s.job_id = j.id)",
		"jobs without labels":                    "afe_jobs j WHERE NOT " + isSuite + " AND NOT EXISTS (SELECT 1 FROM afe_jobs_dependency_labels d WHERE d.job_id = j.id)",
		"jobs without event":                     "afe_jobs j WHERE NOT EXISTS (SELECT 1 FROM hostsched_events e WHERE e.job_id = j.id AND e.kind IN ('job.submitted', 'suite.submitted'))",
		"events without jobs":                    "hostsched_events e WHERE e.job_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM afe_jobs j WHERE j.id = e.job_id)",
		"suites with some of the jobs":           "afe_jobs j WHERE " + isSuite + " AND (SELECT COUNT(*) FROM afe_jobs c WHERE c.parent_job_id = j.id) <> " + strconv.Itoa(killedSuite),
		"keys without answer":                    "hostsched_idempotency WHERE answer = ''",
		"hosts without ACL group":                "afe_hosts h WHERE NOT EXISTS (SELECT 1 FROM afe_acl_groups_hosts a WHERE a.host_id = h.id)",
		"hosts without labels":                   "afe_hosts h WHERE NOT EXISTS (SELECT 1 FROM afe_hosts_labels l WHERE l.host_id = h.id)",
		"hosts without event":                    "afe_hosts h WHERE NOT EXISTS (SELECT 1 FROM hostsched_events e WHERE e.host_id = h.id AND e.kind = 'host.added')",
		"locks that their history does not know": "afe_hosts h WHERE h.locked <> COALESCE((SELECT e.kind = 'host.locked' FROM hostsched_events e WHERE e.host_id = h.id AND e.kind IN ('host.locked', 'host.unlocked') ORDER BY e.id DESC LIMIT 1), 0)",
	} {
		require.Zero(t, storetest.Count(t, db, "SELECT COUNT(*) FROM "+query), what)
	}
}

func jobNamed(name string) labapi.JobSpec {
	return labapi.JobSpec{Name: name, Owner: "ann", Labels: []string{"board:eve"}, Script: "true"}
}

func suiteKey(life int) string { return fmt.Sprintf("suite-%d", life) }

func suiteOf(life int) labapi.SuiteInput {
	s := labapi.SuiteInput{Name: suiteKey(life), Owner: "ann", Minimum: 1}
	job := jobNamed("of a suite")
	job.Owner = ""
	s.Jobs = slices.Repeat([]labapi.JobSpec{job}, killedSuite)
	return s
}

func rackOf(life int) (in labapi.HostsInput) {
	for i := range killedHosts {
		in.Hosts = append(in.Hosts, labapi.HostInput{Hostname: fmt.Sprintf("rack%d-%d", life, i), Labels: []string{"board:kevin", "pool:ci"}, Attributes: map[string]string{"rack": strconv.Itoa(life)}})
	}
	return in
}

// ask sends a request that must be answered well.
func (m *mortal) ask(t *testing.T, method, path, key string, in, out any) {
	t.Helper()
	require.NoError(t, m.send(t.Context(), method, path, key, in, out), "%s %s", method, path)
}

// send sends a request as the local administrator.
func (m *mortal) send(ctx context.Context, method, path, key string, in, out any) error {
	text, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://lab/api/v1"+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", m.socket)
	}}}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // it was read
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode >= http.StatusMultipleChoices {
		err = fmt.Errorf("%s: %s", res.Status, body)
	}
	if err == nil && out != nil {
		err = json.Unmarshal(body, out)
	}
	return err
}
