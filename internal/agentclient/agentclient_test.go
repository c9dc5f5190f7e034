package agentclient_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/agentclient"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
)

func newClient(t *testing.T, handlers ...http.HandlerFunc) *agentclient.Client {
	t.Helper()
	cfg := labclient.Config{Token: "hsa_agent"}
	for _, h := range handlers {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		cfg.Servers = append(cfg.Servers, s.URL)
	}
	c, err := agentclient.New(cfg)
	require.NoError(t, err)
	return c
}

func problem(status int, name, more string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"type":"/problems/%s","status":%d,"detail":"so it is"%s}`, name, status, more)
	}
}

// TestCalls: each call goes to its path with its token and its values.
func TestCalls(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	c := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.Method+" "+r.RequestURI+" "+r.Header.Get("Authorization")+" "+string(text))
		switch r.URL.Path {
		case "/agent/v1/claims":
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, `{"run":7,"token":"hsr_run","lease_ms":1000}`)
		case "/agent/v1/drain", "/agent/v1/goodbye":
			w.WriteHeader(http.StatusNoContent)
		case "/agent/v1/runs/7/logs/stdout":
			_, _ = io.WriteString(w, `{"end":105,"lease_ms":1000}`)
		default:
			_, _ = io.WriteString(w, `{"lease_ms":1000,"token":"hsa_new","stop":{"run":7,"reason":"aborted","grace_ms":5}}`)
		}
	})
	ctx := t.Context()
	joined, err := c.Register(ctx, labapi.AgentJoin{JoinToken: "hsj_x", Name: "a"})
	require.NoError(t, err)
	require.Equal(t, "hsa_new", joined.Token)
	c, err = c.As(joined.Token)
	require.NoError(t, err)
	claimed, err := c.Claim(ctx, labapi.ClaimInput{Session: "s", ClaimKey: "k"})
	require.NoError(t, err)
	require.EqualValues(t, 7, claimed.Run)
	require.NoError(t, c.Drain(ctx, labapi.AgentLeave{Session: "s", Reason: "upgrade"}))
	require.NoError(t, c.Goodbye(ctx, labapi.AgentLeave{Session: "s"}))
	run, err := c.Run(claimed.Run, claimed.Token)
	require.NoError(t, err)
	answer, err := run.State(ctx, labapi.RunState{Phase: "running"})
	require.NoError(t, err)
	require.Equal(t, labapi.RunAnswer{LeaseMillis: 1000, Stop: &labapi.Stop{Run: 7, Reason: "aborted", GraceMillis: 5}}, answer)
	_, err = run.Renew(ctx)
	require.NoError(t, err)
	end, err := run.PutLog(ctx, "stdout", 100, []byte("\xff\x00bin"))
	require.NoError(t, err)
	require.EqualValues(t, 105, end.End)
	require.EqualValues(t, 1000, end.LeaseMillis)
	_, err = run.Finish(ctx, labapi.RunFinish{Result: "passed"})
	require.NoError(t, err)
	require.Equal(t, []string{
		`POST /agent/v1/register Bearer hsa_agent {"join_token":"hsj_x","name":"a","version":"","protocols":{"least":0,"most":0}}`,
		`POST /agent/v1/claims Bearer hsa_new {"session":"s","claim_key":"k","offer":{"kind":"","hosts":null}}`,
		`POST /agent/v1/drain Bearer hsa_new {"session":"s","reason":"upgrade"}`,
		`POST /agent/v1/goodbye Bearer hsa_new {"session":"s"}`,
		`POST /agent/v1/runs/7/state Bearer hsr_run {"phase":"running"}`,
		`POST /agent/v1/runs/7/renew Bearer hsr_run `,
		"PUT /agent/v1/runs/7/logs/stdout?offset=100 Bearer hsr_run \xff\x00bin",
		`POST /agent/v1/runs/7/finish Bearer hsr_run {"result":"passed"}`,
	}, seen)
}

// TestErrors: what an answer means does not depend on the call, and what is no answer of
// hostsched means nothing: a proxy does not revoke an agent.
func TestErrors(t *testing.T) {
	for _, tt := range []struct {
		answer  http.HandlerFunc
		is      error
		passing bool
	}{
		{problem(401, "token-not-valid", ""), agentclient.ErrToken, true},
		{problem(403, "agent-revoked", ""), agentclient.ErrRevoked, false},
		{problem(409, "session-replaced", ""), agentclient.ErrReplaced, false},
		{problem(409, "offer-gone", ""), agentclient.ErrOfferGone, false},
		{problem(409, "runner-is-autotest", ""), agentclient.ErrAutotest, true},
		{problem(410, "run-lost", ""), agentclient.ErrRunLost, false},
		{problem(413, "log-full", ""), agentclient.ErrLogFull, false},
		{problem(426, "protocol-not-spoken", ""), agentclient.ErrProtocol, false},
		{problem(422, "bad-input", ""), agentclient.ErrRefused, false},
		{problem(429, "too-many-requests", ""), labclient.ErrAway, true},
		{problem(503, "not-ready", ""), labclient.ErrAway, true},
		{problem(500, "internal", ""), labclient.ErrAway, true},
		{func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "forbidden", http.StatusForbidden) }, labclient.ErrAway, true},
		{func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "who are you", http.StatusUnauthorized) }, labclient.ErrAway, true},
		{func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "gone", http.StatusGone) }, labclient.ErrAway, true},
		{func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, labclient.ErrAway, true},
	} {
		c := newClient(t, tt.answer)
		run, err := c.Run(1, "hsr_run")
		require.NoError(t, err)
		_, sync := c.Sync(t.Context(), labapi.AgentSync{})
		_, claim := c.Claim(t.Context(), labapi.ClaimInput{})
		_, state := run.State(t.Context(), labapi.RunState{})
		_, log := run.PutLog(t.Context(), "stdout", 0, nil)
		_, finish := run.Finish(t.Context(), labapi.RunFinish{})
		for _, err := range []error{sync, claim, state, log, finish} {
			require.ErrorIs(t, err, tt.is)
			require.Equal(t, tt.passing, agentclient.Passing(err), "%v", err)
		}
	}
}

// TestLogsGoOnWhereTheServersAre also after an answer was lost.
func TestLogsGoOnWhereTheServersAre(t *testing.T) {
	run, err := newClient(t, problem(409, "log-offset", `,"expected_offset":17`)).Run(1, "hsr_run")
	require.NoError(t, err)
	_, err = run.PutLog(t.Context(), "stdout", 3, []byte("x"))
	var offset *agentclient.OffsetError
	require.ErrorAs(t, err, &offset)
	require.EqualValues(t, 17, offset.Expected)
	require.False(t, agentclient.Passing(err))
}

// TestUnfinished: a run ends only when the servers have all of its logs.
func TestUnfinished(t *testing.T) {
	var calls atomic.Int32
	run, err := newClient(t, func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, `{"lease_ms":1,"unfinished":true}`)
			return
		}
		_ = json.NewEncoder(w).Encode(labapi.RunAnswer{LeaseMillis: 1})
	}).Run(1, "hsr_run")
	require.NoError(t, err)
	_, err = run.Finish(t.Context(), labapi.RunFinish{Result: "passed"})
	require.ErrorIs(t, err, agentclient.ErrUnfinished)
	_, err = run.Finish(t.Context(), labapi.RunFinish{Result: "passed"})
	require.NoError(t, err)
}

// TestTheNextServer is asked when one is cut off in the middle of a call, also for claims:
// their keys make them one.
func TestTheNextServer(t *testing.T) {
	c := newClient(t, func(w http.ResponseWriter, _ *http.Request) {
		if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_ = conn.Close()
		}
	}, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"run":7}`) })
	claimed, err := c.Claim(t.Context(), labapi.ClaimInput{})
	require.NoError(t, err)
	require.EqualValues(t, 7, claimed.Run)
}

// TestManyCallsAtOnce share a client: a long poll, and the calls of the runs.
func TestManyCallsAtOnce(t *testing.T) {
	waiting, release := make(chan struct{}), make(chan struct{})
	c := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/agent/v1/sync" {
			close(waiting)
			<-release
		}
		_, _ = io.WriteString(w, `{"lease_ms":1000}`)
	})
	synced := make(chan error, 1)
	go func() {
		_, err := c.Sync(t.Context(), labapi.AgentSync{WaitMillis: 20_000})
		synced <- err
	}()
	<-waiting
	var group sync.WaitGroup
	for id := range int64(20) {
		group.Go(func() {
			run, err := c.Run(id, "hsr_run")
			if err == nil {
				_, err = run.Renew(t.Context())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	close(release)
	require.NoError(t, <-synced)
}

// TestKeep repeats what passes, and nothing else.
func TestKeep(t *testing.T) {
	calls := 0
	var pauses []time.Duration
	err := agentclient.Keep(t.Context(), func() error {
		calls++
		if calls == 1 {
			return fmt.Errorf("%w: for now", labclient.ErrAway)
		}
		return fmt.Errorf("%w: for good", agentclient.ErrRunLost)
	}, func(err error, pause time.Duration) {
		require.ErrorIs(t, err, labclient.ErrAway)
		pauses = append(pauses, pause)
	})
	require.ErrorIs(t, err, agentclient.ErrRunLost)
	require.Equal(t, 2, calls)
	require.Len(t, pauses, 1)

	ctx, cancel := context.WithCancelCause(t.Context())
	ended := errors.New("the agent ends")
	err = agentclient.Keep(ctx, func() error { return labclient.ErrAway }, func(error, time.Duration) { cancel(ended) })
	require.ErrorIs(t, err, ended)
}

// TestBackOff: from one second to one minute, never the same.
func TestBackOff(t *testing.T) {
	b := agentclient.NewBackOff()
	seen := map[time.Duration]bool{}
	for range 100 {
		pause := b.NextBackOff()
		require.GreaterOrEqual(t, pause, time.Second)
		require.LessOrEqual(t, pause, time.Minute)
		seen[pause] = true
	}
	require.Greater(t, len(seen), 50)
}
