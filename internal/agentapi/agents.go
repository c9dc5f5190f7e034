package agentapi

import (
	"context"
	"fmt"
	"net/http"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/runs"
)

// noContent is the answer of a call that only does something.
type noContent struct{}

func (a *API) agentRoutes() {
	route(a, Joining, operation("register-agent", http.MethodPost, "/register", "Become the agent of a join token"), a.register)
	route(a, Agents, operation("claim-offer", http.MethodPost, "/claims", "Take an offer up"), a.claim)
	drain := operation("drain-agent", http.MethodPost, "/drain", "Ask for nothing new")
	drain.DefaultStatus = http.StatusNoContent
	route(a, Agents, drain, func(ctx context.Context, in *body[labapi.AgentLeave]) (*noContent, error) {
		err := a.cfg.Lab().AskForDrain(ctx, agentOf(ctx), in.Body)
		a.hub.Ring()
		return nil, err
	})
	goodbye := operation("end-session", http.MethodPost, "/goodbye", "End the session: the agent's process ends, its runs go on")
	goodbye.DefaultStatus = http.StatusNoContent
	route(a, Agents, goodbye, func(ctx context.Context, in *body[labapi.AgentLeave]) (*noContent, error) {
		return nil, a.cfg.Lab().Goodbye(ctx, agentOf(ctx), in.Body)
	})
}

func (a *API) register(ctx context.Context, in *body[labapi.AgentJoin]) (*body[labapi.AgentJoined], error) {
	protocol, _, err := choose(in.Body.Protocols, labapi.AgentProtocol)
	if err != nil {
		return nil, err
	}
	token, err := a.cfg.Lab().JoinAgent(ctx, in.Body)
	return answer(labapi.AgentJoined{Token: token, Protocol: protocol}, err)
}

func (a *API) claim(ctx context.Context, in *body[labapi.ClaimInput]) (*claimedAnswer, error) {
	agent := agentOf(ctx)
	if err := agent.Serves(in.Body.Session); err != nil {
		return nil, err
	}
	out, err := a.cfg.Runs().Claim(ctx, runs.Claimant{Agent: agent.ID, Name: agent.Name, Session: in.Body.Session}, in.Body)
	if err != nil {
		return nil, err
	}
	a.hub.Ring()
	return &claimedAnswer{http.StatusCreated, out}, nil
}

type claimedAnswer struct {
	Status int
	Body   labapi.Claimed
}

// choose returns the highest number of the protocol that both speak: that of the servers, or
// the one before, which is served with a warning.
func choose(p labapi.Protocols, ours int) (protocol int, warning string, err error) {
	protocol = min(p.Most, ours)
	if protocol < max(1, ours-1) || protocol < p.Least {
		what := "upgrade the agent"
		if p.Least > ours {
			what = "upgrade the servers first, and then the agents"
		}
		return 0, "", fmt.Errorf("%w: the agent speaks %d to %d, the servers %d to %d; %s", errProtocol, p.Least, p.Most, max(1, ours-1), ours, what)
	}
	if protocol < ours {
		warning = fmt.Sprintf("the agent speaks protocol %d at most; the next version of the servers will not serve it: upgrade the agent", protocol)
	}
	return protocol, warning, nil
}
