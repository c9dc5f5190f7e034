package peers

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/hostsched/hostsched/internal/certs"
)

// WakePath is where a replica is told that a shard that it leads has something to do.
const WakePath = "/v1/wake"

const (
	// MostHints is how many new entries a wake names. Whoever enters more wakes without
	// names: then everything is looked at.
	MostHints = 500
	// maxWake bounds the body of a request, in bytes.
	maxWake = 16 << 10
	// wakeTimeout bounds the telling. A leader that does not hear it finds the change at its
	// next tick.
	wakeTimeout = time.Second
)

// Wake says that a shard has something to do.
type Wake struct {
	Shard string `json:"shard"`
	// Entries are the new queue entries, if there is nothing else to do. They are a hint:
	// what the leader does with them it reads from the database.
	Entries []int64 `json:"entries,omitempty"`
}

// merge adds another wake of the same shard.
func (w Wake) merge(other Wake) Wake {
	if len(w.Entries) == 0 || len(other.Entries) == 0 || len(w.Entries)+len(other.Entries) > MostHints {
		return Wake{Shard: w.Shard}
	}
	w.Entries = append(w.Entries[:len(w.Entries):len(w.Entries)], other.Entries...)
	return w
}

// Wakes is the handler for wakes from other replicas.
func Wakes(wake func(Wake)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var told Wake
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxWake)).Decode(&told); err != nil {
			http.Error(w, "no wake: "+err.Error(), http.StatusBadRequest)
			return
		}
		wake(told)
		w.WriteHeader(http.StatusNoContent)
	}
}

// Waker tells other replicas that there is something to do, without making the caller
// wait. What comes while it is telling the same replica of the same shard is told together.
type Waker struct {
	client *http.Client
	failed func(error)

	mu      sync.Mutex
	telling map[told]*Wake // what is to be told next, nil if nothing is
	ctx     context.Context
	end     context.CancelFunc
	active  sync.WaitGroup
}

// told is whom a wake is for.
type told struct{ url, shard string }

// NewWaker returns a waker that has told nobody anything. failed is called with what a
// replica could not be told; it must not block.
func NewWaker(keeper *certs.Keeper, failed func(error)) *Waker {
	transport := keeper.Transport()
	// There may be a wake for each of fifty jobs a second.
	transport.DisableKeepAlives, transport.MaxIdleConnsPerHost, transport.IdleConnTimeout = false, 1, time.Minute
	w := &Waker{failed: failed, client: &http.Client{Transport: transport, Timeout: wakeTimeout}, telling: map[told]*Wake{}}
	w.ctx, w.end = context.WithCancel(context.Background())
	return w
}

// Close ends what is being told, and returns when nothing runs any more.
func (w *Waker) Close() {
	w.end()
	w.active.Wait()
	w.client.CloseIdleConnections()
}

// Tell wakes the replica at a URL.
func (w *Waker) Tell(url string, wake Wake) {
	if len(wake.Entries) > MostHints {
		wake.Entries = nil
	}
	to := told{url, wake.Shard}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx.Err() != nil {
		return
	}
	next, running := w.telling[to]
	switch {
	case !running:
		w.telling[to] = nil
		w.active.Go(func() { w.tell(to, wake) })
	case next == nil:
		w.telling[to] = &wake
	default:
		*next = next.merge(wake)
	}
}

// tell tells one wake, and then what came meanwhile.
func (w *Waker) tell(to told, wake Wake) {
	for {
		if err := w.post(to.url, wake); err != nil && w.ctx.Err() == nil {
			w.failed(err)
		}
		w.mu.Lock()
		next := w.telling[to]
		if next == nil {
			delete(w.telling, to)
			w.mu.Unlock()
			return
		}
		wake = *next
		w.telling[to] = nil
		w.mu.Unlock()
	}
}

func (w *Waker) post(url string, wake Wake) error {
	body, err := json.Marshal(wake)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(w.ctx, http.MethodPost, url+WakePath, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := w.client.Do(req)
	if err != nil {
		return fmt.Errorf("wake the replica at %s: %w", url, err)
	}
	// The connection is used again only if the answer was read.
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxWake))
	err = res.Body.Close()
	if res.StatusCode != http.StatusNoContent {
		err = fmt.Errorf("wake the replica at %s: %s", url, res.Status)
	}
	return err
}
