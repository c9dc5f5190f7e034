package console

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/hostsched/hostsched/internal/api"
)

// refusal is a problem document of the API, or what takes its place.
type refusal struct {
	Type   string `json:"type"`
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Errors []struct {
		Message  string `json:"message"`
		Location string `json:"location"`
	} `json:"errors"`
}

func (r *refusal) Error() string { return fmt.Sprintf("%d: %s", r.Status, r.Detail) }

// answer keeps what a handler answers.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
	// into gets the bytes of an answer that is no problem, instead of body.
	into io.Writer
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

// Write implements http.ResponseWriter.
func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	if a.into != nil && a.status < http.StatusBadRequest {
		return a.into.Write(b)
	}
	return a.body.Write(b)
}

// passed are the headers of a browser by which the API knows who calls and from which page.
var passed = []string{"Cookie", "Origin", "Sec-Fetch-Site", "X-Forwarded-Proto"}

// call asks the API as the sender of a request. headers are set besides.
func (c *Console) call(ctx context.Context, r *http.Request, method, path string, body any, headers http.Header) (*answer, error) {
	a := &answer{header: http.Header{}}
	return a, c.callInto(ctx, r, a, method, path, body, headers)
}

func (c *Console) callInto(ctx context.Context, r *http.Request, a *answer, method, path string, body any, headers http.Header) error {
	var sent io.Reader = http.NoBody
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, api.Prefix+path, sent)
	if err != nil {
		return err
	}
	req.Host, req.RemoteAddr, req.TLS = r.Host, r.RemoteAddr, r.TLS
	for _, name := range passed {
		if v := r.Header.Values(name); v != nil {
			req.Header[name] = v
		}
	}
	req.Header.Set("Content-Type", "application/json")
	for name, values := range headers {
		req.Header[name] = values
	}
	c.cfg.API.ServeHTTP(a, req)
	if a.status < http.StatusBadRequest {
		return ctx.Err()
	}
	refused := &refusal{Status: a.status}
	if err := json.Unmarshal(a.body.Bytes(), refused); err != nil {
		refused.Detail = a.body.String()
	}
	return refused
}

// ask reads what the API has at a path into out.
func (p *page) ask(out any, path string, query url.Values) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	a, err := p.c.call(p.r.Context(), p.r, http.MethodGet, path, nil, nil)
	if err != nil {
		return err
	}
	return json.Unmarshal(a.body.Bytes(), out)
}

// do calls the API to change something, and reads the answer into out unless that is nil.
func (p *page) do(out any, path string, body any) error {
	a, err := p.c.call(p.r.Context(), p.r, http.MethodPost, path, body, nil)
	if err != nil || out == nil {
		return err
	}
	return json.Unmarshal(a.body.Bytes(), out)
}
