package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/store/schema"
)

// checks runs a command that prints results, and returns them by what was looked at. A server
// that runs may be too busy to answer it in time, so whoever asks one tries again.
func checks(t require.TestingT, wantCode int, args ...string) map[string]ops.CheckResult {
	text := prints(t, wantCode, slices.Concat(args, []string{"-o", "json"})...)
	var up ops.Checkup
	require.NoError(t, json.Unmarshal([]byte(text), &up), text)
	out := map[string]ops.CheckResult{}
	for _, r := range up.Results {
		out[r.Check] = r
	}
	return out
}

func configFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hostsched.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// TestConfigCheck: what a configuration names is looked at, each on its own line, and
// nothing is written.
func TestConfigCheck(t *testing.T) {
	etcd, lab := testserver.Etcd(t), storetest.SQLiteFile(t)
	db := storetest.NewLab(t, lab)
	password, ca := filepath.Join(t.TempDir(), "password"), testserver.NewAuthority(t, "lab")
	require.NoError(t, os.WriteFile(password, []byte("sesame"), 0o644))
	cert, key := filepath.Join(t.TempDir(), "tls.crt"), filepath.Join(t.TempDir(), "tls.key")
	ca.IssueNow(t, cert, key, "replica", time.Hour)
	file := func(endpoint, dsn string) string {
		return configFile(t, fmt.Sprintf("listen: 127.0.0.1:0\netcd: {endpoints: ['%s']}\ndatabase: {dsn: '%s', password_file: '%s'}\ntls: {cert_file: '%s', key_file: '%s', ca_file: '%s'}\n", endpoint, dsn, password, cert, key, ca.File))
	}
	before := storetest.Dump(t, db)
	all := checks(t, exitOK, "config", "check", file(etcd.Endpoint, lab))
	for _, name := range []string{"etcd " + etcd.Endpoint, "etcd " + etcd.Endpoint + ": clock", "etcd rights", "database", "database: schema and rights", "database: guard", "database: clock", "cluster", "tls", "listen"} {
		require.Equal(t, ops.CheckOK, all[name].Result, "%s: %+v", name, all)
	}
	require.Equal(t, ops.CheckWarning, all["database.password_file"].Result, "everybody may read it")
	require.Equal(t, before, storetest.Dump(t, db))
	require.Zero(t, storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_fence"))

	storetest.RemoveGuard(t, db)
	all = checks(t, exitOK, "config", "check", file(etcd.Endpoint, lab))
	require.Equal(t, ops.CheckWarning, all["database: guard"].Result)

	all = checks(t, exitFailed, "config", "check", file("http://127.0.0.1:1", "u@tcp(127.0.0.1:1)/lab"))
	require.Equal(t, ops.CheckFailed, all["etcd http://127.0.0.1:1"].Result)
	require.Equal(t, ops.CheckFailed, all["database"].Result)
	require.NotContains(t, fmt.Sprint(all), "sesame")

	empty := storetest.SQLiteFile(t)
	storetest.Open(t, empty)
	all = checks(t, exitFailed, "config", "check", file(etcd.Endpoint, empty))
	require.Contains(t, all["database: schema and rights"].Detail, "migrate up")

	require.NoError(t, os.Remove(key))
	all = checks(t, exitFailed, "config", "check", file(etcd.Endpoint, lab))
	require.Equal(t, ops.CheckFailed, all["tls"].Result)

	code, out, errs := runCommand(t, "config", "check", configFile(t, "listn: 1\netcd: {ttl: x}\n"))
	require.Equal(t, exitInput, code)
	require.Empty(t, out)
	require.Contains(t, errs, "line 1: unknown key listn; did you mean listen?")
	require.Contains(t, errs, "line 2: etcd.ttl")
	code, _, errs = runCommand(t, "config", "check", "/nowhere/hostsched.yaml")
	require.Equal(t, exitInput, code)
	require.Contains(t, errs, "no such file")
}

// TestConfigCheckOfServices: what a replica calls is greeted, and nothing is sent to it.
func TestConfigCheckOfServices(t *testing.T) {
	lab := storetest.SQLiteFile(t)
	storetest.NewLab(t, lab)
	etcd := testserver.Etcd(t)
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"issuer":"http://%s","authorization_endpoint":"http://%[1]s/a","token_endpoint":"http://%[1]s/t","jwks_uri":"http://%[1]s/k"}`, r.Host)
	}))
	t.Cleanup(provider.Close)
	file := func(smtp, metadata, issuer string) string {
		return configFile(t, fmt.Sprintf("listen: 127.0.0.1:0\netcd: {endpoints: ['%s']}\ndatabase: {dsn: '%s'}\nnotify: {to: [a@lab.example], from: b@lab.example, smtp_host: 127.0.0.1, smtp_port: %s}\nmetadata: {url: '%s'}\ntracing: {endpoint: '%s'}\napi: {url: 'https://lab.example'}\noidc: {issuer: '%s', client_id: lab}\n", etcd.Endpoint, lab, smtp, metadata, metadata, issuer))
	}
	all := checks(t, exitOK, "config", "check", file(greeter(t, "220 mail.lab"), provider.URL, provider.URL))
	for _, name := range []string{"notify", "metadata.url", "tracing.endpoint", "oidc"} {
		require.Equal(t, ops.CheckOK, all[name].Result, "%+v", all)
	}
	require.Contains(t, all["notify"].Detail, "220 mail.lab")
	all = checks(t, exitFailed, "config", "check", file(greeter(t, "SSH-2.0-x"), "http://127.0.0.1:1/x", "http://127.0.0.1:1"))
	for _, name := range []string{"notify", "metadata.url", "tracing.endpoint", "oidc"} {
		require.Equal(t, ops.CheckFailed, all[name].Result, "%+v", all)
	}
	require.Contains(t, all["notify"].Detail, "no mail server")
}

// TestCheckupOfAStandaloneLab: before its first start, while it runs and after its death, a
// standalone lab is looked at by its folder alone, and nothing is made.
func TestCheckupOfAStandaloneLab(t *testing.T) {
	s := newStandalone(t)
	missing := filepath.Join(s.dir, "far", "lab")
	file := configFile(t, fmt.Sprintf("standalone: true\ndata_dir: '%s'\nlisten: '%s'\n", missing, s.listen))
	all := checks(t, exitOK, "config", "check", file)
	require.Contains(t, all["data_dir"].Detail, "the first start of the server makes it")
	require.NoDirExists(t, filepath.Dir(missing))
	all = checks(t, exitFailed, "doctor", "--config", file)
	require.Len(t, all, 3, "%+v", all)
	require.Contains(t, all["servers"].Detail, "hostsched serve --data-dir "+missing)

	strange := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(strange, "letter"), nil, 0o600))
	all = checks(t, exitFailed, "config", "check", "--data-dir", strange)
	require.Contains(t, all["data_dir"].Detail, "choose another one")
	all = checks(t, exitFailed, "config", "check", "--data-dir", filepath.Join(strange, "letter", "lab"))
	require.Equal(t, ops.CheckFailed, all["data_dir"].Result)

	s.start(t)
	s.leads(t)
	for _, command := range [][]string{{"config", "check"}, {"doctor"}} {
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			all = checks(c, exitOK, slices.Concat(command, []string{"--data-dir", s.dir, "--listen", s.listen})...)
			for _, name := range []string{"data_dir", "listen", "etcd rights", "database", "database: schema and rights", "database: guard", "database: clock", "cluster"} {
				require.Equal(c, ops.CheckOK, all[name].Result, "%s: %+v", name, all)
			}
		}, patience, 50*time.Millisecond)
	}
	require.Equal(t, ops.CheckOK, all["fence of shard master"].Result)
	require.Equal(t, ops.CheckOK, all["rows of the database"].Result)

	s.end(t, syscall.SIGKILL)
	all = checks(t, exitOK, "config", "check", "--data-dir", s.dir, "--listen", s.listen)
	require.Equal(t, ops.CheckOK, all["database"].Result)
	all = checks(t, exitFailed, "doctor", "--data-dir", s.dir, "--listen", s.listen)
	require.Contains(t, all["servers"].Detail, "no replica runs")
	require.Equal(t, ops.CheckOK, all["rows of the database"].Result)
	require.NotContains(t, fmt.Sprint(all), "unsupported protocol")
}

// greeter listens on a port and greets whoever connects.
func greeter(t *testing.T, line string) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			_, _ = conn.Write([]byte(line + "\r\n"))
			_ = conn.Close()
		}
	}()
	_, port, err = net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}

// TestDoctor: a cluster that runs is well but for what it lacks; one that does not run fails.
func TestDoctor(t *testing.T) {
	s := newStandalone(t)
	s.start(t)
	s.leads(t)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		all := checks(c, exitOK, "doctor", "--data-dir", s.dir, "--listen", s.listen)
		require.Equal(c, ops.CheckOK, all["shard master"].Result, "%+v", all)
		require.Contains(c, all["shard master"].Detail, "is the only server of a standalone lab")
		require.Equal(c, ops.CheckOK, all["rows of the database"].Result)
		require.Equal(c, ops.CheckOK, all["database: schema and rights"].Result)
		require.Equal(c, ops.CheckOK, all["fence of shard master"].Result, "%+v", all)
	}, patience, 50*time.Millisecond)
	other := testserver.Etcd(t)
	elsewhere := checks(t, exitFailed, "doctor", "--database-dsn", "sqlite:"+filepath.Join(s.dir, "lab.db"), "--etcd-endpoints", other.Endpoint, "--listen", "127.0.0.1:0")
	require.Equal(t, ops.CheckFailed, elsewhere["fence of shard master"].Result)
	require.Contains(t, elsewhere["fence of shard master"].Detail, "fence adopt master")

	empty := storetest.SQLiteFile(t)
	storetest.NewLab(t, empty)
	etcd := testserver.Etcd(t)
	all := checks(t, exitFailed, "doctor", "--database-dsn", empty, "--etcd-endpoints", etcd.Endpoint, "--listen", "127.0.0.1:0")
	require.Equal(t, ops.CheckFailed, all["servers"].Result)
	require.Equal(t, ops.CheckFailed, all["shard master"].Result)
}

func TestVersion(t *testing.T) {
	code, text, errs := runCommand(t, "version", "-o", "json")
	require.Equal(t, exitOK, code, errs)
	var v versionInfo
	require.NoError(t, json.Unmarshal([]byte(text), &v))
	require.Equal(t, runtime.Version(), v.Go)
	require.EqualValues(t, schema.SchemaVersion, v.Schema)
	code, text, _ = runCommand(t, "version")
	require.Equal(t, exitOK, code)
	require.Contains(t, text, "commit")
}
