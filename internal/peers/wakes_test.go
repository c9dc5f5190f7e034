package peers_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/peers"
)

// leader serves wakes, and answers each only when it is told to.
type leader struct {
	url    string
	wakes  chan peers.Wake
	answer chan struct{}
}

func newLeader(t *testing.T) *leader {
	l := &leader{wakes: make(chan peers.Wake), answer: make(chan struct{})}
	server := httptest.NewServer(peers.Wakes(func(w peers.Wake) {
		l.wakes <- w
		<-l.answer
	}))
	t.Cleanup(server.Close)
	l.url = server.URL
	return l
}

func newWaker(t *testing.T, failed func(error)) *peers.Waker {
	w := peers.NewWaker(nil, failed)
	t.Cleanup(w.Close)
	return w
}

func none(t *testing.T) func(error) { return func(err error) { t.Error(err) } }

func TestWakesOfOneShardAreToldTogether(t *testing.T) {
	l := newLeader(t)
	w := newWaker(t, none(t))
	w.Tell(l.url, peers.Wake{Shard: "a", Entries: []int64{1}})
	require.Equal(t, peers.Wake{Shard: "a", Entries: []int64{1}}, <-l.wakes)
	for id := range int64(3) {
		w.Tell(l.url, peers.Wake{Shard: "a", Entries: []int64{id + 2}})
	}
	l.answer <- struct{}{}
	require.Equal(t, peers.Wake{Shard: "a", Entries: []int64{2, 3, 4}}, <-l.wakes, "what came while the first was told")
	w.Tell(l.url, peers.Wake{Shard: "a", Entries: []int64{5}})
	w.Tell(l.url, peers.Wake{Shard: "a"})
	w.Tell(l.url, peers.Wake{Shard: "a", Entries: []int64{6}})
	l.answer <- struct{}{}
	require.Equal(t, peers.Wake{Shard: "a"}, <-l.wakes, "there is more to do than the new entries")
	w.Tell(l.url, peers.Wake{Shard: "a", Entries: make([]int64, peers.MostHints)})
	w.Tell(l.url, peers.Wake{Shard: "a", Entries: []int64{1}})
	l.answer <- struct{}{}
	require.Equal(t, peers.Wake{Shard: "a"}, <-l.wakes, "too many to name")
	w.Tell(l.url, peers.Wake{Shard: "b"})
	require.Equal(t, peers.Wake{Shard: "b"}, <-l.wakes, "another shard does not wait")
	close(l.answer)
}

// TestLargestWake: a wake with as many names as there may be, each as long as it may be,
// is understood.
func TestLargestWake(t *testing.T) {
	l := newLeader(t)
	close(l.answer)
	w := newWaker(t, none(t))
	want := peers.Wake{Shard: strings.Repeat("ü", 190), Entries: make([]int64, peers.MostHints)}
	for i := range want.Entries {
		want.Entries[i] = -1 << 63
	}
	w.Tell(l.url, want)
	require.Equal(t, want, <-l.wakes)
	want.Entries = append(want.Entries, 1)
	w.Tell(l.url, want)
	require.Equal(t, peers.Wake{Shard: want.Shard}, <-l.wakes)
}

// TestLeaderThatCannotBeWoken: whoever wakes it does not wait, and is told.
func TestLeaderThatCannotBeWoken(t *testing.T) {
	stranger := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(stranger.Close)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for _, url := range []string{stranger.URL, gone.URL} {
		var once sync.Once
		failed := make(chan error)
		w := newWaker(t, func(err error) { once.Do(func() { failed <- err }) })
		w.Tell(url, peers.Wake{Shard: "a"})
		require.ErrorContains(t, <-failed, "wake the replica at "+url)
	}
}

func TestWhatIsNoWake(t *testing.T) {
	server := httptest.NewServer(peers.Wakes(func(peers.Wake) { t.Error("woken") }))
	t.Cleanup(server.Close)
	for _, body := range []string{"", "x", "[]", `{"shard": 1}`, `{"entries": ["1"]}`, `{"shard": "` + strings.Repeat("x", 1<<20) + `"}`} {
		res, err := http.Post(server.URL, "application/json", strings.NewReader(body))
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusBadRequest, res.StatusCode, "%.20s", body)
	}
	http.DefaultClient.CloseIdleConnections()
}
