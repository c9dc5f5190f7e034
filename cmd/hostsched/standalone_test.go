package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// apiClient asks servers that may not be there yet.
var apiClient = &http.Client{Timeout: time.Second}

// standalone is a lab server that is one process.
type standalone struct {
	dir, listen string
	out         *os.File
	cmd         *exec.Cmd
}

func newStandalone(t *testing.T) *standalone {
	t.Helper()
	// Not t.TempDir: its path may be too long for a socket.
	dir, err := os.MkdirTemp("", "alone")
	require.NoError(t, err)
	port, err := testserver.FreePort()
	require.NoError(t, err)
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	require.NoError(t, err)
	s := &standalone{dir: dir, listen: "127.0.0.1:" + strconv.Itoa(port), out: out}
	t.Cleanup(func() {
		if s.cmd != nil && s.cmd.ProcessState == nil {
			s.end(t, syscall.SIGKILL)
		}
		if t.Failed() {
			t.Log(s.said(t))
		}
		require.NoError(t, out.Close())
		require.NoError(t, os.RemoveAll(dir))
	})
	return s
}

func (s *standalone) start(t *testing.T, args ...string) {
	t.Helper()
	s.cmd = exec.Command(os.Args[0], append([]string{"serve", "--standalone", "--data-dir", s.dir, "--listen", s.listen}, args...)...)
	s.cmd.Env = append(os.Environ(), asProgram+"=1")
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	require.NoError(t, s.cmd.Start())
}

func (s *standalone) end(t *testing.T, sig syscall.Signal) (code int) {
	t.Helper()
	require.NoError(t, s.cmd.Process.Signal(sig))
	_ = s.cmd.Wait() // the code tells
	return s.cmd.ProcessState.ExitCode()
}

func (s *standalone) said(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(s.out.Name())
	require.NoError(t, err)
	return string(text)
}

func (s *standalone) leads(t *testing.T) {
	t.Helper()
	answersWith(t, "http://"+s.listen+"/readyz?state=leader", http.StatusOK)
}

// askOnce asks for something; ok is false if there is no answer within the time that the client
// waits, which one that is alive may need longer for on a busy machine.
func askOnce(client *http.Client, req *http.Request) (code int, body []byte, ok bool) {
	res, err := client.Do(req)
	if err != nil {
		return 0, nil, false
	}
	body, err = io.ReadAll(res.Body)
	return res.StatusCode, body, res.Body.Close() == nil && err == nil
}

// answersWith waits until an address answers with a code, and returns what it says.
func answersWith(t *testing.T, url string, want int) (body []byte) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	require.NoError(t, err)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		code, text, ok := askOnce(apiClient, req)
		require.True(c, ok, "%s answers", url)
		require.Equal(c, want, code, "%s: %s", url, text)
		body = text
	}, patience, 10*time.Millisecond)
	return body
}

// whoami asks the API who the caller is, by TCP with a token, or by the socket without.
func (s *standalone) whoami(t *testing.T, token string) (me labapi.Whoami) {
	t.Helper()
	client := apiClient
	req, err := http.NewRequest(http.MethodGet, "http://"+s.listen+"/api/v1/whoami", nil)
	require.NoError(t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	} else {
		client = s.local()
	}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		code, body, ok := askOnce(client, req)
		require.True(c, ok, "the API answers")
		require.Equal(c, http.StatusOK, code, "%s", body)
		require.NoError(c, json.Unmarshal(body, &me))
	}, patience, 10*time.Millisecond)
	return me
}

// local is a client of the socket.
func (s *standalone) local() *http.Client {
	return &http.Client{Timeout: apiClient.Timeout, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(s.dir, "hostsched.sock"))
	}}}
}

func (s *standalone) adminToken(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "admin.token"))
	require.NoError(t, err)
	return strings.TrimSpace(string(text))
}

func requireMode(t *testing.T, path string, want os.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, want, info.Mode().Perm(), path)
}

// TestStandalone: one command is a whole lab, whose administrator has a token; it survives
// kill -9, and another process is kept out.
func TestStandalone(t *testing.T) {
	s := newStandalone(t)
	s.start(t)
	s.leads(t)
	requireMode(t, s.dir, 0o700)
	requireMode(t, filepath.Join(s.dir, "admin.token"), 0o600)
	requireMode(t, filepath.Join(s.dir, "hostsched.sock"), 0o600)
	require.Contains(t, s.said(t), "at http://"+s.listen+"\nThe token of its administrator is in "+filepath.Join(s.dir, "admin.token"))
	token := s.adminToken(t)
	require.Equal(t, labapi.Whoami{Login: "admin", Role: "admin", By: "token", Owner: "admin"}, s.whoami(t, token))
	me := s.whoami(t, "")
	require.Equal(t, labapi.Whoami{Login: me.Login, Role: "admin", By: "socket", Owner: "admin"}, me)
	require.Contains(t, me.Login, "local:"+strconv.Itoa(os.Getuid()))
	requireOwnJobs(t, "unix:"+filepath.Join(s.dir, "hostsched.sock"))

	code, _, errs := runCommand(t, "serve", "--data-dir", s.dir, "--listen", "127.0.0.1:0")
	require.Equal(t, exitInput, code)
	require.Contains(t, errs, "another process uses "+s.dir)
	require.Equal(t, 1, strings.Count(errs, "\n"))
	code, out, errs := runCommand(t, "cluster", "status", "--data-dir", s.dir)
	require.Equal(t, exitOK, code, errs)
	require.Contains(t, out, "master")

	s.end(t, syscall.SIGKILL)
	killed := time.Now()
	s.start(t)
	s.leads(t)
	require.Less(t, time.Since(killed), 4*time.Second, "nobody waits for the lease of the process that was killed")
	require.Equal(t, token, s.adminToken(t))
	require.Equal(t, "admin", s.whoami(t, token).Login)

	require.NoError(t, os.Remove(filepath.Join(s.dir, "admin.token")))
	require.Zero(t, s.end(t, syscall.SIGTERM), "an orderly end")
	require.NoFileExists(t, filepath.Join(s.dir, "hostsched.sock"))
	s.start(t)
	s.leads(t)
	require.NoFileExists(t, filepath.Join(s.dir, "admin.token"), "nobody gets a token by removing a file")
	require.Contains(t, s.said(t), "was removed from")
}

// TestStandaloneFolders: a folder that is somebody else's is left alone.
func TestStandaloneFolders(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "letter"), nil, 0o644))
	require.NoError(t, os.Chmod(dir, 0o755))
	code, _, errs := runCommand(t, "serve", "--data-dir", dir)
	require.Equal(t, exitInput, code)
	require.Contains(t, errs, "no folder of a standalone server")
	requireMode(t, dir, 0o755)
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, 1)
}

// TestStandaloneOfAFormerVersion: its database is migrated, and a copy is kept.
func TestStandaloneOfAFormerVersion(t *testing.T) {
	s := newStandalone(t)
	path := filepath.Join(s.dir, "lab.db")
	db, err := store.Open(t.Context(), sqldb.Config{DSN: "sqlite:" + path, Create: true})
	require.NoError(t, err)
	_, err = schema.Up(t.Context(), db.DB, schema.Options{})
	require.NoError(t, err)
	storetest.Exec(t, db, "INSERT INTO afe_users (login, access_level, reboot_before, reboot_after) VALUES ('eve', 0, 0, 0)")
	storetest.Exec(t, db, "DELETE FROM hostsched_schema WHERE version_id > 4")
	for _, table := range []string{"idempotency", "role_grants", "tokens", "job_specs", "events", "hosts"} {
		storetest.Exec(t, db, "DROP TABLE hostsched_"+table)
	}
	require.NoError(t, db.Close())
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "hostsched.lock"), nil, 0o600))
	require.NoError(t, os.WriteFile(path+".schema-4.unfinished", []byte("half a copy"), 0o600))

	found := checks(t, exitOK, "config", "check", "--data-dir", s.dir, "--listen", s.listen)
	require.Contains(t, found["database: schema and rights"].Detail, "version 4; the next start of the server brings it to version")
	s.start(t)
	s.leads(t)
	require.Equal(t, "admin", s.whoami(t, s.adminToken(t)).Role)
	require.NoFileExists(t, path+".schema-4.unfinished")
	kept, err := store.Open(t.Context(), sqldb.Config{DSN: "sqlite:" + path + ".schema-4"})
	require.NoError(t, err)
	st, err := schema.ReadStatus(t.Context(), kept.DB)
	require.NoError(t, err)
	require.EqualValues(t, 4, st.Schema)
	require.Equal(t, 1, storetest.Count(t, kept, "SELECT COUNT(*) FROM afe_users WHERE login = 'eve'"))
	require.NoError(t, kept.Close())
}

// TestSocketOfAnotherProcess: one that somebody answers on is left alone, one that a dead
// process left is replaced.
func TestSocketOfAnotherProcess(t *testing.T) {
	path := filepath.Join(shortDir(t), "api.sock")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	replica := newReplica(t, storetest.SQLiteFile(t), "--api-socket", path)
	storetest.NewLab(t, replica.dsn)
	replica.start(t)
	require.Equal(t, exitInput, replica.exits(t, patience))
	require.Contains(t, replica.log(t), "another process answers on "+path)

	l.(*net.UnixListener).SetUnlinkOnClose(false)
	require.NoError(t, l.Close())
	require.FileExists(t, path)
	replica.start(t)
	replica.leadsWithin(t, patience)
	requireMode(t, path, 0o600)

	require.NoError(t, os.Remove(path))
	require.NoError(t, os.WriteFile(path, nil, 0o644))
	replica.stop(t)
	require.FileExists(t, path, "what is there now is not its socket")
	replica.start(t)
	require.Equal(t, exitInput, replica.exits(t, patience))
	require.Contains(t, replica.log(t), "is no socket")
}

// TestAddressOfItsOwn: the API may have an address apart from that of the metrics.
func TestAddressOfItsOwn(t *testing.T) {
	port, err := testserver.FreePort()
	require.NoError(t, err)
	s := newStandalone(t)
	own := "127.0.0.1:" + strconv.Itoa(port)
	s.start(t, "--api-listen", own)
	s.leads(t)
	answersWith(t, "http://"+s.listen+"/api/v1/whoami", http.StatusNotFound)
	answersWith(t, "http://"+s.listen+"/metrics", http.StatusOK)
	answersWith(t, "http://"+own+"/metrics", http.StatusNotFound)
	answersWith(t, "http://"+own+"/api/v1/whoami", http.StatusOK)
	require.Contains(t, s.said(t), "at http://"+own)
}

// TestAddressOfItsOwnOverTLS: the API answers on its own address by the same certificate, and
// by the one that takes its place in the files from then on.
func TestAddressOfItsOwnOverTLS(t *testing.T) {
	port, err := testserver.FreePort()
	require.NoError(t, err)
	s, ca := newStandalone(t), testserver.NewAuthority(t, "lab")
	cert, key := filepath.Join(t.TempDir(), "tls.crt"), filepath.Join(t.TempDir(), "tls.key")
	ca.IssueNow(t, cert, key, "first", time.Hour)
	own := "https://127.0.0.1:" + strconv.Itoa(port)
	s.start(t, "--api-listen", strings.TrimPrefix(own, "https://"), "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-file", ca.File)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool(t)}, DisableKeepAlives: true}, Timeout: time.Second}
	answersAs := func() string {
		res, err := client.Get(own + "/api/v1/whoami")
		if err != nil || res.Body.Close() != nil {
			return ""
		}
		return res.TLS.PeerCertificates[0].Subject.CommonName
	}
	require.Eventually(t, func() bool { return answersAs() == "first" }, patience, 20*time.Millisecond)

	token := filepath.Join(s.dir, "admin.token")
	listHosts := func() bool {
		code, _, _ := runCommand(t, "host", "list", "--server", own, "--ca-file", ca.File, "--token-file", token)
		return code == exitOK
	}
	require.Eventually(t, listHosts, patience, 50*time.Millisecond, "commands trust the authority that they are given")
	code, _, errs := runCommand(t, "host", "list", "--server", own, "--token-file", token)
	require.Equal(t, exitAway, code, "nobody trusts it by itself")
	require.Contains(t, errs, "certificate")
	code, _, _ = runCommand(t, "host", "list", "--server", "http"+strings.TrimPrefix(own, "https"), "--token-file", token)
	require.NotEqual(t, exitOK, code)

	ca.IssueNow(t, cert, key, "second", time.Hour)
	require.Eventually(t, func() bool { return answersAs() == "second" }, patience, 20*time.Millisecond, "the files were replaced")
	require.Eventually(t, listHosts, patience, 50*time.Millisecond, "commands go on")
}

// shortDir is a folder whose path is short enough for a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// runCommand runs a command line in this process.
func runCommand(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// requireOwnJobs proves that whoever comes through the socket finds what it submitted as its own, and
// ends it without saying why.
func requireOwnJobs(t *testing.T, server string) {
	t.Helper()
	must := func(args ...string) string {
		t.Helper()
		code, out, errs := runCommand(t, append(args, "--server", server)...)
		require.Zero(t, code, "%v: %s", args, errs)
		return out
	}
	must("host", "add", "own-1")
	must("host", "reserve", "own-1", "--for", "1h", "--reason", "x")
	require.Equal(t, "own-1\n", must("host", "list", "--mine", "-o", "name"))
	id := strings.TrimSpace(must("job", "list", "--mine", "-o", "name"))
	require.NotEmpty(t, id)
	must("job", "abort", id, "--yes")
	require.Contains(t, must("token", "list"), "first administrator")
}
