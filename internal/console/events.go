package console

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
)

const (
	// heartbeat is how often a stream says that it lives, so that no proxy cuts it.
	heartbeat = 15 * time.Second
	// streamWrite is how long a browser may take to read what was written.
	streamWrite = 5 * time.Second
)

// events tells a browser whenever something happens to one of the topics that its page shows. It
// does not say what: the browser asks for the page again.
func (c *Console) events(w http.ResponseWriter, r *http.Request) {
	p := &page{c: c, w: w, r: r}
	if err := p.identify(); err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	watcher, err := c.cfg.Watch.Begin(r.Context(), c.cfg.Lab())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer c.cfg.Watch.End(watcher)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	s := stream{w, http.NewResponseController(w)}
	if err := s.say("data: watching\n\n"); err == nil {
		err = s.follow(r.Context(), watcher, topicsOf(r.URL.Query()["topic"]))
		c.cfg.Log.Debug("a page is not watched any more", "address", addressOf(r), "error", err)
	}
}

type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func (s stream) say(text string) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil {
		return err
	}
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.control.Flush()
}

func (s stream) follow(ctx context.Context, w *lab.Watcher, t topics) error {
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		text := ""
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-beat.C:
			text = ": still here\n\n"
		case batch, ok := <-w.Batches:
			if !ok {
				return nil // it was too slow, or the replica ends: the browser connects again
			}
			if t.touches(batch.Events) {
				text = "data: changed\n\n"
			}
		}
		if text == "" {
			continue
		}
		if err := s.say(text); err != nil {
			return err
		}
	}
}

// topics are what a page shows: nouns of kinds of events, hosts as host:NAME, jobs as job:ID, or *
// for everything.
type topics map[string]bool

func topicsOf(names []string) topics {
	t := topics{}
	for _, name := range names {
		t[name] = true
	}
	return t
}

func (t topics) touches(events []labapi.Event) bool {
	for i := range events {
		e := &events[i]
		noun, _, _ := strings.Cut(e.Kind, ".")
		if t["*"] || t[noun] || e.Host != "" && t["host:"+e.Host] || e.Job != 0 && t["job:"+id(e.Job)] {
			return true
		}
	}
	return false
}
