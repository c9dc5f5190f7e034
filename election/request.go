package election

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// hedge makes a request of etcd that may be made more than once. As long as there is
// no answer it is made again each time every is over, because the client sends each
// request to another member: one that hangs, or that lost its peers, then delays a
// request by no more than that. The caller bounds the whole with ctx.
func hedge[T any](ctx context.Context, every time.Duration, request func(context.Context) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	// A member without a leader refuses a request instead of letting it wait.
	asking, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	answers := make(chan answer)
	open := 0
	defer func() {
		cancel()
		for range open {
			<-answers
		}
	}()
	again := time.NewTicker(every)
	defer again.Stop()
	var last error
	for {
		open++
		go func() {
			value, err := request(asking)
			answers <- answer{value, err}
		}()
	waiting:
		for {
			select {
			case a := <-answers:
				open--
				if a.err == nil || !temporary(a.err) {
					return a.value, a.err
				}
				last = a.err
			case <-again.C:
				break waiting
			case <-ctx.Done():
				var none T
				return none, errors.Join(context.Cause(ctx), last)
			}
		}
	}
}

// temporary tells whether the same request may succeed on another member or later.
func temporary(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return true
	}
	switch code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Internal:
		return true
	}
	return false
}

// Refused tells whether etcd does not take our user, password or token.
func Refused(err error) bool {
	var e rpctypes.EtcdError
	return code(err) == codes.Unauthenticated || code(err) == codes.PermissionDenied ||
		errors.As(err, &e) && strings.HasPrefix(e.Error(), rpctypes.ErrAuthFailed.Error())
}

func code(err error) codes.Code {
	var e rpctypes.EtcdError
	if errors.As(err, &e) {
		return e.Code()
	}
	var s interface{ GRPCStatus() *status.Status }
	if errors.As(err, &s) {
		return s.GRPCStatus().Code()
	}
	return codes.OK
}

// ask makes a request, bounded by a TTL.
func ask[T any](ctx context.Context, e *Etcd, what string, request func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.TTL)
	defer cancel()
	answer, err := hedge(ctx, e.cfg.TTL/keepaliveParts, request)
	if err != nil {
		return answer, fmt.Errorf("%s in etcd at %s: %w", what, e.endpoints, err)
	}
	return answer, nil
}
