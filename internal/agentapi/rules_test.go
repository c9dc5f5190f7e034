package agentapi_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/agentapi"
	"github.com/hostsched/hostsched/internal/agentclient"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/storetest"
)

// rules says which token which route asks for. A route that is not here, or has another rule,
// fails.
var rules = map[string]agentapi.Rule{
	"POST /register": agentapi.Joining, "POST /sync": agentapi.Agents, "POST /claims": agentapi.Agents, "POST /drain": agentapi.Agents, "POST /goodbye": agentapi.Agents,
	"POST /runs/{run}/state": agentapi.OfRuns, "POST /runs/{run}/renew": agentapi.OfRuns, "POST /runs/{run}/finish": agentapi.OfRuns,
	"PUT /runs/{run}/logs/{stream}": agentapi.OfRuns, "PUT /runs/{run}/artifacts/{path}": agentapi.OfRuns,
}

func (w *world) raw(token, method, path string, body io.Reader) (status int, text string) {
	w.t.Helper()
	req, err := http.NewRequest(method, w.url+path, body)
	require.NoError(w.t, err)
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(w.t, err)
	answer, err := io.ReadAll(res.Body)
	require.NoError(w.t, err)
	require.NoError(w.t, res.Body.Close())
	if res.StatusCode >= 400 {
		require.Equal(w.t, "application/problem+json", res.Header.Get("Content-Type"), "%s %s", method, path)
	}
	return res.StatusCode, string(answer)
}

// TestEveryRouteHasItsRule walks all routes with every kind of token.
func TestEveryRouteHasItsRule(t *testing.T) {
	w := newWorld(t, storetest.NewLab(t, storetest.SQLiteFile(t)))
	require.Equal(t, rules, w.api.Rules())
	agent := w.token()
	c := w.client(agent)
	w.task("h1", "Verify")
	out, err := c.Sync(t.Context(), begins("s1"))
	require.NoError(t, err)
	claimed, err := c.Claim(t.Context(), labapi.ClaimInput{Session: "s1", ClaimKey: "0123456789abcdef", Offer: out.Offers[0]})
	require.NoError(t, err)
	person, err := w.lab.CreateToken(t.Context(), root, labapi.TokenInput{Login: "root", Name: "t"})
	require.NoError(t, err)
	tokens := map[string]string{"none": "", "a person": person.Secret, "an agent": agent, "a run": claimed.Token, "a join token": w.join}
	may := map[agentapi.Rule]string{agentapi.Agents: "an agent", agentapi.OfRuns: "a run"}
	for route, rule := range rules {
		method, path, _ := strings.Cut(route, " ")
		path = labapi.AgentPrefix + strings.ReplaceAll(path, "{run}", fmt.Sprint(claimed.Run))
		for who, token := range tokens {
			if !strings.HasSuffix(path, "/state") && who == may[rule] {
				continue // that it works is tested elsewhere
			}
			req := httptest.NewRequest(method, path, strings.NewReader(`{"phase":"running"}`))
			req.Header.Set("Content-Type", "application/json")
			if token != "" {
				req.Header.Set("Authorization", "Bearer "+token)
			}
			res := httptest.NewRecorder()
			agentapi.New(w.config).ServeHTTP(res, req) // which has seen no failed login yet
			status, text := res.Code, res.Body.String()
			switch {
			case rule == agentapi.Joining:
				require.Equal(t, http.StatusUnprocessableEntity, status, "%s as %s: %s", route, who, text)
			case who == may[rule]:
				require.Equal(t, http.StatusOK, status, "%s as %s: %s", route, who, text)
			default:
				require.Equal(t, http.StatusUnauthorized, status, "%s as %s: %s", route, who, text)
			}
		}
	}
}

// TestNonsense: whatever is asked, a problem document answers, and nothing is written.
func TestNonsense(t *testing.T) {
	onEachWorld(t, func(t *testing.T, w *world) {
		token := w.token()
		_, err := w.client(token).Sync(t.Context(), begins("s1"))
		require.NoError(t, err)
		before := storetest.Count(t, w.db, "SELECT COUNT(*) FROM hostsched_events")
		for _, c := range []struct {
			path, body string
			status     int
		}{
			{"/nowhere", "", 404}, {"/sync", "", 400}, {"/sync", "{", 400}, {"/sync", `{"session":"s1"}`, 422}, {"/sync", "{\"session\":\"\xff\"}", 400},
			{"/sync", `{"session":"s1","boot_id":"b","version":"v","protocols":{"least":1,"most":1},"capacity":-1}`, 422},
			{"/sync", `{"session":"s1","boot_id":"b","version":"v","protocols":{"least":1,"most":1},"capacity":1,"wait_ms":20001}`, 422},
			{"/sync", `{"session":"s1","boot_id":"b","version":"v","protocols":{"least":1,"most":1},"capacity":1,"hosts":["h1"]}`, 422},
			{"/sync", `{"session":"` + strings.Repeat("s", 65) + `","boot_id":"b","version":"v","protocols":{"least":1,"most":1},"capacity":1}`, 422},
			{"/claims", `{"session":"s1","claim_key":"short","offer":{"kind":"job","hosts":[]}}`, 422},
			{"/claims", `{"session":"s1","claim_key":"0123456789abcdef","offer":{"kind":"Dance","hosts":[]}}`, 422},
			{"/claims", `{"session":"s1","claim_key":"0123456789abcdef","offer":{"kind":"job","hosts":[]}}`, 422},
			{"/claims", `{"session":"s1","claim_key":"0123456789abcdef","offer":{"kind":"Verify","task":4711,"hosts":["h1"]}}`, 409},
			{"/goodbye", `{"session":""}`, 422},
		} {
			status, text := w.raw(token, http.MethodPost, labapi.AgentPrefix+c.path, strings.NewReader(c.body))
			require.Equal(t, c.status, status, "%s %s: %s", c.path, c.body, text)
		}
		status, _ := w.raw(token, http.MethodGet, labapi.AgentPrefix+"/sync", nil)
		require.Equal(t, http.StatusMethodNotAllowed, status)
		status, _ = w.raw(token, http.MethodPost, labapi.AgentPrefix+"/sync", bytes.NewReader(make([]byte, 2<<20)))
		require.Equal(t, http.StatusRequestEntityTooLarge, status)
		status, _ = w.raw(token, http.MethodPost, labapi.AgentPrefix+"/sync", bytes.NewReader(make([]byte, 1<<20)))
		require.Equal(t, http.StatusBadRequest, status, "as long as the bound is not too long")
		require.Equal(t, before, storetest.Count(t, w.db, "SELECT COUNT(*) FROM hostsched_events"), "nothing was written")
	})
}

// TestBounds: an agent that calls in a loop takes no time from others, and guessing is slow.
func TestBounds(t *testing.T) {
	var mu sync.Mutex
	failed := 0
	served := map[string]int{}
	w := newWorldWith(t, storetest.NewLab(t, storetest.SQLiteFile(t)), func(c *agentapi.Config) {
		c.Rate = 1
		c.LoginFailed = func() { failed++ }
		c.Served = func(route string, status int, _ time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			served[fmt.Sprint(route, " ", status)]++
		}
	})
	c := w.registered()
	require.Eventually(t, func() bool {
		_, err := c.Sync(t.Context(), begins("s1"))
		return agentclient.Passing(err) && strings.Contains(err.Error(), "more requests than")
	}, soon, time.Millisecond)
	require.Eventually(t, func() bool {
		_, err := w.client("").Register(t.Context(), labapi.AgentJoin{JoinToken: "hsj_guess", Name: "rack-1", Protocols: ours})
		return strings.Contains(err.Error(), "too many logins failed")
	}, soon, time.Millisecond)
	require.Equal(t, 10, failed)
	mu.Lock()
	defer mu.Unlock()
	require.Positive(t, served["POST /agent/v1/sync 200"])
	require.Positive(t, served["POST /agent/v1/sync 429"])
	require.Positive(t, served["POST /agent/v1/register 401"])
}

// requireSent sends a log and a file as a claimant does whose answers are lost.
func requireSent(t *testing.T, run *agentclient.Run) {
	t.Helper()
	end, err := run.PutLog(t.Context(), "stdout", 0, []byte("h\x00\xff\r\n"))
	require.NoError(t, err)
	require.Equal(t, int64(5), end.End)
	require.NotZero(t, end.LeaseMillis)
	var offset *agentclient.OffsetError
	_, err = run.PutLog(t.Context(), "stdout", 0, []byte("hello"))
	require.ErrorAs(t, err, &offset)
	require.Equal(t, int64(5), offset.Expected)
	file := agentclient.Artifact{Path: "a/b.txt", Size: 3, SHA256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
	_, err = run.PutArtifact(t.Context(), file, 0, []byte("abc"))
	require.NoError(t, err)
	file.Path = "../b.txt"
	_, err = run.PutArtifact(t.Context(), file, 0, []byte("abc"))
	require.ErrorIs(t, err, agentclient.ErrRefused)
}
