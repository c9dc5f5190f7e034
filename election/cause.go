package election

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// probeTimeout bounds the question why etcd does not answer.
	probeTimeout = time.Second
	// maxAnswer bounds how much of an answer is read.
	maxAnswer = 4 << 10
)

// Connection says how to reach etcd.
type Connection struct {
	// Config is asked for every new client, so that a password or a certificate that
	// was changed is used from then on.
	Config func() (clientv3.Config, error)
	// CertFile and CAFile are named in errors.
	CertFile, CAFile string
}

// At is a Connection that never changes.
func At(cfg clientv3.Config) Connection {
	return Connection{Config: func() (clientv3.Config, error) { return cfg, nil }}
}

// Client returns a new client, which uses the passwords and certificates of now.
func (c Connection) Client() (*clientv3.Client, error) {
	cfg, err := c.Config()
	if err != nil {
		return nil, err
	}
	client, err := NewClient(cfg)
	if err != nil {
		err = fmt.Errorf("connect to etcd at %s: %w", strings.Join(cfg.Endpoints, ", "), err)
		return nil, c.Explain(context.Background(), err)
	}
	return client, nil
}

// Explain adds to an error why etcd does not answer, if that is the error. The client
// itself says no more than that time ran out, whatever was wrong with the connection.
func (c Connection) Explain(ctx context.Context, err error) error {
	if err == nil || !temporary(err) || ctx.Err() != nil || strings.Contains(err.Error(), causeIs) {
		return err
	}
	return fmt.Errorf("%w%s%s", err, causeIs, c.cause(ctx))
}

// causeIs comes before the cause in an error, which is not explained twice.
const causeIs = "; asking why: "

// cause asks every endpoint for its health and says what comes of it.
func (c Connection) cause(ctx context.Context) string {
	cfg, err := c.Config()
	if err != nil {
		return err.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	texts := make([]string, len(cfg.Endpoints))
	var asking sync.WaitGroup
	for i, endpoint := range cfg.Endpoints {
		asking.Go(func() { texts[i] = endpoint + ": " + c.health(ctx, endpoint, cfg.TLS) })
	}
	asking.Wait()
	return strings.Join(texts, "; ")
}

// health says how one endpoint is.
func (c Connection) health(ctx context.Context, endpoint string, config *tls.Config) string {
	res, err := askHealth(ctx, endpoint, config)
	if err != nil {
		if errors.Is(err, io.EOF) {
			return "it closes the connection; is " + strings.Split(withScheme(endpoint, config), "://")[0] + " the right scheme?"
		}
		return c.wording(err)
	}
	defer func() { _ = res.Body.Close() }() // it was only read
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return err.Error()
	}
	if res.StatusCode == http.StatusOK {
		return "it is healthy, but did not answer in time"
	}
	var answer struct{ Reason string }
	if json.Unmarshal(body, &answer) == nil && answer.Reason != "" {
		return "it is not healthy: " + answer.Reason
	}
	return res.Status + ": " + strings.TrimSpace(string(body))
}

// unixScheme begins an endpoint that is a socket of this machine.
const unixScheme = "unix://"

// askHealth asks an endpoint for its health over HTTP.
func askHealth(ctx context.Context, endpoint string, config *tls.Config) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(withScheme(endpoint, config), "/")+"/health", nil)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	if socket, ok := strings.CutPrefix(endpoint, unixScheme); ok {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}
	}
	return (&http.Client{Transport: transport}).Do(req)
}

func withScheme(endpoint string, config *tls.Config) string {
	switch {
	case strings.HasPrefix(endpoint, unixScheme):
		return "http://localhost" // the socket itself is dialled
	case strings.Contains(endpoint, "://"):
		return endpoint
	case config != nil:
		return "https://" + endpoint
	}
	return "http://" + endpoint
}

// ClockAhead returns how far the clock of an endpoint is ahead of this machine's, to about half
// a second: etcd tells no time but in the head of what it answers over HTTP.
func (c Connection) ClockAhead(ctx context.Context, endpoint string) (time.Duration, error) {
	cfg, err := c.Config()
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	asked := time.Now()
	res, err := askHealth(ctx, endpoint, cfg.TLS)
	if err != nil {
		return 0, errors.New(c.wording(err))
	}
	_ = res.Body.Close() // only its head is of interest
	theirs, err := http.ParseTime(res.Header.Get("Date"))
	if err != nil {
		return 0, fmt.Errorf("it does not say what time it is: Date is %q", res.Header.Get("Date"))
	}
	// The second that it names had begun before it answered.
	return theirs.Add(time.Second / 2).Sub(asked.Add(time.Since(asked) / 2)), nil
}

// wording says an error of a connection, and of TLS with the files that it depends on.
func (c Connection) wording(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	text := err.Error()
	if errors.Is(err, context.DeadlineExceeded) {
		text = fmt.Sprintf("no answer within %v", probeTimeout)
	}
	if !strings.Contains(text, "tls:") && !strings.Contains(text, "x509:") {
		return text
	}
	if c.CAFile != "" {
		text += ", CA file " + c.CAFile
	}
	if c.CertFile != "" {
		text += ", client certificate " + c.CertFile + " " + validity(c.CertFile)
	}
	return text
}

// validity says until when a certificate is valid.
func validity(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return "cannot be read: " + err.Error()
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return "is no PEM file"
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "cannot be read: " + err.Error()
	}
	return "is valid until " + cert.NotAfter.UTC().Format(time.RFC3339)
}

// sayWhy notes in the membership why etcd does not answer, as long as it does not, until
// ctx ends.
func (e *Etcd) sayWhy(ctx context.Context, m *Membership, answered func() time.Time) {
	silent := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(sayEvery):
		}
		since := answered()
		if time.Since(since) < max(2*e.cfg.TTL/keepaliveParts, sayAfter) {
			if silent {
				m.again()
			}
			silent = false
			continue
		}
		silent = true
		cause := e.cfg.Etcd.cause(ctx)
		if ctx.Err() == nil {
			m.note(fmt.Errorf("no answer since %s: %s", since.UTC().Format(time.RFC3339), cause))
		}
	}
}

const (
	// sayAfter is after how much silence of etcd it is worth asking why.
	sayAfter = time.Second
	sayEvery = 500 * time.Millisecond
)
