package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/apiframe"
	"github.com/hostsched/hostsched/internal/jobspec"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
)

const (
	// streamEvery is how often a stream on which much happens is written to. The first event
	// after a while is written at once.
	streamEvery = 200 * time.Millisecond
	schemaPath  = "/schemas/job-spec.json"
)

type eventsInput struct {
	Host   string `query:"host" maxLength:"255"`
	Job    int64  `query:"job" minimum:"1" maximum:"2147483647"`
	Kind   string `query:"kind" maxLength:"32" doc:"Like host.locked, or host. for all kinds about hosts."`
	Who    string `query:"who" maxLength:"190" doc:"Who did it."`
	Newest bool   `query:"newest" doc:"The latest first; after is then the id before which the page begins. Not for a stream."`
	After  string `query:"after" maxLength:"20" doc:"The id of an event; those after it are read."`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"For a page; a stream has no end."`
	LastID string `header:"Last-Event-ID" doc:"As after, which a browser sends when it connects again."`
	Accept string `header:"Accept" doc:"text/event-stream for a stream of what happens from now on, or after an event."`
}

// eventRoutes are about the journal.
func (a *API) eventRoutes() {
	page := a.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[labapi.Page[labapi.Event]](), true, "")
	route(a, access.Reading, huma.Operation{OperationID: "list-events", Method: http.MethodGet, Path: "/events", Summary: "The journal, as a page or as a stream", Tags: []string{"events"},
		Errors: []int{http.StatusGone},
		Responses: map[string]*huma.Response{"200": {Description: "Events, the oldest first", Content: map[string]*huma.MediaType{
			"application/json": {Schema: page}, apiframe.EventStream: {Schema: &huma.Schema{Type: huma.TypeString}},
		}}}}, a.events)
	route(a, access.Rule{}, huma.Operation{OperationID: "job-spec-schema", Method: http.MethodGet, Path: schemaPath, Summary: "The JSON Schema of a job spec", Tags: []string{"jobs"}},
		func(context.Context, *lab.Lab, *struct{}) (*body[json.RawMessage], error) {
			text, err := jobspec.Schema()
			return answer(json.RawMessage(text), err)
		})
}

func (a *API) events(ctx context.Context, l *lab.Lab, in *eventsInput) (*huma.StreamResponse, error) {
	if err := plainText(in.Host, in.Kind, in.Who); err != nil {
		return nil, err
	}
	stream := strings.Contains(in.Accept, apiframe.EventStream)
	after, given := in.After, in.After != ""
	if stream && in.LastID != "" {
		after, given = in.LastID, true
	}
	f := lab.EventFilter{Host: in.Host, Kind: in.Kind, Who: in.Who, Job: in.Job, Limit: in.Limit, Newest: in.Newest && !stream}
	if err := f.CheckKind(); err != nil {
		return nil, err
	}
	if given {
		var err error
		if f.After, err = strconv.ParseInt(after, 10, 64); err != nil || f.After < 0 {
			return nil, fmt.Errorf("%w: %q is no id of an event", lab.ErrInput, after)
		}
	}
	if err := l.ResolveHost(ctx, &f); err != nil {
		return nil, err
	}
	if stream {
		return a.stream(ctx, l, f, given)
	}
	page, err := l.Events(ctx, f)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		hc.SetHeader("Content-Type", "application/json")
		if err := json.NewEncoder(hc.BodyWriter()).Encode(page); err != nil {
			a.cfg.Log.Debug("a caller was gone before its answer", "error", err)
		}
	}}, nil
}

// stream answers with events until the client goes, or does not read any more.
func (a *API) stream(ctx context.Context, l *lab.Lab, f lab.EventFilter, resumed bool) (*huma.StreamResponse, error) {
	if err := l.RequireCursor(ctx, f.After); err != nil {
		return nil, err
	}
	w, err := a.watch.Begin(ctx, l)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		defer a.watch.End(w)
		s := a.beginStream(hc)
		err := s.Say(": events follow\n\n")
		if err == nil && resumed {
			err = a.watch.Between(hc.Context(), l, f, w.After, func(b *lab.Batch) error {
				_, err := s.Write(f.Of(b, f.After))
				return err
			})
		}
		if err == nil {
			err = follow(hc.Context(), s, f, w, max(f.After, w.After))
		}
		a.cfg.Log.Debug("a stream of events ended", "error", err)
	}}, nil
}

// beginStream answers with a stream of events.
func (a *API) beginStream(hc huma.Context) *apiframe.Stream {
	apiframe.EventHeaders(hc.SetHeader)
	hc.SetStatus(http.StatusOK)
	return apiframe.NewStream(hc.BodyWriter(), a.streamPatience)
}

// Watch reads the journal for all who watch it through this replica.
func (a *API) Watch() *lab.Watch { return &a.watch }

// EndStreams ends all streams of events, before the server waits for its connections.
func (a *API) EndStreams() {
	a.watch.Close()
	a.logWatch.Close()
}

func follow(ctx context.Context, s *apiframe.Stream, f lab.EventFilter, w *lab.Watcher, after int64) error {
	var written time.Time
	return apiframe.Pass(ctx, s, w.Batches, func(batch *lab.Batch) (over bool, err error) {
		text := f.Of(batch, after)
		if len(text) == 0 {
			return false, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(time.Until(written.Add(streamEvery))):
		}
		text, open := gather(text, f, w, after)
		_, err = s.Write(text)
		written = time.Now()
		if err == nil && !open {
			err = apiframe.ErrCutOff
		}
		return false, err
	})
}

// gather adds what has come meanwhile. Of a watcher that was cut off nothing more comes.
func gather(text []byte, f lab.EventFilter, w *lab.Watcher, after int64) (all []byte, open bool) {
	text = slices.Clip(text) // others are sent the same bytes
	for {
		select {
		case batch, open := <-w.Batches:
			if !open {
				return text, false
			}
			text = append(text, f.Of(batch, after)...)
		default:
			return text, true
		}
	}
}

// frame appends an event as the stream has it.
func frame(to []byte, e *labapi.Event) []byte {
	text, err := json.Marshal(e)
	if err != nil {
		return to // it has nothing but texts, numbers and a time
	}
	return append(append(fmt.Appendf(to, "id: %d\ndata: ", e.ID), text...), "\n\n"...)
}
