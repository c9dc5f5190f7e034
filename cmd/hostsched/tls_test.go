package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/hostsched/hostsched/internal/certs"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/internal/web"
)

// secured makes all replicas of an installation answer over TLS, with certificates of an
// authority, and each with files of its own.
func secured(ca *testserver.Authority) before {
	return func(t *testing.T, in *installation) {
		in.prepareServer = func(s *server) {
			dir := t.TempDir()
			files := certs.Files{Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key"), CA: ca.File, RequireClient: true}
			ca.IssueNow(t, files.Cert, files.Key, s.name, time.Hour)
			keeper, err := certs.Open(files)
			require.NoError(t, err)
			s.keeper, s.files = keeper, files
			s.args = []string{"--tls-cert-file", files.Cert, "--tls-key-file", files.Key, "--tls-ca-file", files.CA, "--tls-require-client-cert"}
		}
	}
}

// TestReplicasOverTLS: the end of a replica is noticed at once over TLS, too, also by and of
// replicas whose certificates were replaced while they ran; and what is wrong with a
// certificate is said where people look.
func TestReplicasOverTLS(t *testing.T) {
	ca := testserver.NewAuthority(t, "lab")
	in := newInstallation(t, failoverLab, 3, withShards(3, 3), secured(ca), func(_ *testing.T, in *installation) { in.args = append(in.args, "--etcd-ttl", longTTL) })
	stopSimulator := in.simulate(t, busy)
	kill := func() time.Duration {
		victim, names, _, old := in.victim(t)
		victim.kill(t)
		took := in.allTakenOver(t, names, old, time.Now())
		t.Logf("kill -9 of a server that leads %d shards, over TLS: all taken over after %v", len(names), took.Round(time.Millisecond))
		// The cause tells the end of its connections from a silence, which takes hardly longer.
		for _, name := range names {
			in.requireCause(t, name, old[name].Epoch, "^crashed$")
		}
		victim.start(t)
		in.followersReady(t)
		return took
	}
	best := kill()

	for _, s := range in.replicas {
		ca.IssueNow(t, s.files.Cert, s.files.Key, "renewed", time.Hour)
		s.signal(t, syscall.SIGHUP)
		require.Eventually(t, func() bool { return strings.Contains(s.log(t), "CN=renewed") }, patience, 10*time.Millisecond, "the log names the new certificate")
		s.shows(t, func(page web.ServerStatus) bool {
			return page.Certificate != nil && page.Certificate.Subject == "CN=renewed"
		}, "the status names the new certificate")
	}
	best = min(best, kill())
	require.Less(t, best, 2*time.Second)

	stopSimulator()
	in.requireNothingTwice(t)
	in.requireExpiredCertificateIsSaid(t, ca)
}

// requireExpiredCertificateIsSaid lets the certificate of one replica expire, and renews it.
func (in *installation) requireExpiredCertificateIsSaid(t *testing.T, ca *testserver.Authority) {
	s, other := in.replicas[0], in.replicas[1]
	// A test that asks it must trust it now, and later.
	trusting := s.keeper
	until := time.Now().Add(-time.Minute).UTC()
	ca.Issue(t, s.files.Cert, s.files.Key, "expired", until.Add(-time.Hour), until)
	s.signal(t, syscall.SIGHUP)
	said := fmt.Sprintf("the certificate in %s expired at %s", s.files.Cert, until.Format(time.RFC3339))
	require.Eventually(t, func() bool { return strings.Contains(s.log(t), said) }, patience, 10*time.Millisecond, "the log says %q", said)

	s.stop(t)
	s.start(t)
	other.shows(t, func(page web.ServerStatus) bool {
		why := page.Unheard[s.name]
		return strings.Contains(why, "expired") && strings.Contains(why, "valid until "+until.Format(time.RFC3339))
	}, "the others say whose certificate expired, and when")
	other.counts(t, "hostsched_replicas_not_heard", 1)
	require.Eventually(t, func() bool { return strings.Contains(other.log(t), "the heartbeats of a replica are not heard") }, patience, 20*time.Millisecond)
	in.printedStatusSays(t, "does not hear the heartbeats of server "+s.name)

	ca.IssueNow(t, s.files.Cert, s.files.Key, "valid again", time.Hour)
	other.shows(t, func(page web.ServerStatus) bool { return len(page.Unheard) == 0 }, "heard again")
	s.keeper = trusting
	s.shows(t, func(page web.ServerStatus) bool { return page.Certificate != nil && page.Certificate.Fault == "" }, "its certificate is well")
	s.counts(t, "hostsched_certificate_fault", 0)
}

// printedStatusSays waits until the command, which has the certificate of a replica, prints
// this. It says so of a replica that answers it in time.
func (in *installation) printedStatusSays(t *testing.T, text string) {
	t.Helper()
	args := append([]string{"cluster", "status", "--cluster", testCluster, "--etcd-endpoints", in.endpoint}, in.replicas[1].args...)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		_, out := program(t, in.dsn, args...)
		require.Contains(c, out, text)
	}, patience, 20*time.Millisecond)
}

// TestOneReplicaWithoutTLS: while a cluster is given TLS, the end of a replica that has none
// yet is told by its lease, and everybody says so.
func TestOneReplicaWithoutTLS(t *testing.T) {
	in := newInstallation(t, failoverLab, 3, withShards(3, 3), secured(testserver.NewAuthority(t, "lab")))
	plain := in.replicas[2]
	plain.stop(t)
	plain.keeper, plain.args = nil, nil
	plain.start(t)
	stopSimulator := in.simulate(t, busy)
	for _, s := range in.replicas[:2] {
		s.shows(t, func(page web.ServerStatus) bool { return strings.Contains(page.Unheard[plain.name], "it has no TLS") }, s.name)
	}
	plain.shows(t, func(page web.ServerStatus) bool { return len(page.Unheard) == 2 }, plain.name)
	in.printedStatusSays(t, "does not hear the heartbeats of server "+plain.name)
	leaders, old := in.balanced(t)
	names := ledBy(leaders, plain)
	require.NotEmpty(t, names)
	plain.kill(t)
	took := in.allTakenOver(t, names, old, time.Now())
	t.Logf("kill -9 of the server without TLS: all taken over after %v", took.Round(time.Millisecond))
	require.LessOrEqual(t, took, maxFailover)
	in.requireCause(t, names[0], old[names[0]].Epoch, "^lease expired$")
	stopSimulator()
	in.requireNothingTwice(t)
}

// TestCertificatesThatCannotBeUsed are named when a replica starts.
func TestCertificatesThatCannotBeUsed(t *testing.T) {
	ca := testserver.NewAuthority(t, "lab")
	cert, key := filepath.Join(t.TempDir(), "tls.crt"), filepath.Join(t.TempDir(), "tls.key")
	ca.IssueNow(t, cert, key, "lab", time.Hour)
	missing := filepath.Join(t.TempDir(), "missing")
	require.NoError(t, os.WriteFile(missing+".pem", nil, 0o600))
	for text, args := range map[string][]string{
		"tls.cert_file and tls.key_file go together":  {"--tls-cert-file", cert},
		"tls.require_client_cert needs tls.cert_file": {"--tls-require-client-cert"},
		missing:          {"--tls-cert-file", missing, "--tls-key-file", key},
		missing + ".pem": {"--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-file", missing + ".pem"},
	} {
		code, out := program(t, "sqlite:"+filepath.Join(t.TempDir(), "lab.db"), append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)
		require.Equal(t, exitInput, code, out)
		require.Contains(t, out, text)
	}
}

// expired writes a certificate that expired a minute ago, and returns until when it was valid.
func expired(t *testing.T, ca *testserver.Authority, cert, key string) string {
	t.Helper()
	until := time.Now().Add(-time.Minute)
	ca.Issue(t, cert, key, "expired", until.Add(-time.Hour), until)
	return until.UTC().Format(time.RFC3339)
}

// TestExpiredClientCertificateOfEtcd is waited for: the log says which and until when it was
// valid, and a new file is enough.
func TestExpiredClientCertificateOfEtcd(t *testing.T) {
	ca, dir := testserver.NewAuthority(t, "lab"), t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	ca.IssueNow(t, file("etcd.crt"), file("etcd.key"), "etcd", time.Hour)
	etcd := testserver.EtcdWith(t, "https", func(cfg *embed.Config) {
		cfg.ClientTLSInfo = transport.TLSInfo{CertFile: file("etcd.crt"), KeyFile: file("etcd.key"), TrustedCAFile: ca.File, ClientCertAuth: true}
	})
	until := expired(t, ca, file("client.crt"), file("client.key"))
	dsn := storetest.SQLiteFile(t)
	storetest.NewLab(t, dsn)
	s := newReplica(t, dsn, "--etcd-cert-file", file("client.crt"), "--etcd-key-file", file("client.key"), "--etcd-ca-file", ca.File)
	s.endpoint = etcd.Endpoint
	s.start(t)
	require.Eventually(t, func() bool {
		log := s.log(t)
		return strings.Contains(log, "expired certificate") && strings.Contains(log, "client certificate "+file("client.crt")+" is valid until "+until)
	}, patience, 10*time.Millisecond, "the log names the certificate")
	ca.IssueNow(t, file("client.crt"), file("client.key"), "renewed", time.Hour)
	s.leadsWithin(t, patience)
}

// TestExpiredCertificateOfTheDatabase is waited for, too.
func TestExpiredCertificateOfTheDatabase(t *testing.T) {
	ca, dir := testserver.NewAuthority(t, "lab"), t.TempDir()
	cert, key := filepath.Join(dir, "db.crt"), filepath.Join(dir, "db.key")
	ca.IssueNow(t, cert, key, "database", time.Hour)
	server := asRoot{testserver.StartAnother(t, "--ssl-cert="+cert, "--ssl-key="+key, "--ssl-ca="+ca.File)}
	dsn, err := server.Create("lab")
	require.NoError(t, err)
	storetest.NewLab(t, dsn)
	reload := "FLUSH SSL"
	if server.Kind == testserver.MySQL {
		reload = "ALTER INSTANCE RELOAD TLS"
	}
	// MySQL takes no certificate that has expired already.
	until := time.Now().Add(3 * time.Second)
	ca.Issue(t, cert, key, "expiring", until.Add(-time.Hour), until)
	storetest.Exec(t, server, reload)
	require.Eventually(t, func() bool { return time.Now().After(until.Add(time.Second)) }, patience, 10*time.Millisecond)
	t.Setenv("SSL_CERT_FILE", ca.File)
	s := newReplica(t, dsn+"?tls=true")
	s.start(t)
	s.waits(t, "x509: certificate has expired")
	require.Contains(t, s.log(t), until.UTC().Format(time.RFC3339))
	ca.IssueNow(t, cert, key, "renewed", time.Hour)
	storetest.Exec(t, server, reload)
	s.leadsWithin(t, patience)
}

// TestDatabaseThatRequiresACertificate: a user of whom the server requires a certificate gets
// in with one, also after its files were replaced while connections broke, and not without.
func TestDatabaseThatRequiresACertificate(t *testing.T) {
	ca, dir := testserver.NewAuthority(t, "lab"), t.TempDir()
	cert, key := filepath.Join(dir, "db.crt"), filepath.Join(dir, "db.key")
	ca.IssueNow(t, cert, key, "database", time.Hour)
	server := asRoot{testserver.StartAnother(t, "--ssl-cert="+cert, "--ssl-key="+key, "--ssl-ca="+ca.File)}
	dsn, err := server.Create("lab")
	require.NoError(t, err)
	storetest.NewLab(t, dsn)
	storetest.Exec(t, server, "CREATE USER sched@'127.0.0.1' IDENTIFIED BY 'sesame' REQUIRE X509")
	storetest.Exec(t, server, "GRANT SELECT, INSERT, UPDATE, DELETE ON lab.* TO sched@'127.0.0.1'")
	user := server.DSN("lab", "sched", "sesame")

	code, out := program(t, user, "check")
	require.Equal(t, exitInput, code, out)
	require.Contains(t, out, "database.cert_file")
	code, out = program(t, user, "check", "--database-ca-file", ca.File)
	require.Equal(t, exitInput, code, "TLS alone is not enough: %s", out)
	other := testserver.NewAuthority(t, "another")
	code, out = program(t, user, "check", "--database-ca-file", other.File)
	require.Equal(t, exitInput, code, out)
	require.Contains(t, out, "database.ca_file")

	own, ownKey := filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key")
	files := []string{"--database-ca-file", ca.File, "--database-cert-file", own, "--database-key-file", ownKey}
	code, out = program(t, user, append([]string{"check"}, files...)...)
	require.Equal(t, exitInput, code, out)
	require.Contains(t, out, own)
	ca.IssueNow(t, own, ownKey, "sched", time.Hour)
	s := newReplica(t, user, files...)
	s.start(t)
	s.leadsWithin(t, patience)

	ca.IssueNow(t, own, ownKey, "renewed", time.Hour)
	storetest.Exec(t, server, "ALTER USER sched@'127.0.0.1' REQUIRE SUBJECT '/CN=renewed'")
	before := s.mustStatus(t)
	server.endSessionsOf(t, "sched")
	require.Eventually(t, func() bool {
		now, ok := s.status()
		return ok && now.State == replica.StateLeader && now.Ticks > before.Ticks+3 && server.sessionsOf(t, "sched") > 0
	}, patience, 10*time.Millisecond, "new connections have the new certificate")
}

func (a asRoot) sessionsOf(t *testing.T, user string) int {
	return storetest.Count(t, a, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = ?", user)
}

// endSessionsOf ends all connections of a user.
func (a asRoot) endSessionsOf(t *testing.T, user string) {
	t.Helper()
	for _, id := range texts(t, a, "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = '"+user+"'") {
		_, _ = a.SQL().Exec("KILL " + id) // it may have ended meanwhile
	}
}
