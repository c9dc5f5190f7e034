package apiframe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"
)

// EventStream is the media type of server-sent events.
const EventStream = "text/event-stream"

const (
	// heartbeat is how often a stream says that it lives, so that no proxy cuts it.
	heartbeat = 15 * time.Second
	// StreamPatience is how long a client of a stream may read nothing of what was written. It
	// can go on after the last event that it got.
	StreamPatience = 5 * time.Second
	// DownloadPatience is the same for a file, before which somebody may pause.
	DownloadPatience = time.Minute
	// piece is how much a client must read to be given more time.
	piece = 32 << 10
)

// ErrCutOff is the end of a stream whose client does not read fast enough, or whose replica
// is ending.
var ErrCutOff = errors.New("the stream was cut off")

// Stream writes server-sent events, and other long answers.
type Stream struct {
	w       io.Writer
	control *http.ResponseController
	// patience is how long a client may take to read a piece of what is written.
	patience time.Duration
}

// NewStream returns a stream to a client who may read nothing for so long.
func NewStream(w io.Writer, patience time.Duration) *Stream {
	s := &Stream{w: w, patience: patience}
	if w, ok := w.(http.ResponseWriter); ok {
		s.control = http.NewResponseController(w)
	}
	return s
}

// EventHeaders sets what an answer with events has in its head.
func EventHeaders(set func(name, value string)) {
	set("Content-Type", EventStream)
	set("Cache-Control", "no-store")
	set("X-Accel-Buffering", "no")
}

// Write writes and flushes. The answer may last as long as the client goes on reading it; one
// that does not is cut off.
func (s *Stream) Write(text []byte) (int, error) {
	if s.control == nil {
		return s.w.Write(text)
	}
	n := 0
	for part := range slices.Chunk(text, piece) {
		if err := s.control.SetWriteDeadline(time.Now().Add(s.patience)); err != nil {
			return n, err
		}
		wrote, err := s.w.Write(part)
		n += wrote
		if err != nil {
			return n, err
		}
	}
	if n == 0 {
		return 0, nil
	}
	return n, s.control.Flush()
}

// Say writes a text.
func (s *Stream) Say(text string) error {
	_, err := s.Write([]byte(text))
	return err
}

// Event writes an event with a head and data.
func (s *Stream) Event(head string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	_, err = s.Write(bytes.Join([][]byte{[]byte(head), []byte("data: "), text, []byte("\n\n")}, nil))
	return err
}

// Pass writes what comes until it is over, with a sign of life now and then.
func Pass[T any](ctx context.Context, s *Stream, news <-chan T, write func(T) (over bool, err error)) error {
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-beat.C:
			if err := s.Say(": still here\n\n"); err != nil {
				return err
			}
		case one, ok := <-news:
			if !ok {
				return ErrCutOff
			}
			if over, err := write(one); over || err != nil {
				return err
			}
		}
	}
}
