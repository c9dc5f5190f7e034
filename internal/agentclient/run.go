package agentclient

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/labclient"
)

// Run makes the calls of one run. Every answer renews its lease.
type Run struct {
	lab  *labclient.Client
	path string
}

// Run returns the calls of a run that was claimed.
func (c *Client) Run(id int64, token string) (*Run, error) {
	lab, err := c.lab.As(token)
	if err != nil {
		return nil, err
	}
	return &Run{lab, labclient.Path("runs", strconv.FormatInt(id, 10))}, nil
}

// State tells how far the run is.
func (r *Run) State(ctx context.Context, in labapi.RunState) (out labapi.RunAnswer, err error) {
	return out, post(ctx, r.lab, r.path+"/state", 0, in, &out)
}

// Renew only renews the lease.
func (r *Run) Renew(ctx context.Context) (out labapi.RunAnswer, err error) {
	return out, post(ctx, r.lab, r.path+"/renew", 0, nil, &out)
}

// PutLog appends to a log, and returns where it ends now. It fails with an OffsetError if the
// servers have more or less than offset bytes, and with ErrLogFull over the cap.
func (r *Run) PutLog(ctx context.Context, stream string, offset int64, data []byte) (out labapi.LogEnd, err error) {
	return out, typed(r.lab.Do(ctx, labclient.Call{
		Method: http.MethodPut, Path: r.path + labclient.Path("logs", stream), Timeout: callTimeout,
		Query:  url.Values{"offset": {strconv.FormatInt(offset, 10)}},
		Header: http.Header{"Content-Type": {"application/octet-stream"}}, Body: data,
	}, &out))
}

// Artifact is a file that a run leaves.
type Artifact struct {
	// Path is relative, with slashes.
	Path   string
	Size   int64
	SHA256 string
}

// PutArtifact appends to a file that the run leaves, and returns where it ends now. It fails
// with an OffsetError if the servers have more or less than offset bytes, which is 0 if all
// came and has another sum.
func (r *Run) PutArtifact(ctx context.Context, file Artifact, offset int64, data []byte) (out labapi.ArtifactEnd, err error) {
	return out, typed(r.lab.Do(ctx, labclient.Call{
		Method: http.MethodPut, Path: r.path + labclient.Path("artifacts", file.Path), Timeout: callTimeout,
		Query:  url.Values{"offset": {strconv.FormatInt(offset, 10)}, "size": {strconv.FormatInt(file.Size, 10)}, "sha256": {file.SHA256}},
		Header: http.Header{"Content-Type": {"application/octet-stream"}}, Body: data,
	}, &out))
}

// Finish ends the run, and fails with ErrUnfinished while the servers lack logs.
func (r *Run) Finish(ctx context.Context, in labapi.RunFinish) (out labapi.RunAnswer, err error) {
	err = post(ctx, r.lab, r.path+"/finish", 0, in, &out)
	if err == nil && out.Unfinished {
		err = fmt.Errorf("%w: send them, and finish again", ErrUnfinished)
	}
	return out, err
}
