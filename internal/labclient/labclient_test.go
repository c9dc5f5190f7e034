package labclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
)

func newClient(t *testing.T, servers ...string) *labclient.Client {
	t.Helper()
	c, err := labclient.New(labclient.Config{Servers: servers, Token: "secret"})
	require.NoError(t, err)
	return c
}

func server(t *testing.T, handle http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	return s.URL
}

// cutOff is a server that takes a request and ends the connection without an answer.
func cutOff(t *testing.T, calls *atomic.Int32) string {
	return server(t, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	})
}

// nobody is an address at which nobody listens.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return "http://" + l.Addr().String()
}

// TestNextServer: whatever is asked for, a server that nobody reached or that is not
// ready is passed over, and the one that answered is asked first the next time.
func TestNextServer(t *testing.T) {
	var notReady, ready atomic.Int32
	waits := server(t, func(w http.ResponseWriter, _ *http.Request) {
		notReady.Add(1)
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"type":"/problems/not-ready","status":503,"detail":"this replica waits"}`)
	})
	answers := server(t, func(w http.ResponseWriter, r *http.Request) {
		ready.Add(1)
		if r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusUnauthorized)
		}
		_, _ = io.WriteString(w, `{"login":"alice"}`)
	})
	c := newClient(t, nobody(t), waits, answers)
	for range 2 {
		var me labapi.Whoami
		require.NoError(t, c.Do(t.Context(), labclient.Call{Method: http.MethodPost, Path: "/x"}, &me))
		require.Equal(t, "alice", me.Login)
	}
	require.Equal(t, []int32{1, 2}, []int32{notReady.Load(), ready.Load()})

	err := newClient(t, nobody(t), waits).Get(t.Context(), "/x", nil, nil)
	require.ErrorIs(t, err, labclient.ErrAway)
	require.ErrorContains(t, err, "this replica waits")
	err = newClient(t, waits).Get(t.Context(), "/x", nil, nil)
	require.ErrorIs(t, err, labclient.ErrAway)
	require.ErrorContains(t, err, "no server can do this now: "+waits+": this replica waits", "it did answer")
}

// TestWhatMayHaveBeenDone is not sent again, unless twice is the same as once.
func TestWhatMayHaveBeenDone(t *testing.T) {
	for _, tt := range []struct {
		method, key string
		again       bool
	}{
		{http.MethodPost, "", false},
		{http.MethodPost, `"k"`, true},
		{http.MethodGet, "", true},
		{http.MethodPut, "", true},
		{http.MethodDelete, "", true},
	} {
		t.Run(tt.method+tt.key, func(t *testing.T) {
			var first, second atomic.Int32
			answers := server(t, func(http.ResponseWriter, *http.Request) { second.Add(1) })
			call := labclient.Call{Method: tt.method, Path: "/x", Header: http.Header{}}
			if tt.key != "" {
				call.Header.Set("Idempotency-Key", tt.key)
			}
			err := newClient(t, cutOff(t, &first), answers).Do(t.Context(), call, nil)
			require.NotZero(t, first.Load())
			require.Equal(t, tt.again, second.Load() == 1)
			if !tt.again {
				require.ErrorIs(t, err, labclient.ErrAway)
				require.EqualValues(t, 1, first.Load())
			}
		})
	}
}

// TestTokensStayWithTheirServer: a redirect is an answer that makes no sense.
func TestTokensStayWithTheirServer(t *testing.T) {
	var asked atomic.Int32
	other := server(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	from := server(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other, http.StatusFound) })
	var p *labclient.Problem
	require.ErrorAs(t, newClient(t, from).Get(t.Context(), "/x", nil, nil), &p)
	require.Equal(t, http.StatusFound, p.Status)
	require.Zero(t, asked.Load())
}

// TestNamesInPaths: whatever somebody types is one part of the path, or refused.
func TestNamesInPaths(t *testing.T) {
	c := newClient(t, server(t, func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprintf(w, "%q", r.URL.EscapedPath()) }))
	for name, want := range map[string]string{"a/b": "a%2Fb", "a?b": "a%3Fb", "%2f": "%252f", "a#b": "a%23b", "...": "..."} {
		var got string
		require.NoError(t, c.Get(t.Context(), labclient.Path("hosts", name), nil, &got))
		require.Equal(t, labclient.Prefix+"/hosts/"+want, got)
	}
	for _, name := range []string{".", ".."} {
		require.ErrorIs(t, c.Get(t.Context(), labclient.Path("hosts", name), nil, nil), labclient.ErrSetting)
	}
}

// TestFollow: after a connection broke off, events go on after the last one.
func TestFollow(t *testing.T) {
	var sent atomic.Int32
	stream := server(t, func(w http.ResponseWriter, r *http.Request) {
		next := sent.Add(1)
		if last := r.Header.Get("Last-Event-ID"); next > 1 && last != fmt.Sprint(next-1) {
			t.Errorf("asked for events after %q, not after %d", last, next-1)
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = fmt.Fprintf(w, ": hello\n\nid: %d\ndata: {\"id\":%[1]d,\"kind\":\"host.added\"}\n\n", next)
	})
	enough := errors.New("enough")
	var got []int64
	away := 0
	err := newClient(t, stream).Follow(context.Background(), nil, "", func(e labapi.Event) error {
		if got = append(got, e.ID); len(got) == 3 {
			return enough
		}
		return nil
	}, func(error) { away++ })
	require.ErrorIs(t, err, enough)
	require.Equal(t, []int64{1, 2, 3}, got)
	require.Equal(t, 2, away)
}

// TestContexts: the file is for its person alone, and one with a token that others may read
// is refused.
func TestContexts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hostsched", "config.yaml")
	all, err := labclient.ReadContexts(path)
	require.NoError(t, err)
	all.Current = "lab"
	all.Contexts["lab"] = labclient.Context{Servers: []string{"http://a"}, Token: "secret"}
	require.NoError(t, all.Write(path))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	again, err := labclient.ReadContexts(path)
	require.NoError(t, err)
	require.Equal(t, all, again)

	require.NoError(t, os.Chmod(path, 0o640))
	_, err = labclient.ReadContexts(path)
	require.ErrorIs(t, err, labclient.ErrSetting)
	require.ErrorContains(t, err, "chmod 600")
	require.NoError(t, os.WriteFile(path, []byte("contexts: {lab: {server: x}}"), 0o600))
	_, err = labclient.ReadContexts(path)
	require.ErrorIs(t, err, labclient.ErrSetting)
}

// TestTraceOfTheCaller goes along with every call.
func TestTraceOfTheCaller(t *testing.T) {
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	var got atomic.Value
	c, err := labclient.New(labclient.Config{Trace: trace, Servers: []string{server(t, func(w http.ResponseWriter, r *http.Request) {
		got.Store(r.Header.Get("traceparent"))
		w.WriteHeader(http.StatusNoContent)
	})}})
	require.NoError(t, err)
	require.NoError(t, c.Do(t.Context(), labclient.Call{Method: http.MethodPost, Path: "/jobs"}, nil))
	require.Equal(t, trace, got.Load())
}
