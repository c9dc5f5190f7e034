package notify_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/notify"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

const soon = 10 * time.Second

func start(t *testing.T, port int, interval time.Duration) (m *notify.Mailer, stop func()) {
	t.Helper()
	m, err := notify.New(notify.Config{
		To: []string{"lab@example.com", "ops@example.com"}, From: "hostsched@example.com", Host: "127.0.0.1", Port: port, Interval: interval, Server: "s1",
	}, hclog.NewNullLogger())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return m, stop
}

// TestMailsAreCollected: the first event goes out at once, what happens within
// the interval comes in one mail, at the latest at the end.
func TestMailsAreCollected(t *testing.T) {
	smtp := testserver.NewSMTP(t)
	m, stop := start(t, smtp.Port, time.Hour)
	m.Leading("master", 7, 12*time.Millisecond)
	require.Eventually(t, func() bool { return len(smtp.Mails()) == 1 }, soon, time.Millisecond)
	require.Contains(t, smtp.Mails()[0], "failover: s1 leads shard master with token 7")
	require.Contains(t, smtp.Mails()[0], "lab@example.com")

	for i := range 20 {
		m.Failed("master", fmt.Errorf("error number %d", i))
	}
	m.Failed("master", fmt.Errorf("%w: late", store.ErrFenced))
	m.Failed("master", errors.New("panic in a tick: boom\ngoroutine 1 [running]:\nmain.main()"))
	m.Checked("master", admin.Findings{})
	found := admin.Findings{
		Overlapping: []admin.Finding{{Host: 5, Hostname: "h5", Entry: 8, Job: 9, Text: "has several active entries"}},
		Drift:       []admin.Finding{{Host: 6, Hostname: "h6", Text: "drifts"}},
	}
	for range 3 { // told once
		m.Checked("master", found)
	}
	stop()
	mails := smtp.Mails()
	require.Len(t, mails, 2, "rate-limited")
	for _, want := range []string{"error number 0", "error number 19", "fenced: fenced: late", "goroutine 1 [running]", "overlapping jobs", "host h5 (5) has several active entries: entry 8 of job 9", "host h6 (6) drifts", "more)"} {
		require.Contains(t, strings.ReplaceAll(mails[1], "=\n", ""), want)
	}
	require.Equal(t, 1, strings.Count(mails[1], "h6 (6) drifts"))
	require.NotContains(t, mails[1], "notify_test.go", "whoever sends the mail is not where the error happened")
}

// TestNeverBlocks: nobody answers at the mail server; events are dropped.
func TestNeverBlocks(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	require.NoError(t, err)
	m, err := notify.New(notify.Config{To: []string{"a@b.c"}, From: "a@b.c", Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, Interval: time.Hour}, hclog.NewNullLogger())
	require.NoError(t, err)
	began := time.Now()
	for range 10_000 {
		m.Failed("master", errors.New("x"))
	}
	require.Less(t, time.Since(began), time.Second)
	require.NoError(t, l.Close())
}

func TestBadAddressIsRefused(t *testing.T) {
	_, err := notify.New(notify.Config{To: []string{"not an address"}, From: "a@b.c", Host: "localhost", Port: 25}, hclog.NewNullLogger())
	require.Error(t, err)
}

// TestPasswordIsChanged: every mail is sent with the password that counts then, and one
// that is refused is lost, and nothing else.
func TestPasswordIsChanged(t *testing.T) {
	smtp := testserver.NewSMTP(t)
	var password atomic.Value
	var log syncBuffer
	m, err := notify.New(notify.Config{
		To: []string{"lab@example.com"}, From: "hostsched@example.com", Host: "127.0.0.1", Port: smtp.Port, Interval: time.Millisecond, Server: "s1",
		User: "sched", Password: func() (string, error) { return password.Load().(string), nil },
	}, hclog.New(&hclog.LoggerOptions{Output: &log}))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	arrives := func(text string) {
		t.Helper()
		m.Failed("master", errors.New(text))
		require.Eventually(t, func() bool { return strings.Contains(strings.Join(smtp.Mails(), ""), text) }, soon, time.Millisecond)
	}
	smtp.SetPassword("sesame-one")
	password.Store("sesame-one")
	arrives("error A")
	smtp.SetPassword("sesame-two")
	m.Failed("master", errors.New("error B"))
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "the password is wrong") }, soon, time.Millisecond)
	password.Store("sesame-two")
	arrives("error C")
	require.NotContains(t, strings.Join(smtp.Mails(), ""), "error B")
	require.NotContains(t, log.String(), "sesame")
}

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
