package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// embeddedFailover is what a fail-over may take when the member of etcd dies with its
// replica: the others elect a leader of etcd first, with etcd's timings for networks.
const embeddedFailover = maxFailover + 3*time.Second

// member is a server with a member of etcd of its own.
type member struct {
	*server
	client, peer, folder string
	// tls are the flags of its certificate for the other members.
	tls []string
}

func freeURL(t *testing.T) string {
	t.Helper()
	port, err := testserver.FreePort()
	require.NoError(t, err)
	return "http://127.0.0.1:" + strconv.Itoa(port)
}

// newMember is a server that is not started yet.
func newMember(t *testing.T, in *installation, name string) *member {
	t.Helper()
	listen := strings.TrimPrefix(freeURL(t), "http://")
	m := &member{client: freeURL(t), peer: freeURL(t), folder: filepath.Join(t.TempDir(), "etcd")}
	m.server = &server{in: in, name: name, listen: listen, endpoint: m.client, dsn: in.dsn, program: os.Args[0]}
	in.replicas = append(in.replicas, m.server)
	t.Cleanup(func() { m.stop(t) })
	return m
}

// run starts a member of the cluster of all.
func (m *member) run(t *testing.T, all []*member, more ...string) {
	t.Helper()
	var cluster []string
	for _, other := range all {
		cluster = append(cluster, other.name+"="+other.peer)
	}
	m.args = append([]string{
		"--etcd-embedded", "--etcd-data-dir", m.folder, "--etcd-initial-cluster", strings.Join(cluster, ","),
		"--etcd-listen-client-urls", m.client,
	}, more...)
	m.start(t)
}

func newMembers(t *testing.T) (*installation, []*member) {
	t.Helper()
	dsn := testserver.Database(t)
	storetest.NewLab(t, dsn)
	in := &installation{dsn: dsn, logDir: t.TempDir()}
	t.Cleanup(func() {
		if t.Failed() {
			in.printLogs(t)
		}
	})
	var all []*member
	for i := range 3 {
		all = append(all, newMember(t, in, fmt.Sprintf("sched-%d", i+1)))
	}
	return in, all
}

// leaderOf waits until one of the members leads.
func leaderOf(t *testing.T, all []*member, within time.Duration) (leader *member) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, m := range all {
			if st, ok := m.status(); ok && st.State == replica.StateLeader && st.Ticks > 0 {
				leader = m
				return true
			}
		}
		return false
	}, within, 10*time.Millisecond, "somebody leads")
	return leader
}

// etcdMembers waits until the members of etcd are as they should be, and returns them. While
// there is a new one, etcd may be without a leader, who alone knows them.
func etcdMembers(t *testing.T, m *member, are func([]ops.EtcdMember) bool, msgAndArgs ...any) (members []ops.EtcdMember) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		var now []ops.EtcdMember
		text := prints(c, exitOK, "etcd", "list", "--etcd-endpoints", m.client, "--database-dsn", "sqlite:unused", "-o", "json")
		require.NoError(c, json.Unmarshal([]byte(text), &now))
		require.True(c, are(now), "%+v", now)
		members = now
	}, patience, 50*time.Millisecond, msgAndArgs...)
	return members
}

// votingMembers tells whether etcd has so many members, and all of them vote.
func votingMembers(n int) func([]ops.EtcdMember) bool {
	return func(all []ops.EtcdMember) bool {
		return len(all) == n && !slices.ContainsFunc(all, func(m ops.EtcdMember) bool { return !m.Started || !m.Voting })
	}
}

// TestServersAreTheirOwnEtcd: three servers need no other etcd. When one is killed the
// others lead, when it comes back it takes part again, and a lost one is replaced by a new
// one.
func TestServersAreTheirOwnEtcd(t *testing.T) {
	in, all := newMembers(t)
	for _, m := range all {
		m.run(t, all)
	}
	leader := leaderOf(t, all, patience)
	for _, m := range all {
		require.Eventually(t, m.ready, patience, 10*time.Millisecond, m.name)
	}

	leader.kill(t)
	rest := slices.DeleteFunc(slices.Clone(all), func(m *member) bool { return m == leader })
	killed := time.Now()
	leaderOf(t, rest, embeddedFailover)
	t.Logf("fail-over after %v", time.Since(killed).Round(time.Millisecond))
	leader.start(t)
	require.Eventually(t, leader.ready, patience, 10*time.Millisecond, "it takes part again")

	// Its disk is lost: it is removed, and another one is added.
	leader.kill(t)
	code, _, errs := runCommand(t, "etcd", "remove", leader.name, "--etcd-endpoints", rest[0].client, "--database-dsn", in.dsn, "--cluster", testCluster, "--reason", "disk lost", "--yes")
	require.Equal(t, exitOK, code, errs)
	fresh := newMember(t, in, "sched-4")
	code, out, errs := runCommand(t, "etcd", "add", fresh.name, fresh.peer, "--etcd-endpoints", rest[0].client, "--database-dsn", in.dsn, "--cluster", testCluster, "--yes")
	require.Equal(t, exitOK, code, errs)
	require.Contains(t, out, fresh.name+"="+fresh.peer)
	require.Contains(t, out, "initial_cluster_state: existing")
	code, out, errs = runCommand(t, "audit", "--database-dsn", in.dsn)
	require.Equal(t, exitOK, code, errs)
	require.Regexp(t, "etcd remove +"+leader.name+" +"+leader.peer+" disk lost", out)
	require.Regexp(t, "etcd add +"+fresh.name+" +"+fresh.peer, out)
	fresh.run(t, append(rest, fresh), "--etcd-initial-cluster-state", "existing")
	require.Eventually(t, fresh.ready, patience, 10*time.Millisecond, "the new one takes part")
	etcdMembers(t, fresh, votingMembers(3), "all members vote")
}

// TestMembersOfEtcdThatDoNotAnswer: whoever asks one server hears which others are lost, and how many
// more may be, also when etcd decides nothing any more.
func TestMembersOfEtcdThatDoNotAnswer(t *testing.T) {
	in, all := newMembers(t)
	for _, m := range all {
		m.run(t, all)
	}
	leaderOf(t, all, patience)
	for _, m := range all {
		require.Eventually(t, m.ready, patience, 10*time.Millisecond, m.name)
	}
	t.Setenv("HOSTSCHED_DATABASE_DSN", in.dsn)
	asked := all[2]
	doctor := slices.Concat([]string{"doctor", "--server", asked.name, "--listen", asked.listen, "--cluster", testCluster}, asked.args)
	says := func(code int, right func(assert.TestingT, map[string]ops.CheckResult)) {
		t.Helper()
		require.EventuallyWithT(t, func(c *assert.CollectT) { right(c, checks(c, code, doctor...)) }, patience, 50*time.Millisecond)
	}
	says(exitOK, func(c assert.TestingT, r map[string]ops.CheckResult) {
		assert.Equal(c, ops.CheckResult{Check: "etcd members", Result: ops.CheckOK, Detail: "3 of 3 voting members answer, and 2 must: one more may be lost"}, r["etcd members"])
	})

	all[0].kill(t)
	says(exitFailed, func(c assert.TestingT, r map[string]ops.CheckResult) {
		assert.Equal(c, ops.CheckFailed, r["etcd member "+all[0].name].Result)
		assert.Contains(c, r["etcd member "+all[0].name].Detail, "it does not answer: ")
		assert.Equal(c, ops.CheckOK, r["etcd member "+all[1].name].Result)
		assert.Equal(c, ops.CheckResult{Check: "etcd members", Result: ops.CheckWarning, Detail: "2 of 3 voting members answer, and 2 must: one more loss ends the lab, because nobody leads any more"}, r["etcd members"])
	})
	r := checks(t, exitOK, "config", "check", "--listen", "127.0.0.1:0", "--cluster", testCluster, "--etcd-endpoints", asked.client)
	require.Equal(t, ops.CheckWarning, r["etcd member "+all[0].name].Result, "an etcd of somebody else: perhaps it is not meant for us")
	require.Equal(t, ops.CheckWarning, r["etcd members"].Result)
	require.Contains(t, r["etcd members"].Detail, "etcdctl endpoint status")
	list := []string{"etcd", "list", "--etcd-endpoints", asked.client, "--database-dsn", "sqlite:unused"}
	require.Regexp(t, all[0].name+` .* yes +yes +no +\S`, prints(t, exitOK, list...))

	all[1].signal(t, syscall.SIGSTOP) // it takes connections, and says nothing
	says(exitFailed, func(c assert.TestingT, r map[string]ops.CheckResult) {
		assert.Equal(c, ops.CheckFailed, r["etcd member "+all[1].name].Result)
		assert.Equal(c, ops.CheckResult{Check: "etcd members", Result: ops.CheckFailed, Detail: "1 of 3 voting members answer, and 2 must: etcd decides nothing and nobody leads; start those that do not answer"}, r["etcd members"])
		assert.Contains(c, r["etcd rights"].Detail, "not checked, because etcd does not answer: ", "it is no matter of rights")
		assert.Contains(c, r["etcd rights"].Detail, "it is not healthy: ")
	})
	require.Contains(t, prints(t, exitFailed, list...), "etcd decides nothing")
	_, _, errs := runCommand(t, "etcd", "remove", all[0].name, "--etcd-endpoints", asked.client, "--database-dsn", in.dsn, "--cluster", testCluster, "--yes")
	require.Contains(t, errs, "it is not healthy: ", "why etcd did not answer in time")
	all[1].signal(t, syscall.SIGCONT)
}

// TestMembersTalkOverTLS: members of etcd talk to each other by their certificates, and to
// nobody else; when one is lost the others lead.
func TestMembersTalkOverTLS(t *testing.T) {
	_, all := newMembers(t)
	ca, stranger := testserver.NewAuthority(t, "lab"), testserver.NewAuthority(t, "elsewhere")
	for _, m := range all {
		cert, key := filepath.Join(t.TempDir(), "peer.crt"), filepath.Join(t.TempDir(), "peer.key")
		ca.IssueNow(t, cert, key, m.name, time.Hour)
		m.peer = strings.Replace(m.peer, "http:", "https:", 1)
		m.tls = []string{"--etcd-peer-cert-file", cert, "--etcd-peer-key-file", key, "--etcd-peer-trusted-ca-file", ca.File}
	}
	for _, m := range all {
		m.run(t, all, m.tls...)
	}
	leader := leaderOf(t, all, patience)
	for _, m := range all {
		require.Eventually(t, m.ready, patience, 10*time.Millisecond, m.name)
	}
	for _, member := range etcdMembers(t, leader, votingMembers(3)) {
		require.True(t, strings.HasPrefix(member.PeerURLs[0], "https:"), member.PeerURLs)
	}

	answers := func(authority *testserver.Authority) error {
		config := &tls.Config{RootCAs: ca.Pool(t)}
		if authority != nil {
			cert, key := filepath.Join(t.TempDir(), "c.crt"), filepath.Join(t.TempDir(), "c.key")
			authority.IssueNow(t, cert, key, "somebody", time.Hour)
			pair, err := tls.LoadX509KeyPair(cert, key)
			require.NoError(t, err)
			config.Certificates = []tls.Certificate{pair}
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: patience}
		res, err := client.Get(leader.peer + "/version")
		if err != nil {
			return err
		}
		return res.Body.Close()
	}
	require.NoError(t, answers(ca))
	require.Error(t, answers(nil), "without a certificate")
	require.Error(t, answers(stranger), "with one of another authority")

	leader.kill(t)
	leaderOf(t, slices.DeleteFunc(slices.Clone(all), func(m *member) bool { return m == leader }), embeddedFailover)
}

// TestGrowing: a standalone lab becomes one of three servers on a database server, as
// docs/growing.md says. The etcd cluster stays the same, so the fence needs no adoption, and
// the token of the administrator stays valid.
func TestGrowing(t *testing.T) {
	alone := newStandalone(t)
	alone.start(t, "--server", "sched-1")
	alone.leads(t)
	token := alone.adminToken(t)
	code, _, errs := runCommand(t, "migrate", "copy", "--from", "sqlite:"+filepath.Join(alone.dir, "lab.db"), "--to", "sqlite:"+filepath.Join(t.TempDir(), "copy.db"))
	require.Equal(t, exitInput, code)
	require.Contains(t, errs, "another process uses "+alone.dir)
	alone.end(t, syscall.SIGKILL)
	addMovedLog(t, "sqlite:"+filepath.Join(alone.dir, "lab.db"))

	dsn := testserver.Database(t)
	target, err := mysql.ParseDSN(strings.TrimPrefix(dsn, "mysql:"))
	require.NoError(t, err)
	t.Setenv("HOSTSCHED_DATABASE_PASSWORD", target.Passwd)
	target.Passwd = ""
	code, out, errs := runCommand(t, "migrate", "copy", "--from", "sqlite:"+filepath.Join(alone.dir, "lab.db"), "--to", target.FormatDSN())
	require.Equal(t, exitOK, code, errs)
	require.Contains(t, out, "both have the same numbers of rows")
	require.Contains(t, out, "lie outside of the database, and were not copied: 1\ncopy "+filepath.Join(alone.dir, "blobs"))
	require.Contains(t, out, "the setting runs.blobs")

	in := &installation{dsn: dsn, logDir: t.TempDir()}
	t.Cleanup(func() {
		if t.Failed() {
			in.printLogs(t)
		}
	})
	first := newMember(t, in, "sched-1")
	first.folder = filepath.Join(alone.dir, "etcd")
	all := []*member{first}
	first.run(t, all, "--cluster", "default")
	leaderOf(t, all, patience)
	etcdMembers(t, first, func(all []ops.EtcdMember) bool { return slices.Equal(all[0].PeerURLs, []string{first.peer}) }, "its peer address is the new one")
	for _, name := range []string{"sched-2", "sched-3"} {
		m := newMember(t, in, name)
		code, _, errs := runCommand(t, "etcd", "add", name, m.peer, "--etcd-endpoints", first.client, "--database-dsn", target.FormatDSN(), "--yes")
		require.Equal(t, exitOK, code, errs)
		all = append(all, m)
		m.run(t, all, "--etcd-initial-cluster-state", "existing", "--cluster", "default")
		require.Eventually(t, m.ready, patience, 10*time.Millisecond, name)
		etcdMembers(t, first, votingMembers(len(all)), "all vote")
	}

	first.kill(t)
	next := leaderOf(t, all[1:], embeddedFailover)
	alone.listen = next.listen
	require.Equal(t, "admin", alone.whoami(t, token).Role, "the token of the standalone lab is valid")
}

// addMovedLog enters a log of which the database has only the place.
func addMovedLog(t *testing.T, dsn string) {
	t.Helper()
	db, err := store.Open(t.Context(), sqldb.Config{DSN: dsn})
	require.NoError(t, err)
	storetest.Exec(t, db, "INSERT INTO hostsched_runs (id, claim_key, kind, state, token_hash, lease_ms, lease_until, claimed, closed) VALUES (77, 'k', 'job', 'done', 't', 1, 1, 1, 1)")
	storetest.Exec(t, db, "INSERT INTO hostsched_logs (run_id, stream, size, place) VALUES (77, 'output', 5, 'runs/77/output')")
	require.NoError(t, db.Close())
}
