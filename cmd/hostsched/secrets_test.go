package main

import (
	"context"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// cheapHash keeps etcd's password check short under the race detector.
const cheapHash = 4

// TestServerWithTLSAndPasswords runs a replica against an etcd that wants TLS
// with client certificates and a user, and a database user with a password. All
// secrets come from files, and none appears in the log.
func TestServerWithTLSAndPasswords(t *testing.T) {
	dir := t.TempDir()
	info, err := transport.SelfCert(zap.NewNop(), filepath.Join(dir, "tls"), []string{"127.0.0.1:0"}, 1, x509.ExtKeyUsageClientAuth)
	require.NoError(t, err)
	info.TrustedCAFile = info.CertFile
	info.ClientCertAuth = true
	etcd := testserver.EtcdWith(t, "https", func(cfg *embed.Config) {
		cfg.ClientTLSInfo = info
		cfg.BcryptCost = cheapHash
	})
	enableAuth(t, etcd.Endpoint, info)

	config := writeConfig(t, dir, etcd.Endpoint, info, databaseWithPassword(t))
	port, err := testserver.FreePort()
	require.NoError(t, err)
	s := &server{name: "secure", listen: "127.0.0.1:" + strconv.Itoa(port)}
	var log strings.Builder
	s.cmd = exec.Command(os.Args[0], "serve", "--config", config, "--listen", s.listen)
	s.cmd.Env = append(os.Environ(), asProgram+"=1")
	s.cmd.Stderr = &log
	require.NoError(t, s.cmd.Start())
	t.Cleanup(func() {
		if s.cmd.ProcessState == nil { // the test failed
			_, _ = s.cmd.Process.Kill(), s.cmd.Wait()
			t.Log(log.String())
		}
	})
	require.Eventually(t, func() bool {
		st, ok := s.status()
		return ok && st.State == replica.StateLeader && st.Ticks > 0
	}, patience, 10*time.Millisecond, "it leads")
	s.signal(t, syscall.SIGTERM)
	require.NoError(t, s.cmd.Wait())
	require.NotContains(t, log.String(), "sesame")
	require.Contains(t, log.String(), "leading")
}

func enableAuth(t *testing.T, endpoint string, info transport.TLSInfo) {
	t.Helper()
	tls, err := info.ClientConfig()
	require.NoError(t, err)
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, TLS: tls, DialTimeout: patience})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err = client.UserAdd(ctx, "root", "sesame-etcd")
	require.NoError(t, err)
	_, err = client.UserGrantRole(ctx, "root", "root")
	require.NoError(t, err)
	_, err = client.AuthEnable(ctx)
	require.NoError(t, err)
	require.NoError(t, client.Close())
}

// databaseWithPassword returns a DSN without password of a migrated database
// whose user has one.
func databaseWithPassword(t *testing.T) string {
	t.Helper()
	dsn := testserver.Database(t)
	db, err := store.Open(t.Context(), sqldb.Config{DSN: dsn})
	require.NoError(t, err)
	_, err = schema.Up(t.Context(), db.DB, schema.Options{})
	require.NoError(t, err)
	require.NoError(t, db.Close())
	user := testserver.User(t, dsn, "sched", "sesame-db", "SELECT, INSERT, UPDATE, DELETE")
	return strings.Replace(user, ":sesame-db@", "@", 1)
}

func writeConfig(t *testing.T, dir, endpoint string, info transport.TLSInfo, dsn string) string {
	t.Helper()
	files := map[string]string{
		"etcd-password": "sesame-etcd\n",
		"db-password":   "sesame-db\n",
		"hostsched.yaml": `server: secure
cluster: lab
etcd:
  endpoints: ["` + endpoint + `"]
  ttl: 2s
  user: root
  password_file: ` + dir + `/etcd-password
  cert_file: ` + info.CertFile + `
  key_file: ` + info.KeyFile + `
  ca_file: ` + info.TrustedCAFile + `
database:
  dsn: "` + dsn + `"
  password_file: ` + dir + `/db-password
tick: {min: 20ms}
log: {level: debug, format: json}
`,
	}
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return filepath.Join(dir, "hostsched.yaml")
}
