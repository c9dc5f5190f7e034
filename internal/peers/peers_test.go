package peers_test

import (
	"io"
	"log"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hostsched/hostsched/internal/certs"
	"github.com/hostsched/hostsched/internal/peers"
	"github.com/hostsched/hostsched/internal/suspicion"
	"github.com/hostsched/hostsched/internal/testserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

// process serves heartbeats at an address.
type process struct {
	beats   *peers.Heartbeats
	server  *http.Server
	address string
}

func begin(t *testing.T, holder, address string) *process {
	return beginWith(t, nil, holder, address)
}

// beginWith serves over TLS if there is a keeper.
func beginWith(t *testing.T, keeper *certs.Keeper, holder, address string) *process {
	listener, err := net.Listen("tcp", address)
	require.NoError(t, err)
	p := &process{beats: peers.NewHeartbeats(holder), address: listener.Addr().String()}
	mux := http.NewServeMux()
	mux.Handle("GET "+peers.Path, p.beats)
	p.server = &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	serve := p.server.Serve
	if keeper != nil {
		p.server.TLSConfig, p.server.ErrorLog = keeper.Server(), log.New(io.Discard, "", 0)
		serve = func(l net.Listener) error { return p.server.ServeTLS(l, "", "") }
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = serve(listener)
	}()
	t.Cleanup(func() { p.crash(); <-served })
	return p
}

// crash closes the listener and all connections, as the end of a process does.
func (p *process) crash() { _ = p.server.Close() }

func watch(t *testing.T, changed func()) *peers.Watcher { return watchWith(t, nil, changed) }

func watchWith(t *testing.T, keeper *certs.Keeper, changed func()) *peers.Watcher {
	w := peers.NewWatcher(keeper, changed)
	t.Cleanup(w.Close)
	return w
}

func until(t *testing.T, w *peers.Watcher, holder string, want suspicion.Verdict) {
	t.Helper()
	require.Eventually(t, func() bool { return suspicion.Judge(w.Contacts()[holder]) == want }, patience, time.Millisecond, "%s is %q", holder, want)
}

func TestCrashIsSeenAtOnce(t *testing.T) {
	p := begin(t, "a/1", "127.0.0.1:0")
	var changes atomic.Int32
	w := watch(t, func() { changes.Add(1) })
	w.Follow([]peers.Peer{{Holder: "a/1", URL: "http://" + p.address}})
	until(t, w, "a/1", suspicion.Alive)
	require.EqualValues(t, 1, changes.Load())
	began := time.Now()
	p.crash()
	until(t, w, "a/1", suspicion.Crashed)
	require.Less(t, time.Since(began), time.Second, "much less than the patience with a silent one")
	require.Eventually(t, func() bool { return changes.Load() == 2 }, patience, time.Millisecond)
}

func TestRestartUnderTheSameAddress(t *testing.T) {
	p := begin(t, "a/1", "127.0.0.1:0")
	w := watch(t, func() {})
	w.Follow([]peers.Peer{{Holder: "a/1", URL: "http://" + p.address}})
	until(t, w, "a/1", suspicion.Alive)
	p.crash()
	begin(t, "a/2", p.address)
	until(t, w, "a/1", suspicion.Crashed)
	w.Follow([]peers.Peer{{Holder: "a/2", URL: "http://" + p.address}})
	until(t, w, "a/2", suspicion.Alive)
	require.NotContains(t, w.Contacts(), "a/1")
}

func TestOrderlyEndIsNoCrash(t *testing.T) {
	p := begin(t, "a/1", "127.0.0.1:0")
	w := watch(t, func() {})
	w.Follow([]peers.Peer{{Holder: "a/1", URL: "http://" + p.address}})
	until(t, w, "a/1", suspicion.Alive)
	p.beats.End()
	until(t, w, "a/1", suspicion.Unreachable)
	p.crash()
	testserver.Throughout(t, func() bool { return suspicion.Judge(w.Contacts()["a/1"]) != suspicion.Crashed }, time.Second, 10*time.Millisecond)
}

func TestSilenceOfAConnectionThatStaysOpen(t *testing.T) {
	p := begin(t, "a/1", "127.0.0.1:0")
	link := testserver.NewLink(t, p.address)
	w := watch(t, func() {})
	w.Follow([]peers.Peer{{Holder: "a/1", URL: "http://" + link.Addr}})
	until(t, w, "a/1", suspicion.Alive)
	began := time.Now()
	link.Cut(t)
	until(t, w, "a/1", suspicion.Silent)
	require.Greater(t, time.Since(began), time.Second)
	link.Heal(t)
	until(t, w, "a/1", suspicion.Alive)
	w.Forget("a/1")
	require.NotEqual(t, suspicion.Silent, suspicion.Judge(w.Contacts()["a/1"]))
}

func TestOldEvidenceIsForgotten(t *testing.T) {
	p := begin(t, "a/1", "127.0.0.1:0")
	w := watch(t, func() {})
	w.Follow([]peers.Peer{{Holder: "a/1", URL: "http://" + p.address}})
	until(t, w, "a/1", suspicion.Alive)
	p.crash()
	until(t, w, "a/1", suspicion.Crashed)
	w.Forget("a/1")
	require.Equal(t, suspicion.Unreachable, suspicion.Judge(w.Contacts()["a/1"]))
}

// TestStrangers: what answers at an address need not be a replica.
func TestStrangers(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"another process":   func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("b/1\n\n\n")) },
		"not found":         http.NotFound,
		"an endless line":   func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(strings.Repeat("x", 1<<20))) },
		"nothing":           func(http.ResponseWriter, *http.Request) {},
		"silence":           func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"a goodbye at once": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("bye\n")) },
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			asked := make(chan struct{}, 1000)
			server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked <- struct{}{}
				answer(w, r)
			})}
			served := make(chan struct{})
			go func() { defer close(served); _ = server.Serve(listener) }()
			w := watch(t, func() { t.Error("nothing changed") })
			w.Follow([]peers.Peer{{Holder: "a/1", URL: "http://" + listener.Addr().String()}})
			<-asked
			<-asked
			require.Equal(t, suspicion.Unreachable, suspicion.Judge(w.Contacts()["a/1"]))
			w.Follow(nil)
			require.NoError(t, server.Close())
			<-served
		})
	}
}

// certificate is one of an authority, which also trusts it.
func certificate(t *testing.T, ca *testserver.Authority) *certs.Keeper {
	t.Helper()
	files := certs.Files{Cert: filepath.Join(t.TempDir(), "tls.crt"), Key: filepath.Join(t.TempDir(), "tls.key"), CA: ca.File, RequireClient: true}
	ca.IssueNow(t, files.Cert, files.Key, "replica", time.Hour)
	keeper, err := certs.Open(files)
	require.NoError(t, err)
	return keeper
}

func TestCrashIsSeenOverTLS(t *testing.T) {
	ca := testserver.NewAuthority(t, "lab")
	p := beginWith(t, certificate(t, ca), "a/1", "127.0.0.1:0")
	w := watchWith(t, certificate(t, ca), func() {})
	w.Follow([]peers.Peer{{Holder: "a/1", URL: "https://" + p.address}})
	until(t, w, "a/1", suspicion.Alive)
	require.Empty(t, w.Unheard())
	began := time.Now()
	p.crash()
	until(t, w, "a/1", suspicion.Crashed)
	require.Less(t, time.Since(began), time.Second)
}

// TestWhoIsNotTrustedIsNotHeard: a peer that answers, but without TLS, or with a certificate
// that is not trusted, is neither alive nor dead, and it is known why.
func TestWhoIsNotTrustedIsNotHeard(t *testing.T) {
	lab, other := testserver.NewAuthority(t, "lab"), testserver.NewAuthority(t, "other")
	ours, theirs := certificate(t, lab), certificate(t, other)
	for name, c := range map[string]struct {
		keeper, watcher *certs.Keeper
		scheme, why     string
	}{
		"no TLS there":                {nil, ours, "http", "it has no TLS"},
		"no TLS there, but said so":   {nil, ours, "https", "gave HTTP response to HTTPS client"},
		"no TLS here":                 {theirs, nil, "https", "unknown authority"},
		"an older version here":       {theirs, nil, "http", "400 Bad Request"},
		"another authority":           {theirs, ours, "https", "valid until"},
		"it trusts no others, either": {ours, only(t, lab), "https", "certificate required"},
	} {
		t.Run(name, func(t *testing.T) {
			p := beginWith(t, c.keeper, "a/1", "127.0.0.1:0")
			w := watchWith(t, c.watcher, func() { t.Error("nothing changed") })
			w.Follow([]peers.Peer{{Holder: "a/1", URL: c.scheme + "://" + p.address}})
			require.Eventually(t, func() bool { return strings.Contains(w.Unheard()["a/1"], c.why) }, patience, time.Millisecond, "unheard because of %q: %v", c.why, w.Unheard())
			require.Equal(t, suspicion.Unreachable, suspicion.Judge(w.Contacts()["a/1"]))
		})
	}
}

// only trusts an authority, and has no certificate.
func only(t *testing.T, ca *testserver.Authority) *certs.Keeper {
	t.Helper()
	keeper, err := certs.Open(certs.Files{CA: ca.File})
	require.NoError(t, err)
	return keeper
}

// TestCertificateThatIsNotTrustedAnyMore: whoever was heard, and answers now with another
// certificate, is not silent.
func TestCertificateThatIsNotTrustedAnyMore(t *testing.T) {
	lab := testserver.NewAuthority(t, "lab")
	p := beginWith(t, certificate(t, lab), "a/1", "127.0.0.1:0")
	far := beginWith(t, certificate(t, testserver.NewAuthority(t, "other")), "a/1", "127.0.0.1:0")
	link := testserver.NewLink(t, p.address)
	w := watchWith(t, certificate(t, lab), func() {})
	w.Follow([]peers.Peer{{Holder: "a/1", URL: "https://" + link.Addr}})
	until(t, w, "a/1", suspicion.Alive)
	link.Point(t, far.address)
	require.Eventually(t, func() bool { return strings.Contains(w.Unheard()["a/1"], "unknown authority") }, patience, time.Millisecond)
	testserver.Throughout(t, func() bool { return suspicion.Judge(w.Contacts()["a/1"]) == suspicion.Unreachable }, 2*time.Second, 10*time.Millisecond)
}
