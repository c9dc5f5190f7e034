package api

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/apiframe"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
)

// OfRunInput names a run.
type OfRunInput struct {
	ID int64 `path:"id" minimum:"1"`
}

// PartInput says which bytes are read.
type PartInput struct {
	Offset int64 `query:"offset" minimum:"0" doc:"The first byte that is read."`
	Limit  int64 `query:"limit" minimum:"0" doc:"How many are read at most; 0 all."`
}

// upTo is where the part of something with so many bytes ends.
func (p PartInput) upTo(size int64) int64 {
	if p.Limit > 0 {
		return min(size, p.Offset+p.Limit)
	}
	return size
}

type logInput struct {
	OfRunInput
	PartInput
	Stream string `path:"stream" pattern:"^[a-z]{1,32}$"`
	LastID string `header:"Last-Event-ID" doc:"As offset, which a browser sends when it connects again."`
	Accept string `header:"Accept" doc:"text/event-stream to follow the log until its run is over."`
}

// logRoutes are about what runs leave: logs, files and results of tests.
func (a *API) logRoutes() {
	tags := []string{"runs"}
	operation := func(id, path, summary string) huma.Operation {
		return huma.Operation{OperationID: id, Method: http.MethodGet, Path: "/runs/{id}" + path, Summary: summary, Tags: tags}
	}
	route(a, access.Reading, operation("list-logs", "/logs", "The logs of a run"),
		func(ctx context.Context, l *lab.Lab, in *OfRunInput) (*body[labapi.Page[labapi.Log]], error) {
			logs, err := l.Logs(ctx, in.ID)
			return answer(labapi.Page[labapi.Log]{Items: logs}, err)
		})
	read := operation("read-log", "/logs/{stream}", "A log, or with Accept: text/event-stream what comes to it")
	read.Description = "Each event has a part of the log in Base64, and as its id where the next part begins. The last event is of the type end."
	read.Errors = []int{http.StatusGone}
	read.Responses = bytesResponse("text/plain", apiframe.EventStream)
	route(a, access.Reading, read, a.readLog)
	route(a, access.Reading, operation("list-artifacts", "/artifacts", "The files that a run left"),
		func(ctx context.Context, l *lab.Lab, in *OfRunInput) (*body[labapi.Page[labapi.Artifact]], error) {
			files, err := l.Artifacts(ctx, in.ID)
			return answer(labapi.Page[labapi.Artifact]{Items: files}, err)
		})
	fetch := operation("read-artifact", "/artifacts/{path}", "A file that a run left")
	fetch.Errors = []int{http.StatusGone}
	fetch.Responses = bytesResponse("application/octet-stream")
	route(a, access.Reading, fetch, a.readArtifact)
	route(a, access.Reading, operation("list-results", "/results", "The results of single tests of a run"),
		func(ctx context.Context, l *lab.Lab, in *struct {
			OfRunInput
			PageInput
			Status string `query:"status" enum:"passed,failed,skipped,error" doc:"Those that ended so; all if left out."`
		}) (*body[labapi.Page[labapi.TestResult]], error) {
			after, err := lab.ParseCursor(in.After)
			if err != nil {
				return nil, err
			}
			return answer(l.Results(ctx, in.ID, in.Status, after, in.Limit))
		})
}

func bytesResponse(types ...string) map[string]*huma.Response {
	content := map[string]*huma.MediaType{}
	for _, t := range types {
		content[t] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}
	}
	return map[string]*huma.Response{"200": {Description: "Its bytes", Content: content}}
}

func (a *API) readLog(ctx context.Context, l *lab.Lab, in *logInput) (*huma.StreamResponse, error) {
	if strings.Contains(in.Accept, apiframe.EventStream) {
		return a.followLog(ctx, l, in)
	}
	log, err := l.Log(ctx, in.ID, in.Stream)
	if err != nil {
		return nil, err
	}
	return a.bytesOf(l, in.ID, in.Stream, in.Offset, in.upTo(log.Size), map[string]string{
		// A log is what others wrote: no browser is to take it for a page.
		"Content-Type": "text/plain; charset=utf-8", "Hostsched-Log-Cut": fmt.Sprint(log.Cut), "Hostsched-Log-Complete": strconv.FormatBool(log.Complete),
	}), nil
}

func (a *API) readArtifact(ctx context.Context, l *lab.Lab, in *struct {
	OfRunInput
	PartInput
	Path string `path:"path" maxLength:"255"`
}) (*huma.StreamResponse, error) {
	file, stream, err := l.Artifact(ctx, in.ID, in.Path)
	if err != nil {
		return nil, err
	}
	return a.bytesOf(l, in.ID, stream, in.Offset, in.upTo(file.Size), map[string]string{"Content-Type": "application/octet-stream", "Content-Disposition": "attachment"}), nil
}

// bytesOf answers with the bytes of a stream. They are as many as the header says, or the
// connection breaks off.
func (a *API) bytesOf(l *lab.Lab, run int64, stream string, from, upTo int64, header map[string]string) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		to := &lateHead{begin: func() io.Writer {
			for name, value := range header {
				hc.SetHeader(name, value)
			}
			hc.SetHeader("X-Content-Type-Options", "nosniff")
			hc.SetHeader("Content-Length", fmt.Sprint(max(0, upTo-from)))
			hc.SetStatus(http.StatusOK)
			return apiframe.NewStream(hc.BodyWriter(), a.downloadPatience)
		}}
		if err := l.WriteLog(hc.Context(), to, run, stream, from, upTo); err != nil {
			a.logFailed(hc, to, err, run, stream)
			return
		}
		to.head()
	}}
}

// lateHead writes the head of an answer before its first byte, until which it can become a
// problem.
type lateHead struct {
	begin func() io.Writer
	w     io.Writer
}

func (h *lateHead) head() {
	if h.w == nil {
		h.w = h.begin()
	}
}

// Write implements io.Writer.
func (h *lateHead) Write(p []byte) (int, error) {
	h.head()
	return h.w.Write(p)
}

// logFailed tells why what a run left cannot be read: the log of the server, and whoever asked
// if nothing was answered yet.
func (a *API) logFailed(hc huma.Context, to *lateHead, err error, run int64, stream string) {
	if lab.IsFileFault(err) {
		a.faults.Error("what a run left cannot be read", "run", run, "stream", stream, "error", err)
	} else {
		a.cfg.Log.Debug("a log was not read to its end", "run", run, "stream", stream, "error", err)
	}
	if to.w == nil {
		apiframe.Refuse(a.api, hc, a.asProblem(err), a.cfg.Log)
	}
}

// followLog answers with what comes to a log until its run is over.
func (a *API) followLog(ctx context.Context, l *lab.Lab, in *logInput) (*huma.StreamResponse, error) {
	from, err := strconv.ParseInt(cmp.Or(in.LastID, fmt.Sprint(in.Offset)), 10, 64)
	if err != nil || from < 0 {
		return nil, fmt.Errorf("%w: Last-Event-ID: %q is no id of an event", lab.ErrInput, in.LastID)
	}
	log, err := l.Log(ctx, in.ID, in.Stream)
	if err != nil {
		return nil, err
	}
	if from > log.Size {
		return nil, fmt.Errorf("%w: the log has %d bytes, and not %d; read it from its beginning", lab.ErrExpired, log.Size, from)
	}
	f, err := a.logWatch.Begin(ctx, l, in.ID, in.Stream)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		defer a.logWatch.End(f)
		var s *apiframe.Stream
		to := &lateHead{begin: func() io.Writer {
			s = a.beginStream(hc)
			return &partWriter{s, from}
		}}
		if err := l.WriteLog(hc.Context(), to, in.ID, in.Stream, from, f.From); err != nil {
			a.logFailed(hc, to, err, in.ID, in.Stream)
			return
		}
		to.head()
		err := s.Say(": a log follows\n\n")
		if err == nil {
			err = followLog(hc.Context(), s, f, from)
		}
		a.cfg.Log.Debug("a stream of a log ended", "error", err)
	}}, nil
}

// partWriter writes the bytes of a log as events.
type partWriter struct {
	*apiframe.Stream
	at int64
}

// Write implements io.Writer.
func (w *partWriter) Write(p []byte) (int, error) {
	part := labapi.LogPart{Offset: w.at, Data: p}
	w.at += int64(len(p))
	return len(p), w.Event("id: "+strconv.FormatInt(w.at, 10)+"\n", part)
}

// followLog writes the parts that come, of which a client that was ahead has some already.
func followLog(ctx context.Context, s *apiframe.Stream, f *lab.LogFollower, from int64) error {
	return apiframe.Pass(ctx, s, f.Parts, func(news lab.LogNews) (over bool, err error) {
		if news.Over != nil {
			return true, s.Event("event: end\n", news.Over)
		}
		known := min(max(0, from-news.Part.Offset), int64(len(news.Part.Data)))
		if known == int64(len(news.Part.Data)) {
			return false, nil
		}
		_, err = (&partWriter{s, news.Part.Offset + known}).Write(news.Part.Data[known:])
		return false, err
	})
}
