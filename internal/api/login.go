package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/apiframe"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/signin"
)

// SignIn is how people log in at an identity provider.
type SignIn struct {
	Provider *signin.Provider
	// Least is the role of who has no other.
	Least access.Role
	// For is how long a login lasts.
	For time.Duration
	// URL is how browsers reach the replicas, like https://lab.example; what the
	// browser asked for if empty.
	URL string
}

// Cookies of browsers. The session's value is a token, and no page of another site makes a
// browser send it; that of a login lasts while its person is at the provider, from where the
// browser must bring it back.
const (
	SessionCookie = "hostsched_session"
	loginCookie   = "hostsched_login"
	loginFor      = 10 * time.Minute
)

// callbackPath is where the identity provider sends browsers back to.
const callbackPath = "/login/callback"

// errNoSignIn is the answer where no provider is configured.
var errNoSignIn = newProblem(http.StatusNotFound, "no-identity-provider", "this lab has no identity provider (oidc.issuer); log in with a token of 'hostsched token create'")

// loginRoutes need no role: whoever calls them has none yet.
func (a *API) loginRoutes() {
	tags := []string{"people"}
	route(a, access.Rule{}, huma.Operation{OperationID: "login", Method: http.MethodGet, Path: "/login", DefaultStatus: http.StatusFound, Summary: "Send a browser to the identity provider", Tags: tags}, a.login)
	route(a, access.Rule{}, huma.Operation{OperationID: "login-callback", Method: http.MethodGet, Path: callbackPath, DefaultStatus: http.StatusFound, Summary: "Where the identity provider sends a browser back to", Tags: tags}, a.loginCallback)
	route(a, access.Rule{}, huma.Operation{OperationID: "login-device", Method: http.MethodPost, Path: "/login/device", Summary: "Begin a login for a command line", Tags: tags}, a.loginDevice)
	route(a, access.Rule{}, huma.Operation{OperationID: "login-device-token", Method: http.MethodPost, Path: "/login/device/token", DefaultStatus: http.StatusCreated, Summary: "Ask for the token of such a login; 409 login-pending until the person is done", Tags: tags}, a.loginDeviceToken)
	route(a, access.Rule{}, huma.Operation{OperationID: "logout", Method: http.MethodPost, Path: "/logout", DefaultStatus: http.StatusNoContent, Summary: "End the token that is used", Tags: tags}, a.logout)
}

type redirect struct {
	Status    int
	Location  string        `header:"Location"`
	SetCookie []http.Cookie `header:"Set-Cookie"`
}

type loginInput struct {
	origin
	Next string `query:"next" maxLength:"1000" doc:"The path to return to."`
}

// origin is where the browser thinks that it is.
type origin struct{ url url.URL }

// Resolve implements huma.Resolver.
func (o *origin) Resolve(ctx huma.Context) []error {
	o.url = url.URL{Scheme: "http", Host: ctx.Host()}
	if ctx.TLS() != nil {
		o.url.Scheme = "https"
	}
	return nil
}

func (a *API) callbackURL(o origin) string {
	base := a.cfg.SignIn.URL
	if base == "" {
		base = o.url.String()
	}
	return strings.TrimSuffix(base, "/") + Prefix + callbackPath
}

func (a *API) cookie(o origin, name, value string, lasts time.Duration) http.Cookie {
	c := http.Cookie{
		Name: name, Value: url.QueryEscape(value), Path: "/", MaxAge: int(lasts.Seconds()), HttpOnly: true, SameSite: http.SameSiteLaxMode,
		Secure: o.url.Scheme == "https" || a.cfg.SignIn != nil && strings.HasPrefix(a.cfg.SignIn.URL, "https:"),
	}
	if name == SessionCookie {
		c.SameSite = http.SameSiteStrictMode
	}
	if lasts <= 0 {
		c.MaxAge = -1
	}
	return c
}

func (a *API) login(ctx context.Context, _ *lab.Lab, in *loginInput) (*redirect, error) {
	if a.cfg.SignIn == nil {
		return nil, errNoSignIn
	}
	address, flow, err := a.cfg.SignIn.Provider.Begin(ctx, a.callbackURL(in.origin), in.Next)
	if err != nil {
		return nil, err
	}
	return &redirect{Status: http.StatusFound, Location: address, SetCookie: []http.Cookie{a.cookie(in.origin, loginCookie, flow.Encode(), loginFor)}}, nil
}

type callbackInput struct {
	origin
	State       string `query:"state" maxLength:"1000"`
	Code        string `query:"code" maxLength:"4000"`
	Error       string `query:"error" maxLength:"1000"`
	Description string `query:"error_description" maxLength:"4000"`
	// Providers add more: session_state, iss, scope.
	SessionState string `query:"session_state"`
	Issuer       string `query:"iss"`
	Scope        string `query:"scope"`
	Flow         string `cookie:"hostsched_login"`
}

func (a *API) loginCallback(ctx context.Context, l *lab.Lab, in *callbackInput) (*redirect, error) {
	if a.cfg.SignIn == nil {
		return nil, errNoSignIn
	}
	if in.Error != "" {
		return nil, newProblem(http.StatusForbidden, "login-refused", "the identity provider says "+in.Error+" "+in.Description)
	}
	text, err := url.QueryUnescape(in.Flow)
	if err != nil {
		text = ""
	}
	flow := signin.DecodeFlow(text)
	who, err := a.cfg.SignIn.Provider.Finish(ctx, a.callbackURL(in.origin), flow, in.State, in.Code)
	if err != nil {
		return nil, err
	}
	made, err := a.signIn(ctx, l, who, "browser")
	if err != nil {
		return nil, err
	}
	return &redirect{Status: http.StatusFound, Location: localPath(flow.Next), SetCookie: []http.Cookie{
		a.cookie(in.origin, SessionCookie, made.Secret, a.cfg.SignIn.For), a.cookie(in.origin, loginCookie, "", 0),
	}}, nil
}

// localPath returns a path of this server, whatever a link asked for: no login may end at
// another site. It leads there from the callback, behind any path of a proxy.
func localPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.Contains(next, `\`) {
		next = Prefix + "/whoami"
	}
	return strings.Repeat("../", strings.Count(Prefix+callbackPath, "/")-1) + strings.TrimPrefix(next, "/")
}

func (a *API) signIn(ctx context.Context, l *lab.Lab, who signin.Identity, name string) (labapi.NewToken, error) {
	return l.SignIn(ctx, who.Login, who.Groups, a.cfg.SignIn.Least, name, a.cfg.SignIn.For)
}

func (a *API) loginDevice(ctx context.Context, _ *lab.Lab, _ *struct{}) (*body[labapi.DeviceLogin], error) {
	if a.cfg.SignIn == nil {
		return nil, errNoSignIn
	}
	d, err := a.cfg.SignIn.Provider.BeginDevice(ctx)
	return answer(labapi.DeviceLogin{Code: d.Code, UserCode: d.UserCode, VerificationURL: d.VerificationURL, Interval: d.Interval}, err)
}

func (a *API) loginDeviceToken(ctx context.Context, l *lab.Lab, in *body[labapi.DeviceCode]) (*body[labapi.NewToken], error) {
	if a.cfg.SignIn == nil {
		return nil, errNoSignIn
	}
	who, err := a.cfg.SignIn.Provider.FinishDevice(ctx, in.Body.Code)
	if err != nil {
		return nil, err
	}
	return answer(a.signIn(ctx, l, who, "command line"))
}

type logoutInput struct {
	origin
	Authorization string `header:"Authorization"`
	Session       string `cookie:"hostsched_session"`
}

func (a *API) logout(ctx context.Context, l *lab.Lab, in *logoutInput) (*redirect, error) {
	secret := apiframe.Bearer(in.Authorization)
	if secret == "" {
		secret = in.Session
	}
	// A token that gives no right any more has ended already.
	if err := l.RevokeSecret(ctx, callerOf(ctx), secret); err != nil && !errors.Is(err, lab.ErrNotFound) {
		return nil, err
	}
	return &redirect{Status: http.StatusNoContent, SetCookie: []http.Cookie{a.cookie(in.origin, SessionCookie, "", 0)}}, nil
}
