package api

import (
	"context"
	"sync"
	"time"
)

// shared is an answer that costs much and that many ask for, as the pages of all browsers do:
// those who ask while it is fresh get the same one, and it is made once at a time.
type shared[T any] struct {
	mu    sync.Mutex
	made  time.Time
	fresh time.Duration
	value T
}

const (
	// leastFresh is how long an answer counts as fresh at least.
	leastFresh = 100 * time.Millisecond
	// restFactor bounds the share of time that is spent on making an answer.
	restFactor = 4
)

// forget makes whoever asks next get a new answer.
func (s *shared[T]) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fresh = 0
}

func (s *shared[T]) get(ctx context.Context, read func(context.Context) (T, error)) (T, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.made) < s.fresh {
		return s.value, nil
	}
	began := time.Now()
	value, err := read(ctx)
	if err != nil {
		return value, err
	}
	s.value, s.made = value, time.Now()
	s.fresh = max(leastFresh, restFactor*s.made.Sub(began))
	return value, nil
}
