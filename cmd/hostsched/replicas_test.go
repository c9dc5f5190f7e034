package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/certs"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/internal/web"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// testTTL is the lease TTL of the replicas under test.
const testTTL = 2 * time.Second

// maxFailover is what a takeover after a crash may take.
const maxFailover = testTTL + 1500*time.Millisecond

const patience = 30 * time.Second

// testCluster is the name of every installation in its etcd.
const testCluster = "failover"

// installation is a lab on a database server, an etcd, and replicas as processes.
type installation struct {
	dsn      string
	endpoint string
	db       *store.DB
	etcd     *clientv3.Client
	history  *simlab.History
	lab      *simlab.Lab
	replicas []*server
	logDir   string
	// args are for every replica.
	args []string
	// prepareServer, if set, changes each replica before it starts first.
	prepareServer func(*server)
	// links puts links that can be cut between each replica and etcd, the database, and
	// the other replicas.
	links bool
}

// before prepares a lab before its replicas start.
type before func(*testing.T, *installation)

// newInstallation starts everything but the simulator. A lab without hosts is empty. There is no guard index:
// what keeps the leaders apart is the fence alone.
func newInstallation(t *testing.T, spec simlab.Spec, replicas int, prepare ...before) *installation {
	t.Helper()
	return newInstallationOn(t, testserver.Database(t), spec, replicas, prepare...)
}

// newInstallationOn is newInstallation on an empty database.
func newInstallationOn(t *testing.T, dsn string, spec simlab.Spec, replicas int, prepare ...before) *installation {
	t.Helper()
	ctx := t.Context()
	in := &installation{dsn: dsn, endpoint: testserver.Etcd(t).Endpoint, logDir: t.TempDir()}
	db, err := store.Open(ctx, sqldb.Config{DSN: in.dsn})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	in.db = db
	in.etcd, err = election.NewClient(clientv3.Config{Endpoints: []string{in.endpoint}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, in.etcd.Close()) })
	_, err = schema.Up(ctx, db.DB, schema.Options{})
	require.NoError(t, err)
	_, err = db.SQL().Exec("ALTER TABLE afe_host_queue_entries DROP KEY hostsched_one_active_entry_per_host")
	require.NoError(t, err)
	if spec.Hosts > 0 {
		in.lab, err = simlab.Create(ctx, db.SQL(), spec)
		require.NoError(t, err)
	}
	in.history, err = simlab.InstallHistory(ctx, db.SQL(), false)
	require.NoError(t, err)
	for _, p := range prepare {
		p(t, in)
	}
	// The logs come last, also if a replica does not end as it should.
	t.Cleanup(func() {
		if t.Failed() {
			in.printLogs(t)
		}
	})
	t.Cleanup(func() {
		for _, s := range in.replicas {
			s.stop(t)
		}
	})
	for i := range replicas {
		port, err := testserver.FreePort()
		require.NoError(t, err)
		s := &server{in: in, name: fmt.Sprintf("replica-%d", i+1), listen: "127.0.0.1:" + strconv.Itoa(port), endpoint: in.endpoint, dsn: in.dsn, program: os.Args[0]}
		if in.links {
			s.link = testserver.NewLink(t, strings.TrimPrefix(in.endpoint, "http://"))
			s.endpoint = "http://" + s.link.Addr
			s.peerLink = testserver.NewLink(t, s.listen)
			s.dbLink, s.dsn = testserver.LinkDatabase(t, in.dsn)
		}
		if in.prepareServer != nil {
			in.prepareServer(s)
		}
		in.replicas = append(in.replicas, s)
		s.start(t)
	}
	return in
}

func (in *installation) printLogs(t *testing.T) {
	for _, s := range in.replicas {
		log, err := os.ReadFile(filepath.Join(in.logDir, s.name))
		if err == nil {
			t.Logf("last lines of %s:\n%s", s.name, log[max(0, len(log)-4000):])
		}
	}
}

// simulate runs the simulator until the returned function is called.
func (in *installation) simulate(t *testing.T, cfg simlab.Simulation) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- simlab.NewSimulator(in.db.SQL(), in.lab, cfg).Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(t, <-ended)
		}
	}
	t.Cleanup(stop)
	return stop
}

// server is one replica process.
type server struct {
	in           *installation
	name, listen string
	// endpoint is etcd as this replica reaches it, over link if there is one.
	endpoint string
	link     *testserver.Link
	// dsn is the database as this replica reaches it, over dbLink if there is one.
	dsn    string
	dbLink *testserver.Link
	// peerLink, if there is one, is how the other replicas reach this one.
	peerLink *testserver.Link
	// keeper has the certificates of a replica that answers over TLS.
	keeper *certs.Keeper
	files  certs.Files
	// args and env are for this replica alone.
	args    []string
	env     []string
	program string
	cmd     *exec.Cmd
}

func (s *server) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(s.in.logDir, s.name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	require.NoError(t, err)
	// The DSN has a password field, so it goes by the environment.
	args := append([]string{"serve", "--server", s.name, "--listen", s.listen, "--cluster", testCluster,
		"--etcd-endpoints", s.endpoint, "--etcd-ttl", testTTL.String(), "--tick-min", "5ms", "--runner", "autotest"}, s.in.args...)
	args = append(args, s.args...)
	if !slices.Contains(args, "--config") { // a configuration file may set the level itself
		args = append(args, "--log-level", "debug")
	}
	if s.peerLink != nil {
		args = append(args, "--advertise", s.peerLink.Addr)
	}
	s.cmd = exec.Command(s.program, args...)
	s.cmd.Env = slices.Concat(os.Environ(), []string{asProgram + "=1", "HOSTSCHED_DATABASE_DSN=" + s.dsn}, s.env)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	require.NoError(t, s.cmd.Start())
	require.NoError(t, log.Close())
}

func (s *server) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	require.NoError(t, s.cmd.Process.Signal(sig))
}

// kill sends SIGKILL and waits for the end.
func (s *server) kill(t *testing.T) {
	t.Helper()
	s.signal(t, syscall.SIGKILL)
	s.wait(t)
}

func (s *server) wait(t *testing.T) {
	t.Helper()
	var exit *exec.ExitError
	if err := s.cmd.Wait(); !errors.As(err, &exit) {
		require.NoError(t, err)
	}
}

// stop ends the process in an orderly way, whatever state it is in.
func (s *server) stop(t *testing.T) {
	if s.cmd == nil || s.cmd.ProcessState != nil {
		return
	}
	s.signal(t, syscall.SIGCONT)
	s.signal(t, syscall.SIGTERM)
	s.wait(t)
	// A process that has only just been started may not listen to signals yet.
	early := s.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGTERM
	require.True(t, early || s.cmd.ProcessState.Success(), "%s ends with %v", s.name, s.cmd.ProcessState)
}

// get asks a replica once; ok is false if it does not answer within a second, which one that is
// alive may fail to do on a busy machine.
func (s *server) get(path string) (code int, body string, ok bool) {
	client := &http.Client{Timeout: time.Second, Transport: s.keeper.Transport()}
	res, err := client.Get(s.keeper.Scheme() + "://" + s.listen + path)
	if err != nil {
		return 0, "", false
	}
	var b bytes.Buffer
	_, err = b.ReadFrom(res.Body)
	return res.StatusCode, b.String(), err == nil && res.Body.Close() == nil
}

// answers waits until a replica answers a path with this code, and returns what it says. Only
// for what stays so, because what a replica says of itself follows an event a moment later.
func (s *server) answers(t *testing.T, path string, want int, msgAndArgs ...any) string {
	t.Helper()
	var body string
	require.Eventually(t, func() bool {
		var code int
		var ok bool
		code, body, ok = s.get(path)
		return ok && code == want
	}, patience, 20*time.Millisecond, msgAndArgs...)
	return body
}

// page asks a replica once what it says of itself.
func (s *server) page() (page web.ServerStatus, ok bool) {
	code, body, ok := s.get("/v1/status")
	ok = ok && code == http.StatusOK && json.Unmarshal([]byte(body), &page) == nil
	return page, ok
}

// shows waits until a replica says of itself what is right.
func (s *server) shows(t *testing.T, right func(web.ServerStatus) bool, msgAndArgs ...any) {
	t.Helper()
	require.Eventually(t, func() bool {
		page, ok := s.page()
		return ok && right(page)
	}, patience, 20*time.Millisecond, msgAndArgs...)
}

// status asks a replica once for the only shard that it serves.
func (s *server) status() (replica.Status, bool) {
	page, ok := s.page()
	if !ok || len(page.Shards) != 1 {
		return replica.Status{}, false
	}
	return page.Shards[0], true
}

// mustStatus is the status of a replica that is alive, as soon as it says it.
func (s *server) mustStatus(t *testing.T) (st replica.Status) {
	t.Helper()
	require.Eventually(t, func() (ok bool) {
		st, ok = s.status()
		return ok
	}, patience, 20*time.Millisecond, "%s tells its status", s.name)
	return st
}

// ofMaster is the name of a metric with the label of the master shard.
func ofMaster(name string) string { return name + `{shard="master"}` }

// metric reads a metric of the master shard.
func (s *server) metric(t *testing.T, name string) float64 {
	t.Helper()
	return s.counter(t, ofMaster(name))
}

// counter is a metric by its name and labels, as soon as a replica that is alive says it.
func (s *server) counter(t *testing.T, name string) (value float64) {
	t.Helper()
	require.Eventually(t, func() (ok bool) {
		value, ok = s.readCounter(name)
		return ok
	}, patience, 20*time.Millisecond, "%s tells its metric %s", s.name, name)
	return value
}

// counts waits until a metric has a value.
func (s *server) counts(t *testing.T, name string, want float64) {
	t.Helper()
	require.Eventually(t, func() bool {
		value, ok := s.readCounter(name)
		return ok && value == want
	}, patience, 20*time.Millisecond, "%s has %v as %s", s.name, want, name)
}

// readCounter asks a replica once for a metric by its name and labels.
func (s *server) readCounter(name string) (value float64, ok bool) {
	_, body, ok := s.get("/metrics")
	if !ok {
		return 0, false
	}
	for line := range strings.Lines(body) {
		if text, found := strings.CutPrefix(line, name+" "); found {
			value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			return value, err == nil
		}
	}
	return 0, false
}

// leaderIn finds the leader at a moment when it is in one of the phases.
func (in *installation) leaderIn(t *testing.T, phases ...replica.Phase) (*server, replica.Status) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if s, st := in.leaderNow(phases...); s != nil {
			return s, st
		}
	}
	t.Fatalf("nobody leads in phase %v", phases)
	return nil, replica.Status{}
}

// leaderNow asks each replica once whether it leads and is in one of the phases. The server
// is nil if none says so.
func (in *installation) leaderNow(phases ...replica.Phase) (*server, replica.Status) {
	for _, s := range in.replicas {
		st, ok := s.status()
		if ok && st.State == replica.StateLeader && slices.Contains(phases, st.Phase) {
			return s, st
		}
	}
	return nil, replica.Status{}
}

// leaderWhen waits until the leader is as it should be.
func (in *installation) leaderWhen(t *testing.T, is func(*server, replica.Status) bool, msgAndArgs ...any) (leader *server, st replica.Status) {
	t.Helper()
	require.Eventually(t, func() bool {
		leader, st = in.leaderNow(anyPhase()...)
		return leader != nil && is(leader, st)
	}, patience, 5*time.Millisecond, msgAndArgs...)
	return leader, st
}

func anyPhase() []replica.Phase {
	return []replica.Phase{replica.PhaseIdle, replica.PhaseSnapshot, replica.PhasePlan, replica.PhaseApply}
}

// takenOver waits until a later epoch has written an assignment and returns how
// long that took.
func (in *installation) takenOver(t *testing.T, epoch int64, from time.Time) time.Duration {
	t.Helper()
	var writes int64 = -1
	var fenced time.Duration
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		f, _, err := in.db.ReadFence(t.Context(), shard.Master)
		require.NoError(t, err)
		switch {
		case f.Epoch <= epoch:
		case writes < 0:
			writes, fenced = f.Writes, time.Since(from)
		case f.Writes > writes:
			t.Logf("%s: fence taken after %v, first write after %v", f.Holder, fenced.Round(time.Millisecond), time.Since(from).Round(time.Millisecond))
			return time.Since(from)
		}
	}
	t.Fatal("nobody took over")
	return 0
}

// followersReady waits until all replicas but the leader take part again.
func (in *installation) followersReady(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		// One that wakes up says that it is ready by what it knew before its sleep, until it
		// learns that its lease has expired. Only etcd knows whether it has another one.
		if !in.allAreMembers() {
			return false
		}
		return !slices.ContainsFunc(in.replicas, func(s *server) bool { return !s.ready() })
	}, patience, 5*time.Millisecond, "all replicas ready")
}

// ready asks a replica once whether it takes part.
func (s *server) ready() bool {
	code, _, ok := s.get("/readyz")
	return ok && code == http.StatusOK
}

// allAreMembers tells whether etcd has the keys of all replicas as members of the cluster.
func (in *installation) allAreMembers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	view, err := election.Look(ctx, in.etcd, testCluster)
	if err != nil {
		return false
	}
	return !slices.ContainsFunc(in.replicas, func(s *server) bool {
		return !slices.ContainsFunc(view.Servers, func(m election.Member) bool { return m.Server == s.name })
	})
}

func (in *installation) requireNothingTwice(t *testing.T) {
	t.Helper()
	twice, err := in.history.AssignedTwice(t.Context(), 0)
	require.NoError(t, err)
	require.Zero(t, twice, "double assignments")
	counts, err := in.history.Count(t.Context(), simlab.Counts{})
	require.NoError(t, err)
	require.Positive(t, counts.Assignments)
	t.Logf("%d assignments, %d releases, none twice", counts.Assignments, counts.Releases)
}
