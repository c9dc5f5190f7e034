package main

import (
	"bufio"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/testserver"
)

// confirmation is what 'hostsched login' tells a person.
var confirmation = regexp.MustCompile(`Open (\S+) and confirm the code (\S+)`)

// TestLoginOfACommandLine: a person logs in by the code that the command prints, which the
// identity provider takes in any browser; the token is kept, says who it is, and ends with the
// logout.
func TestLoginOfACommandLine(t *testing.T) {
	s := newStandalone(t)
	issuer := testserver.OIDC(t, "http://"+s.listen+"/api/v1/login/callback")
	t.Setenv("HOSTSCHED_OIDC_DEVICE_CLIENT_SECRET", "device-secret")
	t.Setenv("HOSTSCHED_OIDC_CLIENT_SECRET", "web-secret")
	s.start(t, "--oidc-issuer", issuer, "--oidc-client-id", "lab", "--oidc-device-client-id", "lab-device", "--oidc-scopes", "openid,profile", "--oidc-least-role", "viewer", "--api-url", "http://"+s.listen)
	s.leads(t)
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, "config"))

	login := exec.Command(os.Args[0], "login", "--server", "http://"+s.listen)
	login.Env = append(os.Environ(), asProgram+"=1")
	said, err := login.StderrPipe()
	require.NoError(t, err)
	var out strings.Builder
	login.Stdout = &out
	require.NoError(t, login.Start())
	errs := bufio.NewReader(said)
	asked, err := errs.ReadString('\n')
	require.NoError(t, err)
	code := confirmation.FindStringSubmatch(asked)
	require.NotNil(t, code, asked)
	confirm(t, issuer, code[2])
	rest, err := io.ReadAll(errs)
	require.NoError(t, err)
	require.NoError(t, login.Wait(), string(rest))
	require.Contains(t, out.String(), "logged in as alice (viewer)")

	status, who, problem := runCommand(t, "whoami")
	require.Equal(t, exitOK, status, problem)
	require.Contains(t, who, "alice")
	status, _, problem = runCommand(t, "host", "add", "h1")
	require.Equal(t, exitDenied, status, problem)
	status, _, problem = runCommand(t, "logout")
	require.Equal(t, exitOK, status, problem)
	status, _, _ = runCommand(t, "host", "list")
	require.Equal(t, exitDenied, status, "the token is over")
}

// confirm does in a browser what the command asks for.
func confirm(t *testing.T, issuer, code string) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	browser := &http.Client{Jar: jar, Timeout: patience}
	res, err := browser.PostForm(issuer+"device/login", url.Values{"user_code": {code}, "username": {"alice"}, "password": {"secret"}})
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusOK, res.StatusCode)
	res, err = browser.Get(issuer + "device/confirm?action=allowed")
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusOK, res.StatusCode)
}
