package peers

import (
	"fmt"
	"net/http"
	"time"
)

// Path is where a replica serves its heartbeats.
const Path = "/v1/heartbeats"

// Interval is the time between two heartbeats.
const Interval = 100 * time.Millisecond

// goodbye is sent instead of a heartbeat by a replica that ends in an orderly way.
const goodbye = "bye"

// Heartbeats sends the heartbeats of one process to everybody who asks for them.
type Heartbeats struct {
	holder string
	ended  chan struct{}
}

// NewHeartbeats returns the handler of the process with this unique name.
func NewHeartbeats(holder string) *Heartbeats {
	return &Heartbeats{holder: holder, ended: make(chan struct{})}
}

// End says goodbye to all listeners, so that the end of the process does not look
// like a crash. It may be called once.
func (h *Heartbeats) End() { close(h.ended) }

// ServeHTTP sends the name of the process and then heartbeats, a line each, until
// the listener leaves or the process ends.
func (h *Heartbeats) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	beat := time.NewTicker(Interval)
	defer beat.Stop()
	for line := h.holder; ; line = "" {
		if _, err := fmt.Fprintln(w, line); err != nil || out.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-h.ended:
			// The listener is gone if this fails, so there is nobody to tell.
			_, _ = fmt.Fprintln(w, goodbye)
			return
		case <-beat.C:
		}
	}
}
