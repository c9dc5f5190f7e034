package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/api"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/runs"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

// TestDocument: the contract in the repository is the one that is served.
func TestDocument(t *testing.T) {
	served, err := api.Document()
	require.NoError(t, err)
	kept, err := os.ReadFile("openapi.json")
	require.NoError(t, err)
	require.JSONEq(t, string(kept), string(served), "run 'go generate ./internal/api', and read the difference")
}

// server is an API on an empty lab, whose administrator is root.
type server struct {
	*httptest.Server
	db  *store.DB
	lab *lab.Lab
	api *api.API
	// config is what the API was made with.
	config api.Config
	// admin is root's token.
	admin string
}

func newServer(t *testing.T, db *store.DB) *server {
	t.Helper()
	return newServerWith(t, db, func(*api.Config) {})
}

// newServerWith is a server whose configuration differs.
func newServerWith(t *testing.T, db *store.DB, change func(*api.Config)) *server {
	t.Helper()
	storetest.Exec(t, db, "INSERT INTO afe_users (login, access_level, reboot_before, reboot_after) VALUES ('root', 100, 0, 0)")
	l := lab.New(db, store.Scope{Shard: shard.Master, Shared: true})
	s := &server{db: db, lab: l, config: api.Config{
		Version: "test", Lab: func() *lab.Lab { return l }, Runs: func() *runs.Runs { return runs.New(l) }, Waiting: func() string { return "" }, Wake: func(shard.Name, ...int64) {}, MaxPriority: 100, Log: hclog.NewNullLogger(),
	}}
	change(&s.config)
	s.api = api.New(s.config)
	s.Server = httptest.NewServer(s.api)
	t.Cleanup(s.Close)
	s.admin = s.token(t, labapi.TokenInput{Login: "root", Name: "test"})
	return s
}

func (s *server) token(t *testing.T, in labapi.TokenInput) string {
	t.Helper()
	made, err := s.lab.CreateToken(context.Background(), access.Caller{Login: "test", Role: access.Admin}, in)
	require.NoError(t, err)
	return made.Secret
}

// call sends a request and reads the answer into out, if there is any.
func (s *server) call(t *testing.T, token, method, path string, in, out any) (status int) {
	t.Helper()
	return s.callWith(t, token, method, path, nil, in, out)
}

// version returns the ETag of what a path has.
func (s *server) version(t *testing.T, path string) (status int, version string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, s.URL+api.Prefix+path, nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+s.admin)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	return res.StatusCode, res.Header.Get("ETag")
}

// callWith is call with headers.
func (s *server) callWith(t *testing.T, token, method, path string, header http.Header, in, out any) (status int) {
	t.Helper()
	var body bytes.Buffer
	if in != nil {
		require.NoError(t, json.NewEncoder(&body).Encode(in))
	}
	headers := map[string]string{"Content-Type": "application/json"}
	for name, values := range header {
		headers[name] = values[0]
	}
	if token != "" {
		headers["Authorization"] = "Bearer " + token
	}
	return s.send(t, method, path, headers, &body, out)
}

func (s *server) send(t *testing.T, method, path string, headers map[string]string, body io.Reader, out any) (status int) {
	t.Helper()
	req, err := http.NewRequest(method, s.URL+api.Prefix+path, body)
	require.NoError(t, err)
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { require.NoError(t, res.Body.Close()) }()
	if out != nil {
		text, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		reflect.ValueOf(out).Elem().SetZero() // what an earlier answer said is over
		require.NoError(t, json.Unmarshal(text, out), string(text))
	}
	return res.StatusCode
}

func TestTokens(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s := newServer(t, db)
		var me labapi.Whoami
		require.Equal(t, http.StatusOK, s.call(t, s.admin, http.MethodGet, "/whoami", nil, &me))
		require.Equal(t, labapi.Whoami{Login: "root", Role: "admin", By: "token", Owner: "root"}, me)

		var made labapi.NewToken
		require.Equal(t, http.StatusCreated, s.call(t, s.admin, http.MethodPost, "/tokens", labapi.TokenInput{Name: "ci", Role: "viewer"}, &made))
		require.Equal(t, http.StatusOK, s.call(t, made.Secret, http.MethodGet, "/whoami", nil, &me))
		require.Equal(t, "viewer", me.Role)

		require.Equal(t, http.StatusNoContent, s.call(t, s.admin, http.MethodDelete, "/tokens/"+jsonText(t, made.ID), nil, nil))
		var problem struct{ Type, Detail string }
		require.Equal(t, http.StatusUnauthorized, s.call(t, made.Secret, http.MethodGet, "/whoami", nil, &problem))
		require.Equal(t, "/problems/token-not-valid", problem.Type)
	})
}

func jsonText(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return string(text)
}
