package runfiles_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hostsched/hostsched/internal/agentclient"
	"github.com/hostsched/hostsched/internal/runfiles"
)

// folder makes a folder of a run; a name that ends with @ is a link to what it has.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, strings.TrimSuffix(name, "@"))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if strings.HasSuffix(name, "@") {
			require.NoError(t, os.Symlink(text, path))
			continue
		}
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return dir
}

// servers keep what is sent to them.
type servers struct {
	files map[string][]byte
	calls int
	// err answers one call, if it is not nil.
	err func(path string, calls int) error
}

func (s *servers) put(_ context.Context, file agentclient.Artifact, offset int64, data []byte) (int64, error) {
	s.calls++
	if s.err != nil {
		if err := s.err(file.Path, s.calls); err != nil {
			return 0, err
		}
	}
	have := s.files[file.Path]
	if offset != int64(len(have)) {
		return 0, &agentclient.OffsetError{Expected: int64(len(have))}
	}
	s.files[file.Path] = append(have, data...)
	if len(s.files[file.Path]) == int(file.Size) && fmt.Sprintf("%x", sha256.Sum256(s.files[file.Path])) != file.SHA256 {
		delete(s.files, file.Path)
		return 0, &agentclient.OffsetError{}
	}
	return int64(len(s.files[file.Path])), nil
}

func send(t *testing.T, f *runfiles.Found, s *servers) []string {
	t.Helper()
	s.files = map[string][]byte{}
	require.NoError(t, f.Send(t.Context(), s.put))
	require.Zero(t, f.Left())
	var names []string
	for name := range s.files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func own() uint32 { return uint32(os.Getuid()) }

const report = `<testsuite><testcase name="a"/><testcase name="b"><failure message="key hunter2"/></testcase></testsuite>`

func TestFilesAreFoundByPatterns(t *testing.T) {
	dir := folder(t, map[string]string{"a.log": "1", "b.txt": "2", "logs/c.log": "3", "logs/deep/d.log": "", "e [x].log": "5", ".hidden.log": "6"})
	for _, c := range []struct {
		patterns, want []string
	}{
		{[]string{"*.log"}, []string{".hidden.log", "a.log", "e [x].log"}},
		{[]string{"**/*.log"}, []string{".hidden.log", "a.log", "e [x].log", "logs/c.log", "logs/deep/d.log"}},
		{[]string{"./logs/**", "a.log", "*.none"}, []string{"a.log", "logs/c.log", "logs/deep/d.log"}},
		{[]string{"b.{txt,log}"}, []string{"b.txt"}},
		{[]string{"logs"}, nil},
	} {
		found := runfiles.Collect(t.Context(), dir, runfiles.Wanted{Artifacts: c.patterns, Owner: own()})
		require.Equal(t, c.want, send(t, found, &servers{}), c.patterns)
		require.Empty(t, found.Detail())
		require.NoError(t, found.Close())
	}
	require.Empty(t, send(t, runfiles.Collect(t.Context(), "/none", runfiles.Wanted{}), &servers{}))
}

// TestNothingOutsideOfTheFolderIsKept, whatever the job put there.
func TestNothingOutsideOfTheFolderIsKept(t *testing.T) {
	secret := folder(t, map[string]string{"secret.xml": report, "dir/secret.xml": report})
	dir := folder(t, map[string]string{"x/link.xml@": filepath.Join(secret, "secret.xml"), "x/dir@": filepath.Join(secret, "dir"), "x/up@": "..", "x/own.xml": report})
	require.NoError(t, unix.Mkfifo(filepath.Join(dir, "x", "pipe.xml"), 0o600))
	require.NoError(t, os.Link(filepath.Join(secret, "secret.xml"), filepath.Join(dir, "x", "hard.xml")))
	// The folder's user is another one than the secret's.
	found := runfiles.Collect(t.Context(), dir, runfiles.Wanted{Artifacts: []string{"**"}, Results: "junit", Owner: own() + 1})
	require.Equal(t, []string{"x/own.xml"}, send(t, found, &servers{}))
	require.Len(t, found.Tests, 2)
	require.Contains(t, found.Detail(), "x/hard.xml: it is a link to another user's file")
	require.NoError(t, found.Close())
}

func TestResults(t *testing.T) {
	tap := "1..2\nok 1 - a\nnot ok 2 - b\n"
	output := filepath.Join(t.TempDir(), "stdout")
	require.NoError(t, os.WriteFile(output, []byte("booting\n"+tap), 0o600))
	for name, c := range map[string]struct {
		files  map[string]string
		wanted runfiles.Wanted
		tests  int
		kept   []string
		detail string
	}{
		"any file":               {map[string]string{"out/r.xml": report, "settings.xml": "<settings/>"}, runfiles.Wanted{Results: "junit"}, 2, []string{"out/r.xml", "settings.xml"}, ""},
		"named files":            {map[string]string{"out/r.xml": report, "settings.xml": "<settings/>"}, runfiles.Wanted{Results: "junit", ResultFiles: []string{"out/*.xml"}}, 2, []string{"out/r.xml"}, ""},
		"a named file of others": {map[string]string{"a.xml": "<settings/>"}, runfiles.Wanted{Results: "junit", ResultFiles: []string{"*.xml"}}, 0, []string{"a.xml"}, `results: a.xml: this is not in the form of results: it is something else: a document of "settings"`},
		"half a file":            {map[string]string{"a.xml": report[:40]}, runfiles.Wanted{Results: "junit"}, 1, []string{"a.xml"}, "results: a.xml: this is not in the form of results: junit, line 1"},
		"none":                   {nil, runfiles.Wanted{Results: "junit"}, 0, nil, "results: no file **/*.xml has results in the form of junit"},
		"none that is named":     {nil, runfiles.Wanted{Results: "tap", ResultFiles: []string{"a.tap", "b.tap"}}, 0, nil, "results: no file a.tap, b.tap has results in the form of tap"},
		"tap":                    {map[string]string{"t/a.tap": tap, "b.tap": tap}, runfiles.Wanted{Results: "tap", Output: output}, 4, []string{"b.tap", "t/a.tap"}, ""},
		"tap in the output":      {nil, runfiles.Wanted{Results: "tap", Output: output}, 2, nil, ""},
		"also an artifact":       {map[string]string{"r.xml": report}, runfiles.Wanted{Results: "junit", Artifacts: []string{"*"}}, 2, []string{"r.xml"}, ""},
	} {
		c.wanted.Owner = own()
		c.wanted.Mask = func(text string) string { return strings.ReplaceAll(text, "hunter2", "***") }
		found := runfiles.Collect(t.Context(), folder(t, c.files), c.wanted)
		require.Equal(t, c.kept, send(t, found, &servers{}), name)
		require.Len(t, found.Tests, c.tests, name)
		require.NotContains(t, fmt.Sprint(found.Tests), "hunter2", name)
		if c.detail == "" {
			require.Empty(t, found.Detail(), name)
		}
		require.Contains(t, found.Detail(), c.detail, name)
		require.NotContains(t, found.Detail(), "\n")
		require.NoError(t, found.Close())
	}
}

// TestSending goes on where the servers are, and gives up what they refuse.
func TestSending(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	dir := folder(t, map[string]string{"big": string(big), "empty": "", "bad": "x", "changed": "before"})
	found := runfiles.Collect(t.Context(), dir, runfiles.Wanted{Artifacts: []string{"*"}, Owner: own()})
	require.NoError(t, os.WriteFile(filepath.Join(dir, "changed"), []byte("after!"), 0o600))
	away := errors.New("away")
	failed := false
	s := &servers{files: map[string][]byte{}, err: func(path string, calls int) error {
		switch {
		case path == "bad":
			return fmt.Errorf("%w: not such a name", agentclient.ErrRefused)
		case path == "big" && calls == 3 && !failed:
			failed = true
			return away
		}
		return nil
	}}
	require.ErrorIs(t, found.Send(t.Context(), s.put), away)
	require.NotZero(t, found.Left())
	s.files["big"] = s.files["big"][:1000:1000] // a server that forgot
	require.NoError(t, found.Send(t.Context(), s.put))
	require.Equal(t, big, s.files["big"])
	require.Contains(t, s.files, "empty")
	require.NotContains(t, s.files, "changed")
	require.Contains(t, found.Detail(), "bad is not kept")
	require.Contains(t, found.Detail(), "changed is not kept")
	require.NoError(t, found.Close())
}

// TestBounds: what there is too much of is said, and the rest is kept.
func TestBounds(t *testing.T) {
	files := map[string]string{}
	for i := range 1010 {
		files[fmt.Sprintf("%04d", i)] = ""
	}
	dir := folder(t, files)
	found := runfiles.Collect(t.Context(), dir, runfiles.Wanted{Artifacts: []string{"*"}, Owner: own()})
	require.Len(t, send(t, found, &servers{}), 1000)
	require.Contains(t, found.Detail(), "at most 1000 are kept")
	require.Contains(t, found.Detail(), "and 5 more")
	require.NoError(t, found.Close())

	large := filepath.Join(folder(t, map[string]string{"ok": "x", "large": ""}), "large")
	require.NoError(t, os.Truncate(large, 2<<30))
	found = runfiles.Collect(t.Context(), filepath.Dir(large), runfiles.Wanted{Artifacts: []string{"*"}, Owner: own()})
	require.Equal(t, []string{"ok"}, send(t, found, &servers{}))
	require.Contains(t, found.Detail(), "large: it has 2147483648 bytes")
	require.NoError(t, found.Close())
}
