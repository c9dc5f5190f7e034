package api

import (
	"context"
	"net/http"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
)

// AgentPath names an agent.
type AgentPath struct {
	Name string `path:"name" minLength:"1" maxLength:"63"`
}

// agentRoutes are what administrators do with agents. Agents themselves call another API.
func (a *API) agentRoutes() {
	route(a, access.Reading, operation("list-agents", http.MethodGet, "/agents", "agents", "Agents, by id, with their hosts and runs"),
		func(ctx context.Context, l *lab.Lab, in *List) (*body[labapi.Page[labapi.Agent]], error) {
			return answer(l.Agents(ctx, in.After, in.Limit))
		})
	route(a, access.Reading, operation("get-agent", http.MethodGet, "/agents/{name}", "agents", "An agent"),
		func(ctx context.Context, l *lab.Lab, in *AgentPath) (*body[labapi.Agent], error) {
			return answer(l.Agent(ctx, in.Name))
		})
	route(a, access.Administering, operation("add-agent", http.MethodPost, "/agents", "agents", "Enter an agent with its hosts, and get the token by which a machine becomes it"),
		func(ctx context.Context, l *lab.Lab, in *body[labapi.AgentInput]) (*body[labapi.AgentAdded], error) {
			return answer(l.AddAgent(ctx, callerOf(ctx), in.Body))
		})
	route(a, access.Administering, operation("change-agent", http.MethodPatch, "/agents/{name}", "agents", "Change which hosts an agent serves"),
		func(ctx context.Context, l *lab.Lab, in *struct {
			AgentPath
			Body labapi.AgentPatch
		}) (*body[labapi.Agent], error) {
			return answer(l.PatchAgent(ctx, callerOf(ctx), in.Name, in.Body))
		})
	route(a, access.Administering, operation("remove-agent", http.MethodDelete, "/agents/{name}", "agents", "Remove an agent that has no runs"),
		func(ctx context.Context, l *lab.Lab, in *AgentPath) (*nothing, error) {
			return nil, l.RemoveAgent(ctx, callerOf(ctx), in.Name)
		})
	route(a, access.Administering, operation("make-join-token", http.MethodPost, "/agents/{name}/join-token", "agents", "Make a new token by which a machine becomes this agent, once"),
		func(ctx context.Context, l *lab.Lab, in *AgentPath) (*body[labapi.JoinToken], error) {
			return answer(l.JoinToken(ctx, callerOf(ctx), in.Name))
		})
	a.agentWishes()
}

// agentWish is a call that may say why.
type agentWish struct {
	AgentPath
	Body labapi.AgentWish
}

func (a *API) agentWishes() {
	for _, w := range []struct{ path, desired, summary string }{
		{"drain", labapi.DesiredDrain, "Let an agent finish what it does, and take nothing new"},
		{"resume", labapi.DesiredRun, "Let an agent take work again"},
		{"stop", labapi.DesiredStop, "Let an agent stop its runs, and end"},
	} {
		op := operation(w.path+"-agent", http.MethodPost, "/agents/{name}/"+w.path, "agents", w.summary)
		op.DefaultStatus = http.StatusOK
		route(a, access.Operating, op, func(ctx context.Context, l *lab.Lab, in *agentWish) (*body[labapi.Agent], error) {
			return answer(l.WantOfAgent(ctx, callerOf(ctx), in.Name, w.desired, in.Body.Reason))
		})
	}
	for _, w := range []struct {
		path, summary string
		do            func(*lab.Lab, context.Context, access.Caller, *agentWish) error
	}{
		{"rotate", "Ask an agent to take a new token", func(l *lab.Lab, ctx context.Context, who access.Caller, in *agentWish) error {
			return l.RotateAgent(ctx, who, in.Name)
		}},
		{"revoke", "Take all rights from an agent, at once", func(l *lab.Lab, ctx context.Context, who access.Caller, in *agentWish) error {
			return l.RevokeAgent(ctx, who, in.Name, in.Body.Reason)
		}},
	} {
		op := operation(w.path+"-agent", http.MethodPost, "/agents/{name}/"+w.path, "agents", w.summary)
		op.DefaultStatus = http.StatusNoContent
		route(a, access.Administering, op, func(ctx context.Context, l *lab.Lab, in *agentWish) (*nothing, error) {
			return nil, w.do(l, ctx, callerOf(ctx), in)
		})
	}
}
