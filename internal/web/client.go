package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// ReadStatus asks the replica at an address (host:port) for its /v1/status,
// within a bound.
func ReadStatus(ctx context.Context, address string, bound time.Duration) (st ServerStatus, err error) {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/v1/status", nil)
	if err != nil {
		return st, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return st, err
	}
	if res.StatusCode != http.StatusOK {
		return st, errors.Join(fmt.Errorf("%s answers %s to %s; check that a hostsched of this version listens there", address, res.Status, req.URL.Path), res.Body.Close())
	}
	err = json.NewDecoder(res.Body).Decode(&st)
	return st, errors.Join(err, res.Body.Close())
}
