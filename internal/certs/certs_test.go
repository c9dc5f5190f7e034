package certs_test

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hostsched/hostsched/internal/certs"
	"github.com/hostsched/hostsched/internal/testserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// files are those of one replica.
func files(t *testing.T, ca *testserver.Authority) certs.Files {
	dir := t.TempDir()
	return certs.Files{Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key"), CA: ca.File}
}

func open(t *testing.T, f certs.Files) *certs.Keeper {
	t.Helper()
	k, err := certs.Open(f)
	require.NoError(t, err)
	return k
}

// serve answers with a keeper's certificate.
func serve(t *testing.T, k *certs.Keeper) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{
		TLSConfig: k.Server(), ReadHeaderTimeout: time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }),
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.ServeTLS(listener, "", "") }()
	t.Cleanup(func() { _ = server.Close(); <-ended })
	return "https://" + listener.Addr().String()
}

func ask(k *certs.Keeper, url string) error {
	res, err := (&http.Client{Transport: k.Transport(), Timeout: 5 * time.Second}).Get(url)
	if err != nil {
		return err
	}
	return res.Body.Close()
}

// TestFilesAreReplaced: of a server and of a client that have run for a while, also by those
// of another authority, and also when they are not written at the same moment.
func TestFilesAreReplaced(t *testing.T) {
	first, second := testserver.NewAuthority(t, "first"), testserver.NewAuthority(t, "second")
	f := files(t, first)
	first.IssueNow(t, f.Cert, f.Key, "one", time.Hour)
	k := open(t, f)
	url := serve(t, k)
	require.NoError(t, ask(k, url))

	key, err := os.ReadFile(f.Key)
	require.NoError(t, err)
	second.IssueNow(t, f.Cert, f.Key, "two", time.Hour)
	fresh, err := os.ReadFile(f.Key)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(f.Key, key, 0o600))
	require.NoError(t, ask(k, url), "the former pair stays in use")
	require.Contains(t, k.State(time.Now()).Fault, "private key does not match")

	require.NoError(t, os.WriteFile(f.Key, fresh, 0o600))
	require.ErrorContains(t, ask(k, url), "unknown authority")
	ca, err := os.ReadFile(second.File)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(f.CA, ca, 0o600))
	require.NoError(t, ask(k, url))
	require.Empty(t, k.State(time.Now()).Fault)
	require.Equal(t, "CN=two", k.State(time.Now()).Subject)
}

func TestClientCertificates(t *testing.T) {
	ca, other := testserver.NewAuthority(t, "lab"), testserver.NewAuthority(t, "other")
	f := files(t, ca)
	ca.IssueNow(t, f.Cert, f.Key, "server", time.Hour)
	f.RequireClient = true
	url := serve(t, open(t, f))
	require.NoError(t, ask(open(t, f), url))
	require.ErrorContains(t, ask(open(t, certs.Files{CA: ca.File}), url), "certificate required")
	strange := files(t, ca)
	other.IssueNow(t, strange.Cert, strange.Key, "stranger", time.Hour)
	require.ErrorContains(t, ask(open(t, strange), url), "remote error: tls")
	require.ErrorContains(t, ask(nil, url), "unknown authority")
}

func TestState(t *testing.T) {
	ca := testserver.NewAuthority(t, "lab")
	now := time.Now()
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		from, until time.Duration
		fault       string
	}{
		"valid for a year":           {-day, 365 * day, ""},
		"of a year, the last days":   {-360 * day, 5 * day, "expires soon"},
		"of a day, half over":        {-day / 2, day / 2, ""},
		"of a day, the last hour":    {-23 * time.Hour, time.Hour, "expires soon"},
		"expired":                    {-2 * day, -time.Hour, "expired at " + now.Add(-time.Hour).UTC().Format(time.RFC3339)},
		"from a clock that is ahead": {time.Hour, day, "not valid before"},
	} {
		f := files(t, ca)
		ca.Issue(t, f.Cert, f.Key, "one", now.Add(c.from), now.Add(c.until))
		st := open(t, f).State(now)
		require.Equal(t, now.Add(c.until).UTC().Truncate(time.Second), st.Until, name)
		if c.fault == "" {
			require.Empty(t, st.Fault, name)
			continue
		}
		require.Contains(t, st.Fault, c.fault, name)
		require.Contains(t, st.Fault, f.Cert, name)
	}
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	ca := testserver.NewAuthority(t, "lab")
	for name, spoil := range map[string]func(certs.Files) string{
		"no certificate": func(f certs.Files) string { require.NoError(t, os.Remove(f.Cert)); return f.Cert },
		"no key":         func(f certs.Files) string { require.NoError(t, os.Remove(f.Key)); return f.Key },
		"no authority":   func(f certs.Files) string { require.NoError(t, os.Remove(f.CA)); return f.CA },
		"no PEM":         func(f certs.Files) string { require.NoError(t, os.WriteFile(f.CA, []byte("x"), 0o600)); return f.CA },
	} {
		f := files(t, ca)
		ca.IssueNow(t, f.Cert, f.Key, "one", time.Hour)
		f.CA = filepath.Join(t.TempDir(), "ca.crt")
		data, err := os.ReadFile(ca.File)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(f.CA, data, 0o600))
		k := open(t, f)
		file := spoil(f)
		_, err = certs.Open(f)
		require.ErrorIs(t, err, certs.ErrFiles, name)
		require.ErrorContains(t, err, file, name)
		require.Contains(t, k.State(time.Now()).Fault, file, name)
		require.Contains(t, k.State(time.Now()).Fault, "stays in use", name)
	}
	none, err := certs.Open(certs.Files{})
	require.NoError(t, err)
	require.False(t, none.Answers())
	require.Nil(t, none.State(time.Now()))
}
