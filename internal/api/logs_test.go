package api_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/api"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/store"
)

func addRun(t *testing.T, db *store.DB, id int64) {
	t.Helper()
	storetest.Exec(t, db, "INSERT INTO hostsched_runs (id, claim_key, kind, state, token_hash, lease_ms, lease_until, claimed) VALUES (?, ?, 'job', 'running', ?, 1, 1, 1)", id, fmt.Sprint("key ", id), fmt.Sprint("hash ", id))
}

func (s *server) appendLog(t *testing.T, offset int64, data string) {
	t.Helper()
	s.appendLogWithin(t, offset, data, 1<<20)
}

// appendLogWithin appends to a log that may have so many bytes.
func (s *server) appendLogWithin(t *testing.T, offset int64, data string, most int64) {
	t.Helper()
	_, err := s.lab.AppendLog(t.Context(), lab.LogPart{Run: 1, Stream: "output", Offset: offset, Data: []byte(data), Cap: most})
	require.NoError(t, err)
}

// get reads a path with headers.
func (s *server) get(t *testing.T, token, path string, header map[string]string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+api.Prefix+path, nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	for name, value := range header {
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

func (s *server) status(t *testing.T, token, path string, header map[string]string) int {
	t.Helper()
	res := s.get(t, token, path, header)
	require.NoError(t, res.Body.Close())
	return res.StatusCode
}

func (s *server) text(t *testing.T, token, path string) string {
	t.Helper()
	res := s.get(t, token, path, nil)
	defer func() { require.NoError(t, res.Body.Close()) }()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode, string(text))
	return string(text)
}

// readParts reads events of a log until one is its end, or so many bytes came.
func readParts(t *testing.T, lines *bufio.Scanner, most int) (got, id string, over *labapi.LogOver) {
	t.Helper()
	ends := false
	for len(got) < most && lines.Scan() {
		line := lines.Text()
		if text, ok := strings.CutPrefix(line, "id: "); ok {
			id = text
		}
		ends = ends || line == "event: end"
		text, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		if ends {
			require.NoError(t, json.Unmarshal([]byte(text), &over))
			return got, id, over
		}
		var part labapi.LogPart
		require.NoError(t, json.Unmarshal([]byte(text), &part))
		got += string(part.Data)
	}
	return got, id, nil
}

// TestLogs: a log has any bytes, is read from any of them, and is followed to its end with a
// cut in between.
func TestLogs(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, ann, _ := newLabServer(t, db)
		addRun(t, db, 1)
		const first, second = "\x1b[31mred\x1b[0m \x00\xff\r\n", "and more\n"
		s.appendLog(t, 0, first)
		stream := map[string]string{"Accept": "text/event-stream"}
		res := s.get(t, ann, "/runs/1/logs/output", stream)
		require.Equal(t, "text/event-stream", res.Header.Get("Content-Type"))
		got, id, _ := readParts(t, bufio.NewScanner(res.Body), len(first))
		require.Equal(t, first, got)
		require.NoError(t, res.Body.Close())
		s.appendLog(t, int64(len(first)), second)

		stream["Last-Event-ID"] = id
		again := s.get(t, ann, "/runs/1/logs/output", stream)
		defer func() { require.NoError(t, again.Body.Close()) }()
		lines := bufio.NewScanner(again.Body)
		got, _, _ = readParts(t, lines, len(second))
		require.Equal(t, second, got)
		require.NoError(t, s.lab.SealLogs(t.Context(), 1, []labapi.StreamEnd{{Stream: "output", Size: int64(len(first + second)), Cut: 3}}))
		storetest.Exec(t, db, "UPDATE hostsched_runs SET state = 'done'")
		got, _, over := readParts(t, lines, 1<<20)
		require.Empty(t, got)
		require.Equal(t, &labapi.LogOver{Size: int64(len(first + second)), Cut: 3}, over)

		require.Equal(t, first+second, s.text(t, ann, "/runs/1/logs/output"))
		require.Equal(t, second, s.text(t, ann, fmt.Sprintf("/runs/1/logs/output?offset=%d", len(first))))
		require.Empty(t, s.text(t, ann, "/runs/1/logs/output?offset=1000"))
		require.Empty(t, s.text(t, ann, "/runs/1/logs/errors"))
		whole := s.get(t, ann, "/runs/1/logs/output", nil)
		require.NoError(t, whole.Body.Close())
		require.Equal(t, "nosniff", whole.Header.Get("X-Content-Type-Options"))
		var logs labapi.Page[labapi.Log]
		require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodGet, "/runs/1/logs", nil, &logs))
		require.Len(t, logs.Items, 1)

		var p problem
		require.Equal(t, http.StatusNotFound, s.call(t, ann, http.MethodGet, "/runs/2/logs", nil, &p))
		require.Equal(t, http.StatusNotFound, s.call(t, ann, http.MethodGet, "/runs/2/logs/output", nil, &p))
		require.Equal(t, http.StatusUnprocessableEntity, s.call(t, ann, http.MethodGet, "/runs/1/logs/artifact-1", nil, &p))
		require.Equal(t, http.StatusUnauthorized, s.call(t, "", http.MethodGet, "/runs/1/logs/output", nil, &p))
		stream["Last-Event-ID"] = "1000"
		require.Equal(t, http.StatusGone, s.status(t, ann, "/runs/1/logs/output", stream))
		stream["Last-Event-ID"] = "x"
		require.Equal(t, http.StatusUnprocessableEntity, s.status(t, ann, "/runs/1/logs/output", stream))
	})
}

// TestFilesOfRuns are fetched by their paths, which may have folders.
func TestFilesOfRuns(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		s, ann, _ := newLabServer(t, db)
		addRun(t, db, 1)
		sum := sha256.Sum256([]byte("<script>"))
		_, err := s.lab.AppendArtifact(t.Context(), lab.ArtifactPart{Run: 1, Path: "a b/é.html", Size: 8, SHA256: hex.EncodeToString(sum[:]), Data: []byte("<script>")})
		require.NoError(t, err)
		var files labapi.Page[labapi.Artifact]
		require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodGet, "/runs/1/artifacts", nil, &files))
		require.Len(t, files.Items, 1)
		require.Equal(t, "a b/é.html", files.Items[0].Path)
		const path = "/runs/1/artifacts/a%20b%2F%C3%A9.html"
		require.Equal(t, "<script>", s.text(t, ann, path))
		file := s.get(t, ann, path, nil)
		require.NoError(t, file.Body.Close())
		require.Equal(t, "attachment", file.Header.Get("Content-Disposition"))
		var p problem
		require.Equal(t, http.StatusNotFound, s.call(t, ann, http.MethodGet, "/runs/1/artifacts/..%2F..%2Fetc%2Fpasswd", nil, &p))
		require.NoError(t, s.lab.EnterResults(t.Context(), db.SQL(), 1, []labapi.TestResult{{Name: "a", Status: "passed"}, {Name: "b", Status: "failed"}}))
		var results labapi.Page[labapi.TestResult]
		require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodGet, "/runs/1/results?limit=1", nil, &results))
		require.Equal(t, "a", results.Items[0].Name)
		require.Equal(t, http.StatusOK, s.call(t, ann, http.MethodGet, "/runs/1/results?after="+results.After, nil, &results))
		require.Equal(t, "b", results.Items[0].Name)
	})
}
