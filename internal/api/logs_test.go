package api_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"gocloud.dev/blob/fileblob"

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

// TestFilesThatAreMissing: what a run left and is not where it was put, or cannot be read there,
// is answered with a problem that says which file where, and the server says it in its log.
func TestFilesThatAreMissing(t *testing.T) {
	folder := t.TempDir()
	files, err := fileblob.OpenBucket(folder, &fileblob.Options{NoTempDir: true, Metadata: fileblob.MetadataDontWrite})
	require.NoError(t, err)
	defer func() { require.NoError(t, files.Close()) }()
	var out bytes.Buffer
	var writing sync.Mutex
	said := func() string {
		writing.Lock()
		defer writing.Unlock()
		return out.String()
	}
	s, ann, _ := newLabServerWith(t, storetest.NewLab(t, storetest.SQLiteFile(t)), func(c *api.Config) {
		c.Log = hclog.New(&hclog.LoggerOptions{Output: &out, Mutex: &writing})
	})
	s.lab.KeepFilesIn(files, folder)
	addRun(t, s.db, 1)
	s.appendLog(t, 0, "hello")
	sum := sha256.Sum256([]byte("file"))
	_, err = s.lab.AppendArtifact(t.Context(), lab.ArtifactPart{Run: 1, Path: "a.txt", Size: 4, SHA256: hex.EncodeToString(sum[:]), Data: []byte("file")})
	require.NoError(t, err)
	require.NoError(t, s.lab.SealLogs(t.Context(), 1, []labapi.StreamEnd{{Stream: "output", Size: 5}}))
	storetest.Exec(t, s.db, "UPDATE hostsched_runs SET state = 'done'")
	moved, err := s.lab.MoveLogs(t.Context())
	require.NoError(t, err)
	require.Equal(t, 2, moved)
	require.Equal(t, "hello", s.text(t, ann, "/runs/1/logs/output"))
	require.Equal(t, "file", s.text(t, ann, "/runs/1/artifacts/a.txt"))

	refused := func(status int, name, why string) {
		t.Helper()
		for path, file := range map[string]string{"/runs/1/logs/output": "runs/1/output", "/runs/1/artifacts/a.txt": "runs/1/artifact-1"} {
			for _, accept := range []string{"*/*", "text/event-stream"} {
				res := s.get(t, ann, path, map[string]string{"Accept": accept})
				require.Equal(t, status, res.StatusCode, path+accept)
				require.Equal(t, "application/problem+json", res.Header.Get("Content-Type"))
				require.Empty(t, res.Header.Get("Hostsched-Log-Complete"))
				var p problem
				require.NoError(t, json.NewDecoder(res.Body).Decode(&p))
				require.Equal(t, "/problems/"+name, p.Type)
				require.Contains(t, p.Detail, file)
				require.Contains(t, p.Detail, folder)
				require.Contains(t, p.Detail, why)
				require.NoError(t, res.Body.Close())
				require.Contains(t, said(), why)
			}
		}
	}
	for _, file := range []string{"output", "artifact-1"} {
		require.NoError(t, os.Truncate(filepath.Join(folder, "runs", "1", file), 3))
	}
	refused(http.StatusGone, "file-missing", "has 3 bytes")
	require.NoError(t, os.RemoveAll(filepath.Join(folder, "runs")))
	refused(http.StatusGone, "file-missing", "there is no runs/1/")
	require.NoError(t, os.WriteFile(filepath.Join(folder, "runs"), nil, 0o600))
	refused(http.StatusServiceUnavailable, "file-not-readable", "not a directory")
	require.Empty(t, s.text(t, ann, "/runs/1/logs/errors"), "one of which nothing came is empty")
	require.Equal(t, 1, strings.Count(said(), "there is no runs/1/output"), "said once, and not for each call")
}
