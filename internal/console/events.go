package console

import (
	"net/http"
	"strings"

	"github.com/hostsched/hostsched/internal/apiframe"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
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
	apiframe.EventHeaders(w.Header().Set)
	s, topics := apiframe.NewStream(w, apiframe.StreamPatience), topicsOf(r.URL.Query()["topic"])
	if err = s.Say("data: watching\n\n"); err == nil {
		// A browser that was too slow, or whose replica ends, connects again.
		err = apiframe.Pass(r.Context(), s, watcher.Batches, func(batch *lab.Batch) (over bool, err error) {
			if !topics.touches(batch.Events) {
				return false, nil
			}
			return false, s.Say("data: changed\n\n")
		})
	}
	c.cfg.Log.Debug("a page is not watched any more", "address", addressOf(r), "error", err)
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
