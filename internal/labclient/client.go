package labclient

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hostsched/hostsched/internal/traceid"
)

// Prefix begins the path of every route.
const Prefix = "/api/v1"

const (
	// dialTimeout is after what time another server is tried.
	dialTimeout = 3 * time.Second
	// callTimeout bounds a call with all servers that are tried; suites of thousands of
	// jobs and imports of thousands of hosts take seconds.
	callTimeout = time.Minute
)

// Config says which lab is called, and as whom.
type Config struct {
	// Servers answer the same API; the next one is asked if one is away.
	Servers []string
	// Token is who calls, empty for a socket and for a lab that is open.
	Token string
	// CAFile has the authorities of the servers' certificates, those of the system if
	// empty.
	CAFile string
	// Prefix begins the path of every route, Prefix of this package if empty.
	Prefix string
	// Trace is the trace that calls belong to, as a traceparent, if there is one.
	Trace string
}

// Client calls the API of one lab. Several goroutines may use it at the same time.
type Client struct {
	servers []server
	// next is the server that answered last. All copies with another token share it.
	next   *atomic.Int64
	token  string
	prefix string
	trace  string
}

// New checks a configuration; nobody is called yet.
func New(cfg Config) (*Client, error) {
	transport, err := newTransport(cfg.CAFile)
	if err != nil {
		return nil, err
	}
	if err := checkToken(cfg.Token); err != nil {
		return nil, err
	}
	c := &Client{next: new(atomic.Int64), token: cfg.Token, prefix: cmp.Or(cfg.Prefix, Prefix), trace: cfg.Trace}
	for _, address := range cfg.Servers {
		s, err := newServer(address, transport)
		if err != nil {
			return nil, err
		}
		c.servers = append(c.servers, s)
	}
	if len(c.servers) == 0 {
		return nil, fmt.Errorf("%w: no server is named", ErrSetting)
	}
	return c, nil
}

func checkToken(token string) error {
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("%w: the token has characters that no token has; it is one line, like hsu_…", ErrSetting)
	}
	return nil
}

// As returns a client that calls the same servers, over the same connections, with another
// token.
func (c *Client) As(token string) (*Client, error) {
	if err := checkToken(token); err != nil {
		return nil, err
	}
	other := *c
	other.token = token
	return &other, nil
}

func newTransport(caFile string) (*http.Transport, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout:   dialTimeout,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:     true,
		ResponseHeaderTimeout: callTimeout,
	}
	if caFile == "" {
		return t, nil
	}
	text, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("%w: the authorities of the servers' certificates: %w", ErrSetting, err)
	}
	t.TLSClientConfig.RootCAs = x509.NewCertPool()
	if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%w: %s has no certificate in PEM form", ErrSetting, caFile)
	}
	return t, nil
}

// Call is one call of the API.
type Call struct {
	Method string
	// Path is below Prefix; Path joins names of things to one.
	Path   string
	Query  url.Values
	Header http.Header
	// Body is sent as JSON, or as it is if it is a []byte; nil sends none.
	Body any
	// Repeatable says that twice is the same as once, where the method and the header do
	// not say it.
	Repeatable bool
	// Timeout bounds the call with all servers that are tried, a minute if it is 0.
	Timeout time.Duration
}

// Path joins the parts of a path, which may have any characters.
func Path(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("/" + url.PathEscape(p))
	}
	return b.String()
}

// Get reads something.
func (c *Client) Get(ctx context.Context, path string, query url.Values, out any) error {
	return c.Do(ctx, Call{Method: http.MethodGet, Path: path, Query: query}, out)
}

// Do makes a call and decodes its answer into out, which may be nil. An answer without
// success is a Problem.
func (c *Client) Do(ctx context.Context, call Call, out any) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(call.Timeout, callTimeout))
	defer cancel()
	res, err := c.send(ctx, call)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // it was read
	if out == nil || res.StatusCode == http.StatusNoContent {
		return nil
	}
	if text, ok := out.(*[]byte); ok {
		*text, err = io.ReadAll(res.Body)
	} else {
		err = json.NewDecoder(res.Body).Decode(out)
	}
	if err != nil {
		return fmt.Errorf("%w: %s %s: the answer broke off or is none of hostsched: %w", ErrAway, call.Method, call.Path, err)
	}
	return nil
}

// send asks one server after the other until one answers. What may have been done is not
// sent again, unless twice is the same as once.
func (c *Client) send(ctx context.Context, call Call) (*http.Response, error) {
	if err := requireNames(call.Path); err != nil {
		return nil, err
	}
	body, err := encode(call.Body)
	if err != nil {
		return nil, err
	}
	var failed []error
	answered := true
	for range c.servers {
		next := c.next.Load()
		s := c.servers[next]
		res, err := c.ask(ctx, s, call, body)
		if err == nil {
			return res, nil
		}
		var p *Problem
		if errors.As(err, &p) && p.Status < http.StatusInternalServerError {
			return nil, err
		}
		answered = answered && p != nil
		failed = append(failed, fmt.Errorf("%s: %w", s.address, err))
		// Another call may have passed it over already.
		c.next.CompareAndSwap(next, (next+1)%int64(len(c.servers)))
		if ctx.Err() != nil || !mayRepeat(call, err) {
			break
		}
	}
	if answered {
		return nil, unable{fmt.Errorf("no server can do this now: %w", errors.Join(failed...))}
	}
	return nil, fmt.Errorf("%w: %w", ErrAway, errors.Join(failed...))
}

// unable is ErrAway where all servers answered that they cannot do their work.
type unable struct{ error }

func (u unable) Unwrap() error { return u.error }

// Is implements errors.Is.
func (u unable) Is(target error) bool { return target == ErrAway }

// requireNames refuses what means another folder in every path, and so cannot be a name.
func requireNames(path string) error {
	for part := range strings.SplitSeq(path, "/") {
		if part == "." || part == ".." {
			return fmt.Errorf("%w: %q is no name", ErrSetting, part)
		}
	}
	return nil
}

func (c *Client) ask(ctx context.Context, s server, call Call, body []byte) (*http.Response, error) {
	address := s.base + c.prefix + call.Path
	if len(call.Query) > 0 {
		address += "?" + call.Query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, call.Method, address, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSetting, err)
	}
	if call.Body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, values := range call.Header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	if c.trace != "" {
		req.Header.Set(traceid.Header, c.trace)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := s.http.Do(req)
	if err != nil {
		return nil, unwrapURL(err)
	}
	if res.StatusCode >= http.StatusOK && res.StatusCode < http.StatusMultipleChoices {
		return res, nil
	}
	return nil, errors.Join(problemOf(res), res.Body.Close())
}

// unwrapURL leaves out the address, which is said once for all errors of a server.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func encode(body any) ([]byte, error) {
	switch b := body.(type) {
	case nil:
		return nil, nil
	case []byte:
		return b, nil
	}
	text, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSetting, err)
	}
	return text, nil
}

// mayRepeat tells whether a call may be sent to another server after an error.
func mayRepeat(call Call, err error) bool {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" || IsProblem(err, "not-ready") {
		return true // nobody has seen it
	}
	return call.Repeatable || call.Method != http.MethodPost || call.Header.Get("Idempotency-Key") != ""
}

// Servers are the addresses of the lab.
func (c *Client) Servers() []string {
	var out []string
	for _, s := range c.servers {
		out = append(out, s.address)
	}
	return out
}

// Token is who calls.
func (c *Client) Token() string { return c.token }

// GetVersion is Get, and returns the version that a change may be made of.
func (c *Client) GetVersion(ctx context.Context, path string, out any) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	res, err := c.send(ctx, Call{Method: http.MethodGet, Path: path})
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }() // it was read
	if err := json.NewDecoder(res.Body).Decode(out); err != nil {
		return "", fmt.Errorf("%w: GET %s: the answer broke off or is none of hostsched: %w", ErrAway, path, err)
	}
	return res.Header.Get("ETag"), nil
}

// AnyVersion is the header of a change that does not depend on what was read.
func AnyVersion() http.Header { return OfVersion("*") }

// OfVersion is the header of a change of this version only.
func OfVersion(version string) http.Header { return http.Header{"If-Match": {version}} }
