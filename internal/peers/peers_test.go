package peers_test

import (
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

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
	listener, err := net.Listen("tcp", address)
	require.NoError(t, err)
	p := &process{beats: peers.NewHeartbeats(holder), address: listener.Addr().String()}
	mux := http.NewServeMux()
	mux.Handle("GET "+peers.Path, p.beats)
	p.server = &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = p.server.Serve(listener)
	}()
	t.Cleanup(func() { p.crash(); <-served })
	return p
}

// crash closes the listener and all connections, as the end of a process does.
func (p *process) crash() { _ = p.server.Close() }

func watch(t *testing.T, changed func()) *peers.Watcher {
	w := peers.NewWatcher(changed)
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
	w.Follow([]peers.Peer{{Holder: "a/1", Address: p.address}})
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
	w.Follow([]peers.Peer{{Holder: "a/1", Address: p.address}})
	until(t, w, "a/1", suspicion.Alive)
	p.crash()
	begin(t, "a/2", p.address)
	until(t, w, "a/1", suspicion.Crashed)
	w.Follow([]peers.Peer{{Holder: "a/2", Address: p.address}})
	until(t, w, "a/2", suspicion.Alive)
	require.NotContains(t, w.Contacts(), "a/1")
}

func TestOrderlyEndIsNoCrash(t *testing.T) {
	p := begin(t, "a/1", "127.0.0.1:0")
	w := watch(t, func() {})
	w.Follow([]peers.Peer{{Holder: "a/1", Address: p.address}})
	until(t, w, "a/1", suspicion.Alive)
	p.beats.End()
	until(t, w, "a/1", suspicion.Unreachable)
	p.crash()
	require.Never(t, func() bool { return suspicion.Judge(w.Contacts()["a/1"]) == suspicion.Crashed }, time.Second, 10*time.Millisecond)
}

func TestSilenceOfAConnectionThatStaysOpen(t *testing.T) {
	p := begin(t, "a/1", "127.0.0.1:0")
	link := testserver.NewLink(t, p.address)
	w := watch(t, func() {})
	w.Follow([]peers.Peer{{Holder: "a/1", Address: link.Addr}})
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
	w.Follow([]peers.Peer{{Holder: "a/1", Address: p.address}})
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
			w.Follow([]peers.Peer{{Holder: "a/1", Address: listener.Addr().String()}})
			<-asked
			<-asked
			require.Equal(t, suspicion.Unreachable, suspicion.Judge(w.Contacts()["a/1"]))
			w.Follow(nil)
			require.NoError(t, server.Close())
			<-served
		})
	}
}
