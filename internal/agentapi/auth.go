package agentapi

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hostsched/hostsched/internal/apiframe"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/runs"
)

type (
	agentKey   struct{}
	runKey     struct{}
	addressKey struct{}
)

// agentOf is the agent that calls.
func agentOf(ctx context.Context) lab.AgentCaller {
	a, _ := ctx.Value(agentKey{}).(lab.AgentCaller)
	return a
}

// runOf is the run that a call is of.
func runOf(ctx context.Context) runs.Run {
	r, _ := ctx.Value(runKey{}).(runs.Run)
	return r
}

func addressIn(ctx context.Context) string {
	address, _ := ctx.Value(addressKey{}).(string)
	return address
}

// authenticate finds out who calls, and refuses who has not the token of the rule.
func (a *API) authenticate(rule Rule) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		address := apiframe.AddressOf(ctx.RemoteAddr())
		ctx = huma.WithValue(ctx, addressKey{}, address)
		err := apiframe.Readable(ctx.URL())
		if err == nil {
			err = a.ready()
		}
		if err == nil {
			ctx, err = a.identify(ctx, rule, address)
		}
		if err != nil {
			apiframe.Refuse(a.api, ctx, a.asProblem(err), a.cfg.Log)
			return
		}
		next(ctx)
	}
}

// ready refuses calls before the database is there, and where Autotest runs the jobs.
func (a *API) ready() error {
	if a.cfg.Lab() == nil || a.cfg.Runs() == nil {
		return apiframe.NewProblem(http.StatusServiceUnavailable, "not-ready", "this replica waits: "+a.cfg.Waiting())
	}
	if a.cfg.Runs().Off {
		return runs.ErrAutotest
	}
	return nil
}

func (a *API) identify(ctx huma.Context, rule Rule, address string) (huma.Context, error) {
	if rule == Joining {
		return ctx, a.walls.MayLogin(address)
	}
	secret := apiframe.Bearer(ctx.Header("Authorization"))
	if secret == "" {
		return ctx, apiframe.NewProblem(http.StatusUnauthorized, "not-authenticated", "this needs "+string(rule)+", in the header Authorization: Bearer TOKEN")
	}
	key := sha256.Sum256([]byte(secret))
	if !a.walls.Known(key) {
		if err := a.walls.MayLogin(address); err != nil {
			return ctx, err
		}
	}
	ctx, err := a.identified(ctx, rule, secret, key)
	a.walls.LookedUp(key, address, err, lab.ErrToken)
	return ctx, err
}

// identified looks a token up. Only calls of agents are counted: those of a run have its logs,
// as many as it makes.
func (a *API) identified(ctx huma.Context, rule Rule, secret string, key [sha256.Size]byte) (huma.Context, error) {
	if rule == Agents {
		if err := a.walls.Admit(key); err != nil {
			return ctx, err
		}
		agent, err := a.cfg.Lab().AuthenticateAgent(ctx.Context(), secret)
		return huma.WithValue(ctx, agentKey{}, agent), err
	}
	run, err := a.cfg.Runs().ByToken(ctx.Context(), secret)
	if errors.Is(err, runs.ErrRunLost) && run.State == "done" {
		err = nil // a finish whose answer was lost; all others are refused by what they do
	}
	if err == nil && strconv.FormatInt(run.ID, 10) != ctx.Param("run") {
		err = apiframe.NewProblem(http.StatusForbidden, "not-allowed", "the token is that of another run")
	}
	if err == nil && !run.Open() && ctx.Operation().OperationID != finishID {
		err = apiframe.NewProblem(http.StatusGone, labapi.ProblemRunLost, "the run is closed")
	}
	return huma.WithValue(ctx, runKey{}, run), err
}
