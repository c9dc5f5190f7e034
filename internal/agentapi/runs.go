package agentapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/runs"
)

// RunPath names a run. The parts of inputs are exported, because huma passes over others.
type RunPath struct {
	Run int64 `path:"run"`
}

// finishID is the one call that a closed run may make.
const finishID = "finish-run"

func (a *API) runRoutes() {
	route(a, OfRuns, operation("report-run", http.MethodPost, "/runs/{run}/state", "How far the run is"),
		func(ctx context.Context, in *struct {
			RunPath
			Body labapi.RunState
		}) (*body[labapi.RunAnswer], error) {
			return answer(a.cfg.Runs().State(ctx, runOf(ctx), in.Body))
		})
	route(a, OfRuns, operation("renew-run", http.MethodPost, "/runs/{run}/renew", "Renew the lease, and nothing else"),
		func(ctx context.Context, _ *RunPath) (*body[labapi.RunAnswer], error) {
			return answer(a.cfg.Runs().Touch(ctx, runOf(ctx)))
		})
	finish := operation(finishID, http.MethodPost, "/runs/{run}/finish", "End the run; 202 while its logs are not complete")
	finish.MaxBodyBytes = maxFinish
	route(a, OfRuns, finish,
		func(ctx context.Context, in *struct {
			RunPath
			Body labapi.RunFinish
		}) (*finished, error) {
			out, err := a.cfg.Runs().Finish(ctx, runOf(ctx), in.Body)
			if errors.Is(err, runs.ErrPartsMissing) && !errors.Is(err, runs.ErrRunLost) {
				out.Unfinished = true
				return &finished{http.StatusAccepted, out}, nil
			}
			if err != nil {
				return nil, err
			}
			a.changed()
			return &finished{http.StatusOK, out}, nil
		})
}

type finished struct {
	Status int
	Body   labapi.RunAnswer
}
