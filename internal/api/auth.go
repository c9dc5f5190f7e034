package api

import (
	"context"
	"crypto/sha256"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/apiframe"
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
		err := apiframe.Readable(ctx.URL())
		var caller access.Caller
		if err == nil {
			caller, err = a.identify(ctx)
		}
		if err == nil && !rule.MayTry(caller) {
			err = a.refusal(rule, caller)
		}
		if err != nil {
			apiframe.Refuse(a.api, ctx, a.asProblem(err), a.cfg.Log)
			return
		}
		next(huma.WithValue(huma.WithValue(ctx, callerKey{}, caller), addressKey{}, apiframe.AddressOf(ctx.RemoteAddr())))
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
	secret := apiframe.Bearer(header)
	if header != "" && secret == "" {
		return access.Caller{}, newProblem(http.StatusUnauthorized, "not-authenticated", "the header Authorization must be: Bearer TOKEN")
	}
	if header == "" {
		secret = a.session(ctx)
	}
	address := apiframe.AddressOf(ctx.RemoteAddr())
	if secret == "" {
		return access.Caller{Login: access.ByNobody, Role: a.cfg.Anonymous, By: access.ByNobody}, a.admitAnonymous(ctx, address)
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
		if err := a.walls.MayLogin(address); err != nil {
			return err
		}
	}
	key := sha256.Sum256([]byte("address " + address))
	a.walls.Remember(key)
	return a.walls.Admit(key)
}

func (a *API) authenticateToken(ctx huma.Context, l *lab.Lab, secret, address string) (access.Caller, error) {
	key := sha256.Sum256([]byte(secret))
	if a.walls.Known(key) {
		if err := a.walls.Admit(key); err != nil {
			return access.Caller{}, err
		}
	} else if err := a.walls.MayLogin(address); err != nil {
		return access.Caller{}, err
	}
	caller, err := l.Authenticate(ctx.Context(), secret)
	a.walls.LookedUp(key, address, err, lab.ErrToken)
	return caller, err
}

type addressKey struct{}

// loginFailed counts a login that the identity provider refused.
func (a *API) loginFailed(ctx context.Context) {
	address, _ := ctx.Value(addressKey{}).(string)
	a.walls.Failed(address)
}

// session returns the token of a browser that logged in.
func (a *API) session(ctx huma.Context) string {
	c, err := huma.ReadCookie(ctx, SessionCookie)
	if err != nil {
		return ""
	}
	return c.Value
}

// refusal tells a caller without token to bring one, and others what they lack.
func (a *API) refusal(rule access.Rule, c access.Caller) error {
	if c.By == access.ByNobody {
		return newProblem(http.StatusUnauthorized, "not-authenticated", "this needs a token: 'hostsched login', or the header Authorization: Bearer TOKEN")
	}
	return rule.Check(c, false)
}
