package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/jobspec"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/runs"
)

type runsInput struct {
	PageInput
	Job   int64  `query:"job" minimum:"1" maximum:"2147483647"`
	Host  string `query:"host" maxLength:"255"`
	Login string `query:"login" maxLength:"190" doc:"Only those that this user claimed."`
	Kind  string `query:"kind" enum:"job,reserve,Verify,Cleanup,Reset,Provision,Repair"`
	State string `query:"state" enum:"claimed,running,finishing,done,lost"`
	Open  bool   `query:"open" doc:"Only those that are not over."`
}

// runRoutes are about runs, for people.
func (a *API) runRoutes() {
	tags := []string{"runs"}
	route(a, access.Reading, huma.Operation{OperationID: "list-runs", Method: http.MethodGet, Path: "/runs", Summary: "Runs, the newest first", Tags: tags},
		func(ctx context.Context, l *lab.Lab, in *runsInput) (*body[labapi.Page[labapi.Run]], error) {
			before, err := lab.ParseCursor(in.After)
			if err == nil {
				err = plainText(in.Host, in.Login)
			}
			if err != nil {
				return nil, err
			}
			return answer(a.cfg.Runs().List(ctx, runs.Filter{Job: in.Job, Host: in.Host, Login: in.Login, Kind: in.Kind, State: in.State, Open: in.Open, Before: before, Limit: in.Limit}))
		})
	route(a, access.Reading, huma.Operation{OperationID: "get-run", Method: http.MethodGet, Path: "/runs/{id}", Summary: "A run with what became of it", Tags: tags},
		func(ctx context.Context, l *lab.Lab, in *OfRunInput) (*body[labapi.Run], error) {
			return answer(a.cfg.Runs().Get(ctx, in.ID))
		})
	route(a, access.Submitting, huma.Operation{OperationID: "claim-job", Method: http.MethodPost, Path: "/jobs/{id}/claim", Summary: "Take up a job that the caller submitted to run it himself", Tags: tags,
		Description: "The answer waits until the job's hosts are there, and says why they are not. A job for which nobody asks for a minute is aborted.", Errors: []int{http.StatusConflict}}, a.claimOwn)
	route(a, access.ChangingJobs, huma.Operation{OperationID: "extend-reservation", Method: http.MethodPost, Path: "/runs/{id}/extend", Summary: "Let a reservation end later", Tags: tags, Errors: []int{http.StatusConflict}},
		func(ctx context.Context, l *lab.Lab, in *struct {
			OfRunInput
			Body labapi.ExtendInput
		}) (*body[labapi.Run], error) {
			by, err := jobspec.Minutes(in.Body.For, 0)
			if err != nil {
				return nil, newProblem(http.StatusUnprocessableEntity, "bad-input", "for: "+err.Error())
			}
			return answer(a.cfg.Runs().Extend(ctx, callerOf(ctx), in.ID, time.Duration(by)*time.Minute))
		})
	route(a, access.ChangingJobs, huma.Operation{OperationID: "release-reservation", Method: http.MethodPost, Path: "/runs/{id}/release", Summary: "End a reservation; its hosts are cleaned", Tags: tags, Errors: []int{http.StatusConflict}},
		func(ctx context.Context, l *lab.Lab, in *OfRunInput) (*body[labapi.Run], error) {
			run, err := a.cfg.Runs().Release(ctx, callerOf(ctx), in.ID)
			if err == nil {
				a.wakeOf(ctx, l, run.Job)
			}
			return answer(run, err)
		})
}

// wakeOf wakes the leaders of a job's shards: its hosts may be free.
func (a *API) wakeOf(ctx context.Context, l *lab.Lab, job int64) {
	names, err := l.ShardsOf(ctx, job)
	if err != nil {
		a.cfg.Log.Debug("nobody was woken; the next tick comes by itself", "error", err)
		return
	}
	for _, name := range names {
		a.cfg.Wake(name)
	}
}

// claimRecheck is how often a claim is tried although the journal has nothing of the job.
const claimRecheck = 5 * time.Second

// claimOwn tries to claim whenever the journal has something of the job, until its time is over.
func (a *API) claimOwn(ctx context.Context, l *lab.Lab, in *struct {
	JobInput
	Body labapi.OwnClaimInput
}) (*body[labapi.OwnClaimed], error) {
	over := time.NewTimer(time.Duration(in.Body.WaitMillis) * time.Millisecond)
	defer over.Stop()
	var w *lab.Watcher
	for {
		out, err := a.cfg.Runs().ClaimOwn(ctx, callerOf(ctx), in.ID, in.Body)
		if err != nil || !waits(out) {
			return answer(out, err)
		}
		if in.Body.WaitMillis > 0 && w == nil {
			if w, err = a.watch.Begin(ctx, l); err != nil {
				return nil, err
			}
			defer a.watch.End(w)
			continue // what happened before the watching began is seen now
		}
		if in.Body.WaitMillis == 0 || !awaitJob(ctx, w, in.ID, over.C) {
			return answer(a.whyItWaits(ctx, l, in.ID, out))
		}
	}
}

// waits tells whether the hosts of a job may still come.
func waits(out labapi.OwnClaimed) bool {
	return out.Claimed == nil && (out.State == labapi.JobQueued || out.State == labapi.JobRunning)
}

// awaitJob waits for something to happen to a job, and tells whether to look again.
func awaitJob(ctx context.Context, w *lab.Watcher, job int64, over <-chan time.Time) bool {
	recheck := time.NewTimer(claimRecheck)
	defer recheck.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-over:
			return false
		case <-recheck.C:
			return true
		case batch, ok := <-w.Batches:
			if !ok {
				return false // this replica ends, or was too slow
			}
			if batch.Concerns(job) {
				return true
			}
		}
	}
}

func (a *API) whyItWaits(ctx context.Context, l *lab.Lab, job int64, out labapi.OwnClaimed) (labapi.OwnClaimed, error) {
	why, err := l.ExplainJob(ctx, job)
	if err == nil && why.Text != "" {
		out.Waiting = why.Text
	}
	return out, err
}
