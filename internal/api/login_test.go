package api_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/api"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/signin"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/store"
)

// browser follows redirects and keeps cookies.
func browser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &http.Client{Jar: jar}
}

func get(t *testing.T, b *http.Client, address string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, address, nil)
	require.NoError(t, err)
	return do(t, b, req)
}

func post(t *testing.T, b *http.Client, address string, form url.Values) (int, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, address, strings.NewReader(form.Encode()))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return do(t, b, req)
}

// do returns the status and the text of an answer.
func do(t *testing.T, b *http.Client, req *http.Request) (int, string) {
	t.Helper()
	res, err := b.Do(req)
	require.NoError(t, err)
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	return res.StatusCode, string(text)
}

// newSignInServer is a server whose people log in at a real provider.
func newSignInServer(t *testing.T, db *store.DB) (s *server, issuer string) {
	t.Helper()
	s = newServerWith(t, db, func(*api.Config) {})
	s.Close()
	// The provider must know where browsers come back to, and the server its provider.
	unstarted := httptest.NewUnstartedServer(nil)
	base := "http://" + strings.Replace(unstarted.Listener.Addr().String(), "127.0.0.1", "localhost", 1)
	issuer = testserver.OIDC(t, base+api.Prefix+"/login/callback")
	config := s.config
	config.SignIn = &api.SignIn{Least: access.Viewer, For: time.Hour, URL: base, Provider: signin.New(signin.Config{
		Issuer: issuer, ClientID: "lab", Secret: secret("web-secret"), DeviceClientID: "lab-device", DeviceSecret: secret("device-secret"),
		Scopes: []string{"openid", "profile"}, UserClaim: "preferred_username", GroupsClaim: "groups",
	})}
	unstarted.Config.Handler = api.New(config)
	unstarted.Start()
	unstarted.URL = base
	t.Cleanup(unstarted.Close)
	s.Server = unstarted
	return s, issuer
}

func secret(text string) func() (string, error) {
	return func() (string, error) { return text, nil }
}

// TestLoginOfABrowser: the provider's page, back with a code, a session, its end.
func TestLoginOfABrowser(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, issuer := newSignInServer(t, db)
		storetest.Exec(t, db, "INSERT INTO hostsched_role_grants (kind, name, role) VALUES ('group', 'lab-operators', 'operator')")
		b := browser(t)

		// Without a login the session's cookie is not there.
		status, text := get(t, b, s.URL+api.Prefix+"/whoami")
		require.Equal(t, http.StatusOK, status)
		require.Contains(t, text, `"by":"anonymous"`)

		status, text = logIn(t, b, s, issuer, "alice", "")
		require.Equal(t, http.StatusOK, status, text)
		require.JSONEq(t, `{"login":"alice","owner":"alice","role":"operator","by":"token"}`, text)
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_acl_groups_users gu JOIN afe_users u ON u.id = gu.user_id JOIN afe_acl_groups g ON g.id = gu.aclgroup_id WHERE u.login = 'alice' AND g.name = 'Everyone'"))

		// A second login of the same person enters nobody.
		status, _ = logIn(t, browser(t), s, issuer, "alice", "/api/v1/whoami")
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_users WHERE login = 'alice'"))

		// Who is in no such group has the least role.
		status, text = logIn(t, browser(t), s, issuer, "bob", "")
		require.Equal(t, http.StatusOK, status)
		require.JSONEq(t, `{"login":"bob","owner":"bob","role":"viewer","by":"token"}`, text)

		// A page of another site cannot use the session.
		req, err := http.NewRequest(http.MethodPost, s.URL+api.Prefix+"/logout", nil)
		require.NoError(t, err)
		req.Header.Set("Sec-Fetch-Site", "cross-site")
		status, text = do(t, b, req)
		require.Equal(t, http.StatusForbidden, status, text)
		require.Contains(t, text, "/problems/cross-origin")

		status, _ = post(t, b, s.URL+api.Prefix+"/logout", nil)
		require.Equal(t, http.StatusNoContent, status)
		_, text = get(t, b, s.URL+api.Prefix+"/whoami")
		require.Contains(t, text, `"by":"anonymous"`)
	})
}

// TestLoginOfAnother: an answer that belongs to another browser's login, or to none, and a
// link that wants to end elsewhere.
func TestLoginOfAnother(t *testing.T) {
	s, issuer := newSignInServer(t, storetest.NewLab(t, storetest.SQLiteFile(t)))
	status, text := get(t, browser(t), s.URL+api.Prefix+"/login/callback?state=x&code=y")
	require.Equal(t, http.StatusForbidden, status)
	require.Contains(t, text, "/problems/login-refused")

	status, text = get(t, browser(t), s.URL+api.Prefix+"/login/callback?error=access_denied")
	require.Equal(t, http.StatusForbidden, status)
	require.Contains(t, text, "access_denied")

	for _, next := range []string{"https://evil.example/", "//evil.example", `/\evil.example`, "javascript:alert(1)"} {
		status, text = logIn(t, browser(t), s, issuer, "alice", next)
		require.Equal(t, http.StatusOK, status, next)
		require.Contains(t, text, `"login":"alice"`, next)
	}
}

// TestLoginOfACommandLine: the device flow, through the replica.
func TestLoginOfACommandLine(t *testing.T) {
	s, issuer := newSignInServer(t, storetest.NewLab(t, storetest.SQLiteFile(t)))
	var d labapi.DeviceLogin
	require.Equal(t, http.StatusOK, s.call(t, "", http.MethodPost, "/login/device", nil, &d))
	require.NotEmpty(t, d.UserCode)

	var problem struct{ Type string }
	require.Equal(t, http.StatusConflict, s.call(t, "", http.MethodPost, "/login/device/token", labapi.DeviceCode{Code: d.Code}, &problem))
	require.Equal(t, "/problems/login-pending", problem.Type)

	b := browser(t)
	status, text := post(t, b, issuer+"device/login", url.Values{"user_code": {d.UserCode}, "username": {"alice"}, "password": {"secret"}})
	require.Equal(t, http.StatusOK, status, text)
	status, text = get(t, b, issuer+"device/confirm?action=allowed")
	require.Equal(t, http.StatusOK, status, text)

	var made labapi.NewToken
	require.Equal(t, http.StatusCreated, s.call(t, "", http.MethodPost, "/login/device/token", labapi.DeviceCode{Code: d.Code}, &made))
	require.Equal(t, "alice", made.Login)
	require.Equal(t, http.StatusOK, s.call(t, made.Secret, http.MethodGet, "/whoami", nil, nil))

	require.Equal(t, http.StatusForbidden, s.call(t, "", http.MethodPost, "/login/device/token", labapi.DeviceCode{Code: "nonsense"}, &problem))
	require.Equal(t, "/problems/login-refused", problem.Type)
}

// TestProviderIsAway: nobody can log in, and everything else works.
func TestProviderIsAway(t *testing.T) {
	s := newServerWith(t, storetest.NewLab(t, storetest.SQLiteFile(t)), func(c *api.Config) {
		c.SignIn = &api.SignIn{For: time.Hour, Provider: signin.New(signin.Config{Issuer: "http://127.0.0.1:1/", ClientID: "lab"})}
	})
	var problem struct{ Type string }
	require.Equal(t, http.StatusBadGateway, s.call(t, "", http.MethodPost, "/login/device", nil, &problem))
	require.Equal(t, "/problems/identity-provider-away", problem.Type)
	require.Equal(t, http.StatusOK, s.call(t, s.admin, http.MethodGet, "/whoami", nil, nil))
}

var authRequest = regexp.MustCompile(`name="id" value="([^"]+)"`)

// logIn goes through the provider's page as a person does.
func logIn(t *testing.T, b *http.Client, s *server, issuer, user, next string) (status int, page string) {
	t.Helper()
	status, form := get(t, b, s.URL+api.Prefix+"/login?next="+url.QueryEscape(next))
	require.Equal(t, http.StatusOK, status, form)
	id := authRequest.FindStringSubmatch(form)
	require.NotNil(t, id, form)
	return post(t, b, issuer+"login/username", url.Values{"id": {id[1]}, "username": {user}, "password": {"secret"}})
}
