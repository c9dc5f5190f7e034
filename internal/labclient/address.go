package labclient

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// unixScheme begins the address of a server that answers on a socket of this machine.
const unixScheme = "unix:"

// IsAddress tells whether a text is meant to be the address of a server. What is not may
// be the name of one.
func IsAddress(text string) bool {
	return strings.Contains(text, "://") || strings.HasPrefix(text, unixScheme)
}

// server is one of the replicas that answer the same API.
type server struct {
	address string
	base    string
	http    *http.Client
}

// newServer checks an address: http://HOST:PORT, https://HOST:PORT or unix:/PATH.
func newServer(address string, transport *http.Transport) (server, error) {
	s := server{address: address}
	if path, ok := strings.CutPrefix(address, unixScheme); ok {
		if !strings.HasPrefix(path, "/") {
			return s, fmt.Errorf("%w: server %q: the path of a socket begins with /, like unix:/run/hostsched.sock", ErrSetting, address)
		}
		transport = transport.Clone()
		transport.Proxy = nil
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", path)
		}
		s.base = "http://localhost"
	} else {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return s, fmt.Errorf("%w: server %q: it must be like https://lab.example:8470, http://10.0.0.1:8470 or unix:/run/hostsched.sock", ErrSetting, address)
		}
		s.base = strings.TrimSuffix(u.String(), "/")
	}
	s.http = &http.Client{Transport: transport, CheckRedirect: noRedirect}
	return s, nil
}

// noRedirect: a token is for the server that it was given for, and for no other.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
