package console

import (
	"bytes"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hostsched/hostsched/internal/labapi"
)

const (
	// tailLines is how much of a log a job's page shows, and pageLines the page of a log.
	tailLines = 200
	pageLines = 2000
	// maxLine is how much of a line is shown.
	maxLine = 4 << 10
)

// logQuery says which lines of a log are shown: the last ones, those from a number on, or those
// with a text.
type logQuery struct {
	tail, from int
	text       string
}

// logView are lines of a log.
type logView struct {
	Run    labapi.Run
	Stream string
	Size   int64
	Lines  []logLine
	// Total is how many complete lines there are, and Offset where the next one begins.
	Total  int
	Offset int64
	// Look is the class of what follows these lines.
	Look string
	// Text is what was searched, Earlier and Later the first lines of other pages, 0 if there
	// are none. Follow tells whether more may come.
	Text           string
	Earlier, Later int
	Follow         bool
	// Refused is why the log cannot be read, if it cannot.
	Refused string
}

type logLine struct {
	N int
	// raw is the line as it was written, and begins how a terminal would show its beginning.
	raw    string
	begins look
}

// Spans are the parts of a line that look alike.
func (l logLine) Spans() []span {
	spans, _ := l.begins.spans(l.raw)
	return spans
}

// logPage shows a log with numbers of lines.
func (p *page) logPage() error {
	run, err := strconv.ParseInt(p.r.PathValue("id"), 10, 64)
	if err != nil {
		return &refusal{Status: http.StatusNotFound, Detail: "There is no such run."}
	}
	form := p.r.URL.Query()
	q := logQuery{tail: pageLines, text: form.Get("q")}
	if n, err := strconv.Atoi(form.Get("from")); err == nil && n > 0 {
		q.from = n
	}
	v, err := p.readLog(run, p.r.PathValue("stream"), q)
	if err != nil {
		return err
	}
	return p.render(http.StatusOK, "log", "Log of run "+id(run), v)
}

// readLog reads a log once from its beginning, and keeps the lines that are asked for.
func (p *page) readLog(run int64, stream string, q logQuery) (logView, error) {
	v := logView{Stream: stream, Text: q.text}
	path := "/runs/" + id(run)
	if err := p.ask(&v.Run, path, nil); err != nil {
		return v, err
	}
	lines := &lineKeeper{logQuery: q}
	a := &answer{header: http.Header{}, into: lines}
	if err := p.c.callInto(p.r.Context(), p.r, a, http.MethodGet, path+"/logs/"+url.PathEscape(stream), nil, nil); err != nil {
		return v, err
	}
	v.Size = lines.size
	v.Follow = v.Run.Closed == nil && q.from == 0 && q.text == ""
	v.Look = lines.look.class()
	if !v.Follow {
		lines.finish()
	}
	v.Lines, v.Total, v.Offset = lines.kept, lines.n, lines.complete
	if len(v.Lines) > 0 && q.text == "" {
		if first := v.Lines[0].N; first > 1 {
			v.Earlier = max(1, first-pageLines)
		}
		if last := v.Lines[len(v.Lines)-1].N; last < v.Total {
			v.Later = last + 1
		}
	}
	return v, nil
}

// lineKeeper takes a log and keeps some lines of it, so that a log of any size needs little
// memory.
type lineKeeper struct {
	logQuery
	kept []logLine
	n    int
	// size is how many bytes came, complete how many of them belong to complete lines.
	size, complete int64
	begun          []byte
	// look is how a terminal would show what follows.
	look look
}

// Write implements io.Writer.
func (k *lineKeeper) Write(b []byte) (int, error) {
	k.size += int64(len(b))
	for rest := b; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n')
		part := rest
		if end >= 0 {
			part = rest[:end]
		}
		if room := maxLine - len(k.begun); room > 0 {
			k.begun = append(k.begun, part[:min(room, len(part))]...)
		}
		if end < 0 {
			break
		}
		k.line()
		rest = rest[end+1:]
		k.complete = k.size - int64(len(rest))
	}
	return len(b), nil
}

// finish takes what is left as the last line.
func (k *lineKeeper) finish() {
	if len(k.begun) > 0 {
		k.line()
	}
	k.complete = k.size
}

func (k *lineKeeper) line() {
	k.n++
	// What others wrote is never more than text.
	line := logLine{k.n, strings.ToValidUTF8(string(bytes.TrimSuffix(k.begun, []byte("\r"))), "\uFFFD"), k.look}
	if bytes.IndexByte(k.begun, 0x1b) >= 0 {
		_, k.look = k.look.spans(line.raw)
	}
	k.begun = k.begun[:0]
	switch {
	case k.text != "":
		if len(k.kept) < pageLines && strings.Contains(strings.ToLower(plain(line.raw)), strings.ToLower(k.text)) {
			k.kept = append(k.kept, line)
		}
	case k.from > 0:
		if k.n >= k.from && k.n < k.from+pageLines {
			k.kept = append(k.kept, line)
		}
	default:
		// Twice as many are kept before the older half goes: moving them costs little then.
		if k.kept = append(k.kept, line); len(k.kept) >= 2*k.tail {
			k.kept = append(k.kept[:0], k.kept[len(k.kept)-k.tail:]...)
		}
	}
}

// SetWriteDeadline lets a stream be written here that bounds each write: nobody has to wait.
func (a *answer) SetWriteDeadline(time.Time) error { return nil }

// Flush implements http.Flusher.
func (a *answer) Flush() {}
