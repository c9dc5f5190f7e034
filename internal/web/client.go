package web

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/hostsched/hostsched/internal/certs"
)

// Client asks replicas over HTTP.
type Client struct {
	// Certs are for replicas that answer over TLS; nil for the authorities of the system.
	Certs *certs.Keeper
	// Scheme is that of addresses without one; http if empty.
	Scheme string
}

// Get asks the replica at an address (host:port, perhaps with a scheme before it) for a
// path.
func (c Client) Get(ctx context.Context, address, path string) (*http.Response, error) {
	if !strings.Contains(address, "://") {
		address = cmp.Or(c.Scheme, "http") + "://" + address
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(address, "/")+path, nil)
	if err != nil {
		return nil, err
	}
	return (&http.Client{Transport: c.Certs.Transport()}).Do(req)
}

// ReadStatus asks the replica at an address for its /v1/status, within a bound.
func (c Client) ReadStatus(ctx context.Context, address string, bound time.Duration) (st ServerStatus, err error) {
	const path = "/v1/status"
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	res, err := c.Get(ctx, address, path)
	if err != nil {
		return st, err
	}
	if res.StatusCode != http.StatusOK {
		return st, errors.Join(fmt.Errorf("%s answers %s to %s; check that a hostsched of this version listens there", address, res.Status, path), res.Body.Close())
	}
	err = json.NewDecoder(res.Body).Decode(&st)
	return st, errors.Join(err, res.Body.Close())
}
