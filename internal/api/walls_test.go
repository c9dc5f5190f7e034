package api_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/api"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/store"
)

// rules says who may call which route. A route that is not here, or has another rule, fails.
var rules = map[string]access.Rule{
	"GET /whoami": {}, "GET /schemas/job-spec.json": {}, "GET /login": {}, "GET /login/callback": {}, "POST /login/device": {}, "POST /login/device/token": {}, "POST /logout": {},
	"GET /tokens": access.OwnTokens, "POST /tokens": access.OwnTokens, "DELETE /tokens/{id}": access.OwnTokens,
	"GET /hosts": access.Reading, "GET /hosts/{hostname}": access.Reading, "GET /hosts/{hostname}/history": access.Reading,
	"GET /hosts/{hostname}/users": access.Reading, "GET /hosts/{hostname}/explain": access.Reading,
	"POST /hosts": access.Operating, "PUT /hosts": access.Operating,
	"PATCH /hosts/{hostname}": access.ChangingHosts, "DELETE /hosts/{hostname}": access.ChangingHosts, "POST /hosts/holds": access.ChangingHosts,
	"PUT /hosts/{hostname}/lock": access.ChangingHosts, "DELETE /hosts/{hostname}/lock": access.ChangingHosts,
	"PUT /hosts/{hostname}/drain": access.ChangingHosts, "DELETE /hosts/{hostname}/drain": access.ChangingHosts,
	"GET /pools": access.Reading, "GET /pools/{label}": access.Reading,
	"GET /labels": access.Reading, "GET /labels/{label}": access.Reading, "POST /labels": access.Operating, "DELETE /labels/{label}": access.Operating,
	"GET /acl-groups": access.Reading, "GET /acl-groups/{name}": access.Reading,
	"POST /acl-groups": access.Administering, "PATCH /acl-groups/{name}": access.Administering, "DELETE /acl-groups/{name}": access.Administering,
	"GET /users": access.Reading, "GET /users/{login}": access.Reading, "POST /users": access.Administering, "DELETE /users/{login}": access.Administering,
	"GET /roles": access.Reading, "PUT /roles/{kind}/{name}": access.Administering, "DELETE /roles/{kind}/{name}": access.Administering,
	"GET /jobs": access.Reading, "GET /jobs/{id}": access.Reading, "GET /jobs/{id}/explain": access.Reading,
	"GET /runs/{id}/logs": access.Reading, "GET /runs/{id}/logs/{stream}": access.Reading, "GET /runs/{id}/artifacts": access.Reading, "GET /runs/{id}/artifacts/{path}": access.Reading, "GET /runs/{id}/results": access.Reading,
	"GET /runs": access.Reading, "GET /runs/{id}": access.Reading, "POST /jobs/{id}/claim": access.Submitting, "POST /runs/{id}/extend": access.ChangingJobs, "POST /runs/{id}/release": access.ChangingJobs,
	"POST /jobs": access.Submitting, "POST /jobs/{id}/abort": access.ChangingJobs, "POST /jobs/{id}/requeue": access.ChangingJobs,
	"GET /suites": access.Reading, "GET /suites/{id}": access.Reading, "POST /suites": access.Submitting, "POST /suites/{id}/abort": access.ChangingJobs,
	"GET /agents": access.Reading, "GET /agents/{name}": access.Reading,
	"POST /agents": access.Administering, "PATCH /agents/{name}": access.Administering, "DELETE /agents/{name}": access.Administering,
	"POST /agents/{name}/join-token": access.Administering, "POST /agents/{name}/rotate": access.Administering, "POST /agents/{name}/revoke": access.Administering,
	"POST /agents/{name}/drain": access.Operating, "POST /agents/{name}/resume": access.Operating, "POST /agents/{name}/stop": access.Operating,
	"GET /events": access.Reading, "GET /cluster": access.Reading, "GET /shards": access.Reading, "GET /servers": access.Reading,
	"POST /shards/{shard}/pause": access.Administering, "POST /shards/{shard}/resume": access.Administering, "POST /shards/{shard}/switchover": access.Administering,
	"GET /attention": access.Reading, "GET /hosts/{hostname}/health": access.Reading, "GET /queue": access.Reading, "GET /summary": access.Reading,
}

// TestEveryRouteHasItsRule walks all routes with all roles.
func TestEveryRouteHasItsRule(t *testing.T) {
	s := newServer(t, storetest.NewLab(t, storetest.SQLiteFile(t)))
	require.Equal(t, rules, api.New(s.config).Rules())

	tokens := map[access.Role]string{access.Nobody: "", access.Admin: s.admin}
	for _, role := range []access.Role{access.Viewer, access.User, access.Operator} {
		tokens[role] = s.token(t, labapi.TokenInput{Login: "root", Name: role.String(), Role: role.String()})
	}
	filled := strings.NewReplacer("{id}", "999999", "{kind}", "user", "{hostname}", "none", "{label}", "none", "{name}", "none", "{login}", "none", "{stream}", "none", "{shard}", "none", "{path}", "none")
	for route, rule := range rules {
		method, path, _ := strings.Cut(route, " ")
		if path == "/events" {
			path = "/events?limit=1"
		}
		for role, token := range tokens {
			if strings.HasPrefix(path, "/log") && token != "" {
				continue // it would end the token
			}
			status := s.callWith(t, token, method, filled.Replace(path), http.Header{"If-Match": {"*"}}, struct{}{}, nil)
			caller := access.Caller{Role: role}
			switch {
			case !rule.MayTry(caller) && role == access.Nobody:
				require.Equal(t, http.StatusUnauthorized, status, "%s as nobody", route)
			case !rule.MayTry(caller):
				require.Equal(t, http.StatusForbidden, status, "%s as %s", route, role)
			default:
				require.NotEqual(t, http.StatusUnauthorized, status, "%s as %s", route, role)
				require.NotEqual(t, http.StatusForbidden, status, "%s as %s", route, role)
			}
		}
	}
}

// raw sends any request, and reads the problem that answers it.
func (s *server) raw(t *testing.T, token, method, path string, body io.Reader) (answered, string) {
	t.Helper()
	req, err := http.NewRequest(method, s.URL+path, body)
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	return answered{res.StatusCode, res.Header}, string(text)
}

// answered is an answer without its body.
type answered struct {
	StatusCode int
	Header     http.Header
}

// endless is a body that is still going on when it was refused long ago.
type endless struct{ left int }

func (e *endless) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	for i := range p {
		p[i] = 'a'
	}
	e.left -= len(p)
	return len(p), nil
}

// TestNonsense: whatever is asked, a problem document answers, and nothing is written.
func TestNonsense(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		s.addHost(t, labapi.HostInput{Hostname: "h1"})
		before := storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_events")
		long := strings.Repeat("x", 300)
		for _, c := range []struct {
			method, path, body string
			status             int
			kind               string
		}{
			{"GET", "/api/v1/nowhere", "", 404, "not-found"},
			{"GET", "/api/v1/hosts/h1/nothing", "", 404, "not-found"},
			{"DELETE", "/api/v1/hosts", "", 405, "method-not-allowed"},
			{"BREW", "/api/v1/hosts/h1", "", 405, "method-not-allowed"},
			{"GET", "/api/v1/hosts?colour=red", "", 422, "bad-input"},
			{"GET", "/api/v1/hosts?limit=0", "", 422, "bad-input"},
			{"GET", "/api/v1/hosts?limit=-5", "", 422, "bad-input"},
			{"GET", "/api/v1/hosts?limit=99999999999999999999", "", 422, "bad-input"},
			{"GET", "/api/v1/hosts?after=nonsense", "", 422, "bad-input"},
			{"GET", "/api/v1/hosts?locked=perhaps", "", 422, "bad-input"},
			{"GET", "/api/v1/hosts?q=%ff%fe", "", 400, "bad-request"},
			{"GET", "/api/v1/hosts?q=%zz", "", 400, "bad-request"},
			{"GET", "/api/v1/hosts?q=a%0Ab", "", 400, "bad-request"},
			{"GET", "/api/v1/hosts/%ff", "", 400, "bad-request"},
			{"GET", "/api/v1/hosts/" + long, "", 422, "bad-input"},
			{"GET", "/api/v1/hosts/none", "", 404, "not-found"},
			{"POST", "/api/v1/hosts", `{"hostname":"h2","colour":"red"}`, 422, "bad-input"},
			{"POST", "/api/v1/hosts", `{"hostname":"h2"`, 400, "bad-request"},
			{"POST", "/api/v1/hosts", `{"HOSTNAME":"h2"}`, 422, "bad-input"},
			{"POST", "/api/v1/hosts", `{"hostname":"h2","Labels":["x"]}`, 422, "bad-input"},
			{"POST", "/api/v1/hosts", `{"hostname":"h2","hostname":"h3"}`, 400, "bad-request"},
			{"POST", "/api/v1/hosts", `{"hostname":"h2","labels":["x"],"attributes":{"a":"1","b":"2","a":"3"}}`, 400, "bad-request"},
			{"PUT", "/api/v1/hosts", `{"hosts":[{"hostname":"h2"},{"hostname":"h3","hostname":"h4"}]}`, 400, "bad-request"},
			{"POST", "/api/v1/hosts", "{\"hostname\":\"\xff\"}", 400, "bad-request"},
			{"POST", "/api/v1/hosts", `{"hostname":"a b"}`, 422, "bad-input"},
			{"POST", "/api/v1/hosts", `{"hostname":"../x"}`, 422, "bad-input"},
			{"POST", "/api/v1/hosts", `{"hostname":""}`, 422, "bad-input"},
			{"POST", "/api/v1/hosts", `{"hostname":"` + long + `"}`, 422, "bad-input"},
			{"POST", "/api/v1/hosts", `{"hostname":"h2","labels":["a\u0000b"]}`, 422, "bad-input"},
			{"POST", "/api/v1/hosts", `{"hostname":"h2","labels":[" a"]}`, 422, "bad-input"},
			{"POST", "/api/v1/hosts", `{"hostname":"h2","labels":["a,b"]}`, 422, "bad-input"},
			{"POST", "/api/v1/hosts", `{"hostname":"h2","labels":[""]}`, 422, "bad-input"},
			{"POST", "/api/v1/hosts", `{"hostname":"h2","acl_groups":["none"]}`, 422, "bad-input"},
			{"POST", "/api/v1/hosts", `{"hostname":"h2","protection":"steel"}`, 422, "bad-input"},
			{"POST", "/api/v1/hosts", `{"hostname":"h2","locked":true}`, 422, "bad-input"},
			{"POST", "/api/v1/hosts", `{"hostname":"h2","attributes":{"` + long + `":"x"}}`, 422, "bad-input"},
			{"PUT", "/api/v1/hosts", `{"hosts":[]}`, 422, "bad-input"},
			{"PUT", "/api/v1/hosts", `{"hosts":[{"hostname":"h2"},{"hostname":"h3","labels":["\u001b[31m"]}]}`, 422, "bad-input"},
			{"PUT", "/api/v1/hosts/h1/lock", `{"reason":""}`, 422, "bad-input"},
			{"PUT", "/api/v1/hosts/h1/lock", `{"reason":"a\nb"}`, 422, "bad-input"},
			{"PUT", "/api/v1/hosts/h1/lock", `{"reason":"x","until":"2001-01-01T00:00:00Z"}`, 422, "bad-input"},
			{"PUT", "/api/v1/hosts/h1/lock", `{"reason":"x","until":"tomorrow"}`, 422, "bad-input"},
			{"PUT", "/api/v1/hosts/h1/drain", `{"reason":"x","abort":true}`, 422, "bad-input"},
			{"POST", "/api/v1/labels", `{"name":"a\tb"}`, 422, "bad-input"},
			{"DELETE", "/api/v1/labels/none", "", 404, "not-found"},
			{"POST", "/api/v1/acl-groups", `{"name":"everyone"}`, 409, "exists"},
			{"POST", "/api/v1/acl-groups", `{"name":"g","users":["none"]}`, 422, "bad-input"},
			{"POST", "/api/v1/acl-groups", `{"name":"g","hosts":["none"]}`, 422, "bad-input"},
			{"DELETE", "/api/v1/acl-groups/none", "", 428, "version-required"},
			{"POST", "/api/v1/users", `{"login":"a\u202eb"}`, 422, "bad-input"},
			{"POST", "/api/v1/users", `{"login":"ROOT"}`, 409, "exists"},
			{"DELETE", "/api/v1/users/none", "", 404, "not-found"},
			{"PUT", "/api/v1/roles/robot/x", `{"role":"admin"}`, 422, "bad-input"},
			{"PUT", "/api/v1/roles/user/x", `{"role":"king"}`, 422, "bad-input"},
			{"DELETE", "/api/v1/roles/user/x", "", 404, "not-found"},
		} {
			res, text := s.raw(t, s.admin, c.method, c.path, strings.NewReader(c.body))
			require.Equal(t, c.status, res.StatusCode, "%s %s %s: %s", c.method, c.path, c.body, text)
			require.Equal(t, "application/problem+json", res.Header.Get("Content-Type"), "%s %s", c.method, c.path)
			require.Contains(t, text, "/problems/"+c.kind, "%s %s %s", c.method, c.path, c.body)
		}
		res, text := s.raw(t, s.admin, http.MethodPost, "/api/v1/hosts", &endless{100 << 20})
		require.Equal(t, http.StatusRequestEntityTooLarge, res.StatusCode, text)
		require.Contains(t, text, "/problems/too-large")
		require.Contains(t, text, "the body may have 1 MiB at most")
		require.Equal(t, before, storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_events"), "nothing was written")
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_hosts"))
		require.Zero(t, storetest.Count(t, db, "SELECT COUNT(*) FROM afe_labels"))
	})
}

// TestTooManyRequests: one token does not take the place of others, and guessing is slow.
func TestTooManyRequests(t *testing.T) {
	var mu sync.Mutex
	served, failures := map[string]int{}, 0
	s := newServerWith(t, storetest.NewLab(t, storetest.SQLiteFile(t)), func(c *api.Config) {
		c.Rate = 1
		c.Served = func(route string, status int, _ time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			served[fmt.Sprint(route, " ", status)]++
		}
		c.LoginFailed = func() { failures++ }
	})
	other := s.token(t, labapi.TokenInput{Login: "root", Name: "other"})
	require.Eventually(t, func() bool {
		res, text := s.raw(t, s.admin, http.MethodGet, "/api/v1/whoami", nil)
		if res.StatusCode != http.StatusTooManyRequests {
			return false
		}
		require.Equal(t, "1", res.Header.Get("Retry-After"))
		require.Contains(t, text, "/problems/too-many-requests")
		return true
	}, 10*time.Second, time.Millisecond)
	require.Equal(t, http.StatusOK, s.call(t, other, http.MethodGet, "/whoami", nil, nil))

	require.Eventually(t, func() bool {
		res, text := s.raw(t, "hsu_wrong", http.MethodGet, "/api/v1/hosts", nil)
		if res.StatusCode != http.StatusTooManyRequests {
			require.Equal(t, http.StatusUnauthorized, res.StatusCode, text)
			return false
		}
		require.Equal(t, "5", res.Header.Get("Retry-After"))
		require.Contains(t, text, "/problems/too-many-failed-logins")
		return true
	}, 10*time.Second, time.Millisecond)
	require.Equal(t, 10, failures)
	require.Equal(t, http.StatusOK, s.call(t, other, http.MethodGet, "/whoami", nil, nil), "a token that was good is let in")
	s.raw(t, other, http.MethodGet, "/api/v1/no/such/path", nil)
	mu.Lock()
	defer mu.Unlock()
	require.Positive(t, served["GET /whoami 200"])
	require.Positive(t, served["GET /whoami 429"])
	require.Positive(t, served["GET /hosts 401"])
	require.Equal(t, 1, served["other 404"])
}

// TestOddNames: names that are there are found, however they look in a path.
func TestOddNames(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		s.addHost(t, labapi.HostInput{Hostname: "h1", Labels: []string{"cros-version:eve-release/R77-1.2.3", "größe:50%"}})
		for _, path := range []string{"cros-version:eve-release%2FR77-1.2.3", "gr%C3%B6%C3%9Fe:50%25"} {
			var p labapi.Pool
			require.Equal(t, http.StatusOK, s.call(t, s.admin, http.MethodGet, "/pools/"+path, nil, &p))
			require.Equal(t, 1, p.Have)
			require.Equal(t, 1, p.Idle)
			var l labapi.Label
			require.Equal(t, http.StatusOK, s.call(t, s.admin, http.MethodGet, "/labels/"+path, nil, &l))
			require.Equal(t, 1, l.Hosts)
			var prob problem
			require.Equal(t, http.StatusConflict, s.call(t, s.admin, http.MethodDelete, "/labels/"+path, nil, &prob))
			require.Equal(t, http.StatusNoContent, s.call(t, s.admin, http.MethodDelete, "/labels/"+path+"?from_hosts=true", nil, nil))
		}
	})
}

// TestBodyThatNeverArrives: a request that is refused is answered, and its connection given
// back, also while its body goes on.
func TestBodyThatNeverArrives(t *testing.T) {
	s := newServer(t, storetest.NewLab(t, storetest.SQLiteFile(t)))
	for _, c := range []struct{ method, path string }{{"POST", "/api/v1/hosts"}, {"GET", "/api/v1/hosts"}, {"PUT", "/api/v1/nowhere"}} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
		require.NoError(t, err)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
		_, err = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: lab\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{", c.method, c.path)
		require.NoError(t, err)
		text, err := io.ReadAll(conn)
		require.NoError(t, err, "%s %s: the server ends the connection", c.method, c.path)
		require.Contains(t, string(text), "/problems/", "%s %s", c.method, c.path)
		require.NoError(t, conn.Close())
	}
}

// TestNameThatMeansThisMachine: a page of a browser that was served under a name which means
// this machine now is not taken for the administrator.
func TestNameThatMeansThisMachine(t *testing.T) {
	s := newServerWith(t, storetest.NewLab(t, storetest.SQLiteFile(t)), func(c *api.Config) { c.Anonymous = access.Admin })
	for host, status := range map[string]int{"localhost:8470": 200, "127.0.0.1": 200, "[::1]:8470": 200, "lab.example:8470": 403, "localhost.example": 403} {
		req, err := http.NewRequest(http.MethodGet, s.URL+"/api/v1/whoami", nil)
		require.NoError(t, err)
		req.Host = host
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, status, res.StatusCode, host)
	}
}
