package api

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hostsched/hostsched/internal/access"
)

type callerKey struct{}

// WithCaller says who calls, where the connection tells it already: a unix socket that only
// the administrator of the machine may open.
func WithCaller(ctx context.Context, c access.Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// callerOf is who calls. Every handler runs behind authenticate, which put it there.
func callerOf(ctx context.Context) access.Caller {
	c, _ := ctx.Value(callerKey{}).(access.Caller)
	return c
}

// authenticate finds out who calls and refuses who may not do it in any case.
func (a *API) authenticate(rule access.Rule) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		caller, err := a.identify(ctx)
		if err == nil && !rule.MayTry(caller) {
			err = a.refusal(rule, caller)
		}
		if err != nil {
			a.refuse(ctx, a.asProblem(err))
			return
		}
		next(huma.WithValue(ctx, callerKey{}, caller))
	}
}

// identify returns who calls. A wrong token is refused, also where none is needed.
func (a *API) identify(ctx huma.Context) (access.Caller, error) {
	l := a.cfg.Lab()
	if l == nil {
		return access.Caller{}, newProblem(http.StatusServiceUnavailable, "not-ready", "this replica waits: "+a.cfg.Waiting())
	}
	if known, ok := ctx.Context().Value(callerKey{}).(access.Caller); ok {
		return known, nil
	}
	header := ctx.Header("Authorization")
	secret := bearer(header)
	if header != "" && secret == "" {
		return access.Caller{}, newProblem(http.StatusUnauthorized, "not-authenticated", "the header Authorization must be: Bearer TOKEN")
	}
	if header == "" {
		secret = a.session(ctx)
	}
	if secret == "" {
		return access.Caller{Login: "anonymous", Role: a.cfg.Anonymous, By: "anonymous"}, nil
	}
	return l.Authenticate(ctx.Context(), secret)
}

// bearer returns the token of a header, empty if it has none.
func bearer(header string) string {
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// session returns the token of a browser that logged in.
func (a *API) session(ctx huma.Context) string {
	c, err := huma.ReadCookie(ctx, sessionCookie)
	if err != nil {
		return ""
	}
	return c.Value
}

// refusal tells a caller without token to bring one, and others what they lack.
func (a *API) refusal(rule access.Rule, c access.Caller) error {
	if c.By == "anonymous" {
		return newProblem(http.StatusUnauthorized, "not-authenticated", "this needs a token: 'hostsched login', or the header Authorization: Bearer TOKEN")
	}
	return rule.Check(c, false)
}

func (a *API) refuse(ctx huma.Context, err error) {
	var model *huma.ErrorModel
	if !errors.As(err, &model) {
		model = newProblem(http.StatusInternalServerError, "internal", err.Error())
	}
	if model.Status == http.StatusUnauthorized {
		ctx.SetHeader("WWW-Authenticate", "Bearer")
	}
	ctx.SetHeader("Content-Type", "application/problem+json")
	ctx.SetStatus(model.Status)
	if err := a.api.Marshal(ctx.BodyWriter(), "application/json", model); err != nil {
		a.cfg.Log.Debug("a caller was gone before its answer", "error", err)
	}
}
