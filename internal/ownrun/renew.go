package ownrun

import (
	"context"
	"errors"
	"time"

	"github.com/hostsched/hostsched/internal/agentclient"
	"github.com/hostsched/hostsched/internal/command"
	"github.com/hostsched/hostsched/internal/labapi"
)

// news are what the servers say of a run.
type news struct {
	stop *labapi.Stop
	lost bool
}

// renew tells the servers that the command runs, and keeps the claim until ctx ends.
func (r *run) renew(ctx context.Context) {
	call := func(ctx context.Context) (labapi.RunAnswer, error) {
		return r.Calls.State(ctx, labapi.RunState{Phase: "running"})
	}
	for first := true; ctx.Err() == nil; first = false {
		sent := command.Now()
		// An answer that comes after the lease is of no use.
		bounded, cancel := context.WithTimeout(ctx, max(r.lease.Until().Until(), time.Second))
		answer, err := call(bounded)
		cancel()
		if first {
			close(r.told)
		}
		pause := r.lease.Length() / 3
		switch {
		case err == nil:
			call = r.Calls.Renew
			r.lease.Renewed(sent, time.Duration(answer.LeaseMillis)*time.Millisecond)
			r.guard.until(r.mustBeOver())
			if answer.Stop != nil {
				r.tell(ctx, news{stop: answer.Stop})
			}
		case errors.Is(err, agentclient.ErrRunLost):
			r.tell(ctx, news{lost: true})
			return
		default:
			// The servers may be back at any time, and many who wait for them are not to
			// come too often.
			pause = min(time.Second, r.lease.Length()/10)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (r *run) tell(ctx context.Context, n news) {
	select {
	case r.news <- n:
	case <-ctx.Done():
	}
}
