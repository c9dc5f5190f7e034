package app

import (
	"context"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// lockedLog is a log that may be read while it is written.
type lockedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) count(line string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), line)
}

// silentNameServer makes all look-ups of names fail, each from a port of its own, and
// counts them.
func silentNameServer(t *testing.T) *atomic.Int64 {
	t.Helper()
	var asked atomic.Int64
	former := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		asked.Add(1)
		return new(net.Dialer).DialContext(ctx, "udp", "127.0.0.1:1")
	}}
	t.Cleanup(func() { net.DefaultResolver = former })
	return &asked
}

// TestFaultsOfDatabasesAreSaidOnce: a fault that lasts has one line, although the text
// of its error differs from one attempt to the next.
func TestFaultsOfDatabasesAreSaidOnce(t *testing.T) {
	asked := silentNameServer(t)
	cfg := load(t, "--database-dsn", "hostsched@tcp(database.lab.example:3306)/lab", "--etcd-endpoints", "http://127.0.0.1:1", "--production")
	var log lockedLog
	a, err := New(Options{Config: cfg, Listen: "127.0.0.1:0", Log: cfg.Logger(&log)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Stop(context.WithoutCancel(t.Context()))) })
	require.NoError(t, a.Start(t.Context()))
	reasons := map[any]bool{}
	require.Eventually(t, func() bool {
		if reason := a.waiting.Load(); reason != "starting" {
			reasons[reason] = true
		}
		return asked.Load() > 2 && len(reasons) > 2
	}, patience, 10*time.Millisecond, "the reason says from which port the name server was asked")
	require.Equal(t, 1, log.count("waiting for the database"))

	for range 3 {
		a.databaseChanged("lab", "server 4711", "server 4712")
		a.databaseChanged("lab", "server 4712", "server 4711")
	}
	require.Equal(t, 1, log.count("leads to another server"))
}
