package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// ErrFiles is the error of files that cannot be used.
var ErrFiles = errors.New("certificates cannot be used")

// soonExpires is how long before its end a certificate is worth a warning, at most; of one
// that is valid for a short time it is the last tenth.
const (
	soonExpires = 7 * 24 * time.Hour
	soonPart    = 10
)

// Files are where a certificate and its authorities are.
type Files struct {
	// Cert and Key are needed to answer; without them one can only ask.
	Cert, Key string
	// CA has the authorities of the others; it is empty for those of the system.
	CA string
	// RequireClient refuses clients without a certificate of CA.
	RequireClient bool
}

// Keeper has what the files say, or said when they could be used last. A nil Keeper stands
// for connections without TLS.
type Keeper struct {
	files Files

	mu          sync.Mutex
	pair        *tls.Certificate // nil without Cert
	authorities *x509.CertPool   // nil for those of the system
	// fault is why the files could not be used when they were read last.
	fault error
}

// Open reads the files. Without any it returns a nil Keeper.
func Open(files Files) (*Keeper, error) {
	if files == (Files{}) {
		return nil, nil
	}
	k := &Keeper{files: files}
	k.read()
	if k.fault != nil {
		return nil, k.fault
	}
	return k, nil
}

// read reads the files again. What was usable stays in use if they are not, because they
// may be in the middle of being replaced.
func (k *Keeper) read() (pair *tls.Certificate, authorities *x509.CertPool) {
	pair, authorities, err := k.files.load()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fault = err; err == nil {
		k.pair, k.authorities = pair, authorities
	}
	return k.pair, k.authorities
}

func (f Files) load() (pair *tls.Certificate, authorities *x509.CertPool, err error) {
	if f.Cert != "" {
		p, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: certificate %s with key %s: %w", ErrFiles, f.Cert, f.Key, err)
		}
		pair = &p
	}
	if f.CA == "" {
		return pair, nil, nil
	}
	data, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: certificate authority: %w", ErrFiles, err)
	}
	authorities = x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(data) {
		return nil, nil, fmt.Errorf("%w: %s has no certificate of an authority in PEM", ErrFiles, f.CA)
	}
	return pair, authorities, nil
}

// Answers tells whether there is a certificate to answer with.
func (k *Keeper) Answers() bool { return k != nil && k.files.Cert != "" }

// Server returns what a listener needs, which reads the files for every connection.
func (k *Keeper) Server() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		pair, authorities := k.read()
		cfg := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*pair}, NextProtos: []string{"h2", "http/1.1"}}
		if k.files.RequireClient {
			cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, authorities
		}
		return cfg, nil
	}}
}

// client is what a connection to another replica needs now.
func (k *Keeper) client() *tls.Config {
	pair, authorities := k.read()
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: authorities}
	if pair != nil {
		cfg.Certificates = []tls.Certificate{*pair}
	}
	return cfg
}

// Client returns a function for clients of servers that are no replicas, which returns what a
// new connection needs. It is nil without files.
func Client(files Files) func() (*tls.Config, error) {
	if files == (Files{}) {
		return nil
	}
	k := &Keeper{files: files}
	return func() (*tls.Config, error) {
		cfg := k.client()
		if cfg.RootCAs == nil && cfg.Certificates == nil { // the files never could be used
			return nil, k.lastFault()
		}
		return cfg, nil
	}
}

func (k *Keeper) lastFault() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.fault
}

// Transport returns a transport for http and https that keeps no connection after its
// request. A nil Keeper trusts the authorities of the system.
func (k *Keeper) Transport() *http.Transport {
	t := &http.Transport{DisableKeepAlives: true}
	if k != nil {
		t.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			d := tls.Dialer{Config: k.client()}
			return d.DialContext(ctx, network, address)
		}
	}
	return t
}

// Scheme is that of the addresses of replicas with these files: http or https.
func (k *Keeper) Scheme() string {
	if k == nil {
		return "http"
	}
	return "https"
}

// State is what is known of a certificate.
type State struct {
	File    string    `json:"file"`
	Subject string    `json:"subject"`
	Until   time.Time `json:"valid_until"`
	// Fault says what is wrong with the files, or that the certificate is not valid, or
	// not for much longer; empty if all is well.
	Fault string `json:"fault,omitempty"`
}

// State reads the files and says what is wrong with the certificate; nil without one.
func (k *Keeper) State(now time.Time) *State {
	if !k.Answers() {
		return nil
	}
	pair, _ := k.read()
	leaf := pair.Leaf
	s := &State{File: k.files.Cert, Subject: leaf.Subject.String(), Until: leaf.NotAfter.UTC()}
	fault := k.lastFault()
	validity := leaf.NotAfter.Sub(leaf.NotBefore)
	switch {
	case fault != nil:
		s.Fault = fmt.Sprintf("%v; the former certificate, valid until %s, stays in use", fault, s.Until.Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		s.Fault = fmt.Sprintf("the certificate in %s is not valid before %s", s.File, leaf.NotBefore.UTC().Format(time.RFC3339))
	case now.After(leaf.NotAfter):
		s.Fault = fmt.Sprintf("the certificate in %s expired at %s; other replicas do not trust this one; replace the file", s.File, s.Until.Format(time.RFC3339))
	case leaf.NotAfter.Sub(now) < min(soonExpires, validity/soonPart):
		s.Fault = fmt.Sprintf("the certificate in %s expires soon, at %s; replace the file", s.File, s.Until.Format(time.RFC3339))
	}
	return s
}
