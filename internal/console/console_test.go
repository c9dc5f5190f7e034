package console_test

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/api"
	"github.com/hostsched/hostsched/internal/console"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/internal/runs"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

// site is a console on a lab, as a proxy serves it below a path of its own.
type site struct {
	*httptest.Server
	lab *lab.Lab
	db  *store.DB
}

// proxyPath is one that the replica knows nothing of.
const proxyPath = "/labs/one"

func newSite(t *testing.T, db *store.DB) *site {
	t.Helper()
	return newSiteWith(t, db, func(string) *api.SignIn { return nil })
}

// newSiteWith is a site where people log in at an identity provider, which must know where the site
// is.
func newSiteWith(t *testing.T, db *store.DB, signIn func(base string) *api.SignIn) *site {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	provider := signIn("http://" + server.Listener.Addr().String() + proxyPath)
	l := lab.New(db, store.Scope{Shard: shard.Master, Shared: true})
	calls := api.New(api.Config{
		Version: "test", Lab: func() *lab.Lab { return l }, Runs: func() *runs.Runs { return runs.New(l) }, Waiting: func() string { return "" }, Wake: func(shard.Name, ...int64) {}, MaxPriority: 100, SignIn: provider, Log: hclog.NewNullLogger(),
		Cluster: func(context.Context) (ops.ClusterStatus, error) {
			return ops.ClusterStatus{Cluster: "test", Warnings: []string{"the clocks differ"}, Shards: []ops.ShardStatus{{Shard: shard.Master, WhyNobody: "nobody campaigns"}}, Servers: []ops.ServerStatus{{Server: "s1", Role: "primary"}}}, nil
		},
	})
	t.Cleanup(calls.EndStreams)
	pages := console.New(console.Config{
		Server: "s1", Version: "test", API: calls, Lab: func() *lab.Lab { return l }, Waiting: func() string { return "" }, Watch: calls.Watch(), SignIn: provider != nil, Session: time.Hour, Log: hclog.NewNullLogger(),
	})
	both := http.NewServeMux()
	both.Handle(api.Prefix+"/", calls)
	both.Handle("/", pages)
	server.Config.Handler = http.StripPrefix(proxyPath, both)
	server.Start()
	s := &site{Server: server, lab: l, db: db}
	t.Cleanup(s.Close)
	return s
}

// token makes a user with a role, and a token.
func (s *site) token(t *testing.T, login, role string) string {
	t.Helper()
	admin := access.Caller{Login: "test", Role: access.Admin}
	_, err := s.lab.AddUser(context.Background(), admin, login)
	require.NoError(t, err)
	require.NoError(t, s.lab.Grant(context.Background(), admin, labapi.RoleGrant{Kind: "user", Name: login, Role: role}))
	made, err := s.lab.CreateToken(context.Background(), admin, labapi.TokenInput{Login: login, Name: "test"})
	require.NoError(t, err)
	return made.Secret
}

// visitor is a browser without a script.
type visitor struct {
	*http.Client
	base string
}

func (s *site) visitor(t *testing.T) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &visitor{&http.Client{Jar: jar}, s.URL + proxyPath + console.Prefix}
}

func (v *visitor) read(t *testing.T, res *http.Response, err error) (status int, text string) {
	t.Helper()
	require.NoError(t, err)
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	return res.StatusCode, string(body)
}

func (v *visitor) get(t *testing.T, path string) (status int, text string) {
	t.Helper()
	res, err := v.Get(v.base + path)
	return v.read(t, res, err)
}

func (v *visitor) post(t *testing.T, path string, form url.Values) (status int, text string) {
	t.Helper()
	res, err := v.PostForm(v.base+path, form)
	return v.read(t, res, err)
}

func (v *visitor) logIn(t *testing.T, secret string) {
	t.Helper()
	status, text := v.post(t, "/login", url.Values{"token": {secret}, "next": {"hosts"}})
	require.Equal(t, http.StatusOK, status, text)
	require.Contains(t, text, "<h1>Hosts</h1>")
}

// TestSession: a browser gets a token of its own, which ends with the logout, and the one that
// was shown goes on.
func TestSession(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s := newSite(t, db)
		secret := s.token(t, "alice", "user")
		v := s.visitor(t)
		_, text := v.get(t, "/hosts?state=held")
		require.Contains(t, text, "<h1>Log in</h1>")
		status, text := v.post(t, "/login", url.Values{"token": {"hsu_nothing"}})
		require.Equal(t, http.StatusUnauthorized, status)
		require.Contains(t, text, "no token of hostsched")

		v.logIn(t, secret)
		at, err := url.Parse(v.base)
		require.NoError(t, err)
		cookies := v.Jar.Cookies(at)
		require.Len(t, cookies, 1)
		require.NotEqual(t, secret, cookies[0].Value)
		_, text = v.get(t, "/")
		require.Contains(t, text, "alice")

		status, _ = v.post(t, "/logout", nil)
		require.Equal(t, http.StatusOK, status)
		require.Empty(t, v.Jar.Cookies(at))
		_, err = s.lab.Authenticate(t.Context(), cookies[0].Value)
		require.ErrorIs(t, err, lab.ErrToken)
		_, err = s.lab.Authenticate(t.Context(), secret)
		require.NoError(t, err)
	})
}

// TestCookie: no script reads it, no other site makes a browser send it, and it is sent over TLS
// alone where there is TLS.
func TestCookie(t *testing.T) {
	s := newSite(t, storetest.NewLab(t, storetest.SQLiteFile(t)))
	for proto, secure := range map[string]bool{"http": false, "https": true} {
		form := url.Values{"token": {s.token(t, "user-"+proto, "user")}}
		req, err := http.NewRequest(http.MethodPost, s.URL+proxyPath+"/ui/login", strings.NewReader(form.Encode()))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("X-Forwarded-Proto", proto)
		res, err := http.DefaultTransport.RoundTrip(req)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusSeeOther, res.StatusCode)
		require.Len(t, res.Cookies(), 1)
		c := res.Cookies()[0]
		require.True(t, c.HttpOnly)
		require.Equal(t, http.SameSiteStrictMode, c.SameSite)
		require.Equal(t, secure, c.Secure)
	}
}

// TestOtherSites: a page of another site changes nothing, and no login leads to another site.
func TestOtherSites(t *testing.T) {
	s := newSite(t, storetest.NewLab(t, storetest.SQLiteFile(t)))
	v := s.visitor(t)
	v.logIn(t, s.token(t, "root", "admin"))
	for _, path := range []string{"/logout", "/login", "/hosts"} {
		req, err := http.NewRequest(http.MethodPost, v.base+path, strings.NewReader("action=lock&host=h1&reason=x"))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", "https://elsewhere.example")
		req.Header.Set("Sec-Fetch-Site", "cross-site")
		res, err := v.Do(req)
		status, _ := v.read(t, res, err)
		require.Equal(t, http.StatusForbidden, status, path)
	}
	v.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, next := range []string{"https://elsewhere.example/", "//elsewhere.example", `\\elsewhere.example`, "javascript:alert(1)", "../../x"} {
		res, err := v.PostForm(v.base+"/login", url.Values{"token": {s.token(t, "u"+url.PathEscape(next), "user")}, "next": {next}})
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.True(t, strings.HasPrefix(res.Header.Get("Location"), "./"), next)
		require.NotContains(t, res.Header.Get("Location"), "..")
	}
}

var (
	links    = regexp.MustCompile(`(?:href|src|action)="([^"]*)"`)
	absolute = regexp.MustCompile(`^(/|https?:)`)
)

// TestPages: every page of a lab with all kinds of things on it is there, has relative links
// alone, and nothing inline that a policy for scripts or styles would have to allow.
func TestPages(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillLab(t, db)
		s := newSite(t, db)
		v := s.visitor(t)
		v.logIn(t, s.token(t, "root", "admin"))
		hosts, err := s.lab.Hosts(t.Context(), lab.HostFilter{}, "", 1)
		require.NoError(t, err)
		name := hosts.Items[0].Hostname
		for _, path := range []string{"/", "/?all=1", "/hosts", "/hosts?view=grid", "/hosts?state=running&q=rack", "/hosts/" + name, "/login", "/queue", "/queue?only=never",
			"/jobs", "/jobs?state=queued&owner=alice", "/jobs/7", "/suites", "/suites/1", "/pools", "/agents", "/cluster", "/audit", "/audit?kind=host.&who=root"} {
			status, text := v.get(t, path)
			require.Equal(t, http.StatusOK, status, path+text)
			require.NotContains(t, text, " style=")
			require.NotContains(t, text, "<script>")
			require.NotContains(t, text, "<style")
			require.NotRegexp(t, ` on[a-z]+=`, text)
			for _, link := range links.FindAllStringSubmatch(text, -1) {
				require.NotRegexp(t, absolute, link[1], path)
			}
		}
		for _, path := range []string{"/nowhere", "/hosts/none", "/hosts/a/b", "/jobs/999999", "/suites/7", "/runs/1/log/stdout", "/runs/x/log/stdout"} {
			status, text := v.get(t, path)
			require.Equal(t, http.StatusNotFound, status, path)
			require.Contains(t, text, "<h1>Not Found</h1>", path)
		}
	})
}

// TestLogThatIsMissing: the page of its job says so, and shows all else.
func TestLogThatIsMissing(t *testing.T) {
	s := newSite(t, storetest.NewLab(t, storetest.SQLiteFile(t)))
	storetest.FillLab(t, s.db)
	storetest.Exec(t, s.db, "INSERT INTO hostsched_runs (id, claim_key, kind, state, job_id, token_hash, lease_ms, lease_until, claimed, closed) VALUES (77, 'k', 'job', 'done', 7, 't', 1, 1, 1, 1)")
	storetest.Exec(t, s.db, "INSERT INTO hostsched_logs (run_id, stream, size, place) VALUES (77, 'output', 5, 'runs/77/output')")
	v := s.visitor(t)
	v.logIn(t, s.token(t, "root", "admin"))
	status, text := v.get(t, "/jobs/7")
	require.Equal(t, http.StatusOK, status, text)
	require.Contains(t, text, "runs/77/output")
	require.Contains(t, text, "What it asks for")
	status, _ = v.get(t, "/runs/77/log/output")
	require.Equal(t, http.StatusServiceUnavailable, status)
}

// TestShardsAreForAdministrators: others see no form on the page of the cluster, and are refused
// without one.
func TestShardsAreForAdministrators(t *testing.T) {
	s := newSite(t, storetest.NewLab(t, storetest.SQLiteFile(t)))
	for role, may := range map[string]bool{"admin": true, "operator": false, "user": false, "viewer": false} {
		v := s.visitor(t)
		v.logIn(t, s.token(t, role, role))
		_, text := v.get(t, "/cluster")
		require.Equal(t, may, strings.Contains(text, `value="switchover"`), role)
		for _, action := range []string{"pause", "resume", "switchover"} {
			status, text := v.post(t, "/cluster", url.Values{"action": {action}, "shard": {"master"}, "reason": {"test"}})
			require.Equal(t, may, status != http.StatusForbidden, text)
		}
	}
}

func TestHeaders(t *testing.T) {
	s := newSite(t, storetest.NewLab(t, storetest.SQLiteFile(t)))
	res, err := http.Get(s.URL + proxyPath + "/ui/login")
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	policy := res.Header.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
		require.Contains(t, policy, part)
	}
	require.NotContains(t, policy, "unsafe")
	require.Equal(t, "nosniff", res.Header.Get("X-Content-Type-Options"))
}

// TestHold: who may locks and unlocks hosts by the forms; what is refused is said host by host; a
// viewer sees no form, and is refused without one.
func TestHold(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		storetest.FillLab(t, db)
		s := newSite(t, db)
		page, err := s.lab.Hosts(t.Context(), lab.HostFilter{}, "", 2)
		require.NoError(t, err)
		one, two := page.Items[0].Hostname, page.Items[1].Hostname
		root, viewer := s.visitor(t), s.visitor(t)
		root.logIn(t, s.token(t, "root", "admin"))
		viewer.logIn(t, s.token(t, "eve", "viewer"))

		status, text := root.post(t, "/hosts?q=rack", url.Values{"action": {"lock"}, "reason": {"new <cable>"}, "for": {"1h"}, "host": {one, two}})
		require.Equal(t, http.StatusOK, status)
		require.Contains(t, text, "2 hosts are locked.")
		require.Contains(t, text, "new &lt;cable&gt;")
		h, _, err := s.lab.Host(t.Context(), one)
		require.NoError(t, err)
		require.True(t, h.Locked)
		require.NotNil(t, h.Lock.Until)

		status, text = root.post(t, "/hosts", url.Values{"action": {"drain"}, "host": {one}})
		require.Equal(t, http.StatusUnprocessableEntity, status)
		require.Contains(t, text, "say why")
		status, text = root.post(t, "/hosts", url.Values{"action": {"unlock"}, "host": {one, "none"}})
		require.Equal(t, http.StatusConflict, status)
		require.Contains(t, text, "there is no host &#34;none&#34;")

		for _, path := range []string{"/", "/hosts", "/hosts/" + one} {
			_, text = viewer.get(t, path)
			require.NotContains(t, text, `name="action"`, path)
			require.NotContains(t, text, `type="checkbox"`, path)
		}
		status, text = viewer.post(t, "/hosts/"+two, url.Values{"action": {"unlock"}, "host": {two}})
		require.Equal(t, http.StatusForbidden, status)
		require.Contains(t, text, "this needs the role")
	})
}
