package labclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"time"

	"github.com/tmaxmax/go-sse"

	"github.com/hostsched/hostsched/internal/labapi"
)

const (
	// silence is after what time a stream is dead: a server says something every 15 s.
	silence = 45 * time.Second
	// firstPause doubles up to lastPause while no server answers.
	firstPause = 200 * time.Millisecond
	lastPause  = 5 * time.Second
	// maxEvent is the longest event that is read.
	maxEvent = 1 << 20
)

// Follow calls each with all events of the journal from now on, or after the one with
// this id, until the context ends or each fails. When a connection ends, it goes on with the
// next event; away is told of every attempt that failed.
func (c *Client) Follow(ctx context.Context, query url.Values, after string, each func(labapi.Event) error, away func(error)) error {
	pause := firstPause
	for {
		before := after
		err := c.stream(ctx, query, &after, each)
		var p *Problem
		var own ownError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &own):
			return own.error
		case errors.As(err, &p) && p.Status < http.StatusInternalServerError, errors.Is(err, ErrSetting):
			return err
		}
		away(err)
		if after != before {
			pause = firstPause
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}

// ownError is an error of the function that takes the events.
type ownError struct{ error }

func (e ownError) Unwrap() error { return e.error }

// stream reads one connection until it ends, and keeps the id of the last event.
func (c *Client) stream(ctx context.Context, query url.Values, after *string, each func(labapi.Event) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	header := http.Header{"Accept": {"text/event-stream"}}
	query = maps.Clone(query)
	if *after != "" {
		header.Set("Last-Event-ID", *after)
	}
	res, err := c.send(ctx, Call{Method: http.MethodGet, Path: "/events", Query: query, Header: header})
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // the connection is of no more use
	watchdog := time.AfterFunc(silence, cancel)
	defer watchdog.Stop()
	for ev, err := range sse.Read(alive{res.Body, watchdog}, &sse.ReadConfig{MaxEventSize: maxEvent}) {
		if err != nil {
			return fmt.Errorf("%w: the stream broke off: %w", ErrAway, err)
		}
		if ev.LastEventID != "" {
			*after = ev.LastEventID
		}
		var e labapi.Event
		if err := json.Unmarshal([]byte(ev.Data), &e); err != nil {
			return fmt.Errorf("%w: an event is no event of hostsched: %w", ErrAway, err)
		}
		if err := each(e); err != nil {
			return ownError{err}
		}
	}
	return fmt.Errorf("%w: the server ended the stream", ErrAway)
}

// alive puts the end of a silent stream off whenever something arrives, also a comment.
type alive struct {
	io.Reader
	watchdog *time.Timer
}

func (a alive) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	a.watchdog.Reset(silence)
	return n, err
}
