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
	"strconv"
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
	return c.follow(ctx, "/events", query, after, func(ev sse.Event) error {
		var e labapi.Event
		if err := json.Unmarshal([]byte(ev.Data), &e); err != nil {
			return fmt.Errorf("%w: an event is no event of hostsched: %w", ErrAway, err)
		}
		if err := each(e); err != nil {
			return ownError{err}
		}
		return nil
	}, away)
}

// errOver ends a stream that has come to its end.
var errOver = errors.New("the stream is over")

// FollowLog calls each with all parts of a log of a run from an offset on, until the run is
// over, the context ends or each fails. When a connection ends, it goes on with the next byte.
func (c *Client) FollowLog(ctx context.Context, run int64, stream string, offset int64, each func(labapi.LogPart) error, away func(error)) (over labapi.LogOver, err error) {
	path := Path("runs", strconv.FormatInt(run, 10), "logs", stream)
	err = c.follow(ctx, path, nil, strconv.FormatInt(offset, 10), func(ev sse.Event) error {
		var part labapi.LogPart
		var value any = &part
		if ev.Type == "end" {
			value = &over
		}
		if err := json.Unmarshal([]byte(ev.Data), value); err != nil {
			return fmt.Errorf("%w: an event is no part of a log: %w", ErrAway, err)
		}
		if ev.Type == "end" {
			return ownError{errOver}
		}
		if err := each(part); err != nil {
			return ownError{err}
		}
		return nil
	}, away)
	if errors.Is(err, errOver) {
		err = nil
	}
	return over, err
}

// follow calls each with all events of a stream after one, and goes on when a connection ends.
func (c *Client) follow(ctx context.Context, path string, query url.Values, after string, each func(sse.Event) error, away func(error)) error {
	pause := firstPause
	for {
		before := after
		err := c.stream(ctx, path, query, &after, each)
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
func (c *Client) stream(ctx context.Context, path string, query url.Values, after *string, each func(sse.Event) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	header := http.Header{"Accept": {"text/event-stream"}}
	query = maps.Clone(query)
	if *after != "" {
		header.Set("Last-Event-ID", *after)
	}
	res, err := c.send(ctx, Call{Method: http.MethodGet, Path: path, Query: query, Header: header})
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
		if err := each(ev); err != nil {
			return err
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
