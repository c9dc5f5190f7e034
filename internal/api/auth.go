package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/lab"
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
		err := readable(ctx.URL())
		var caller access.Caller
		if err == nil {
			caller, err = a.identify(ctx)
		}
		if err == nil && !rule.MayTry(caller) {
			err = a.refusal(rule, caller)
		}
		if err != nil {
			a.refuse(ctx, a.asProblem(err))
			return
		}
		next(huma.WithValue(huma.WithValue(ctx, callerKey{}, caller), addressKey{}, addressOf(ctx.RemoteAddr())))
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
	address := addressOf(ctx.RemoteAddr())
	if secret == "" {
		return access.Caller{Login: "anonymous", Role: a.cfg.Anonymous, By: "anonymous"}, a.admitAnonymous(ctx, address)
	}
	return a.authenticateToken(ctx, l, secret, address)
}

// admitAnonymous bounds callers without token by their address. Where everybody is the
// administrator, only this machine calls.
func (a *API) admitAnonymous(ctx huma.Context, address string) error {
	if a.cfg.Anonymous == access.Admin {
		return nil
	}
	if strings.HasPrefix(ctx.Operation().Path, "/login/") {
		if err := a.walls.mayLogin(address); err != nil {
			return err
		}
	}
	key := sha256.Sum256([]byte("address " + address))
	a.walls.remember(key)
	return a.walls.admit(key)
}

func (a *API) authenticateToken(ctx huma.Context, l *lab.Lab, secret, address string) (access.Caller, error) {
	key := sha256.Sum256([]byte(secret))
	if a.walls.tokens.Contains(key) {
		if err := a.walls.admit(key); err != nil {
			return access.Caller{}, err
		}
	} else if err := a.walls.mayLogin(address); err != nil {
		return access.Caller{}, err
	}
	caller, err := l.Authenticate(ctx.Context(), secret)
	switch {
	case err == nil:
		a.walls.remember(key)
	case errors.Is(err, lab.ErrToken):
		a.walls.tokens.Remove(key)
		a.countFailure(address)
	}
	return caller, err
}

type addressKey struct{}

// loginFailed counts a login that the identity provider refused.
func (a *API) loginFailed(ctx context.Context) {
	address, _ := ctx.Value(addressKey{}).(string)
	a.countFailure(address)
}

func (a *API) countFailure(address string) {
	a.walls.failed(address)
	if a.cfg.LoginFailed != nil {
		a.cfg.LoginFailed()
	}
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
	if seconds := retryAfter[model.Type]; seconds != "" {
		ctx.SetHeader("Retry-After", seconds)
	}
	ctx.SetHeader("Content-Type", "application/problem+json")
	ctx.SetStatus(model.Status)
	if err := a.api.Marshal(ctx.BodyWriter(), "application/json", model); err != nil {
		a.cfg.Log.Debug("a caller was gone before its answer", "error", err)
	}
}
