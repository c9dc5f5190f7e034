package console

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/api"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
)

// identify finds out who looks at a page. All calls that follow are made in that name, and count
// as one request.
func (p *page) identify() error {
	if p.c.cfg.Lab() == nil {
		return &refusal{Status: http.StatusServiceUnavailable, Detail: "This replica waits: " + p.c.cfg.Waiting()}
	}
	if err := p.ask(&p.caller, "/whoami", nil); err != nil {
		return err
	}
	p.may = rightsOf(p.caller)
	if !access.Reading.MayTry(p.may.caller) {
		return &refusal{Status: http.StatusUnauthorized}
	}
	p.r = p.r.WithContext(api.WithCaller(p.r.Context(), p.may.caller))
	return nil
}

// rights are what somebody may try. A template shows no action to whom it would be refused.
type rights struct {
	caller                                               access.Caller
	ChangeHosts, ChangeJobs, Submit, Operate, Administer bool
}

func rightsOf(who labapi.Whoami) rights {
	// The name of no role is that of nobody.
	role, _ := access.ParseRole(who.Role)
	c := access.Caller{Login: who.Login, Role: role, By: who.By}
	return rights{
		caller: c, ChangeHosts: access.ChangingHosts.MayTry(c), ChangeJobs: access.ChangingJobs.MayTry(c), Submit: access.Submitting.MayTry(c),
		Operate: access.Operating.MayTry(c), Administer: access.Administering.MayTry(c),
	}
}

// owner is whose jobs those are that somebody submits without a name.
func (p *page) owner() string {
	return lab.SubmitsAs(p.may.caller)
}

// loginView is what the page of the login shows.
type loginView struct {
	Next, Detail string
	SignIn       bool
	// Provider is where the identity provider is asked.
	Provider string
}

// askToLogIn sends a browser to the login, from where it comes back.
func (p *page) askToLogIn(why *refusal) {
	query := url.Values{"next": {p.here()}}
	if why.Type == "/problems/token-not-valid" {
		query.Set("over", "1")
	}
	seeOther(p.w, p.base()+"login?"+query.Encode())
}

// here is where the browser is, relative to the first page.
func (p *page) here() string {
	if p.r.Method != http.MethodGet {
		return ""
	}
	path := strings.TrimPrefix(p.r.URL.EscapedPath(), Prefix+"/")
	if p.r.URL.RawQuery != "" {
		path += "?" + p.r.URL.RawQuery
	}
	return path
}

// localPage returns a page of the console, whatever a link asked for: no login may end at another
// site.
func localPage(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || strings.HasPrefix(next, "/") || strings.Contains(next, `\`) || strings.Contains(next, "../") {
		return "./"
	}
	return "./" + next
}

func (c *Console) loginPage(w http.ResponseWriter, r *http.Request) {
	p := &page{c: c, w: w, r: r}
	p.showLogin(http.StatusOK, "")
}

func (p *page) showLogin(status int, detail string) {
	next := p.r.FormValue("next")
	if detail == "" && p.r.FormValue("over") != "" {
		detail = "Your login is over."
	}
	v := loginView{Next: next, Detail: detail, SignIn: p.c.cfg.SignIn}
	v.Provider = "../api/v1/login?" + url.Values{"next": {Prefix + "/arrived?" + url.Values{"next": {next}}.Encode()}}.Encode()
	if err := p.render(status, "login", "Log in", v); err != nil {
		p.c.cfg.Log.Error("making the page of the login", "error", err)
	}
}

// login makes a token of its own for the browser, so that logging out does not end the one that
// was shown, and that one is not kept.
func (c *Console) login(w http.ResponseWriter, r *http.Request) {
	p := &page{c: c, w: w, r: r}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	shown := http.Header{"Authorization": {"Bearer " + strings.TrimSpace(r.FormValue("token"))}}
	made, err := p.newSession(shown)
	var refused *refusal
	switch {
	case errors.As(err, &refused):
		p.showLogin(refused.Status, refused.Detail)
		return
	case err != nil:
		p.fail(err)
		return
	}
	http.SetCookie(w, p.cookie(made.Secret, c.cfg.Session))
	seeOther(w, localPage(r.FormValue("next")))
}

func (p *page) newSession(shown http.Header) (made labapi.NewToken, err error) {
	if strings.TrimSpace(p.r.FormValue("token")) == "" {
		return made, &refusal{Status: http.StatusUnprocessableEntity, Detail: "Paste a token first."}
	}
	var who labapi.Whoami
	a, err := p.c.call(p.r.Context(), p.r, http.MethodGet, "/whoami", nil, shown)
	if err == nil {
		err = json.Unmarshal(a.body.Bytes(), &who)
	}
	if err != nil {
		return made, err
	}
	over := time.Now().Add(p.c.cfg.Session)
	a, err = p.c.call(p.r.Context(), p.r, http.MethodPost, "/tokens", labapi.TokenInput{Name: "web console", Role: who.Role, Expires: &over}, shown)
	if err != nil {
		return made, err
	}
	return made, json.Unmarshal(a.body.Bytes(), &made)
}

// cookie keeps a login. No other site's page makes a browser send it.
func (p *page) cookie(secret string, lasts time.Duration) *http.Cookie {
	c := &http.Cookie{Name: api.SessionCookie, Value: url.QueryEscape(secret), Path: "/", MaxAge: int(lasts.Seconds()), HttpOnly: true, Secure: secure(p.r), SameSite: http.SameSiteStrictMode}
	if lasts <= 0 {
		c.MaxAge = -1
	}
	return c
}

func (c *Console) logout(w http.ResponseWriter, r *http.Request) {
	p := &page{c: c, w: w, r: r}
	_, err := c.call(r.Context(), r, http.MethodPost, "/logout", nil, nil)
	var refused *refusal
	over := errors.As(err, &refused) && refused.Status == http.StatusUnauthorized
	if err != nil && !over {
		p.fail(err)
		return
	}
	http.SetCookie(w, p.cookie("", 0))
	seeOther(w, "./login")
}

// arrived is where a login at an identity provider ends. The browser came from another site, so
// it keeps the cookie to itself until a page of ours asks it to go on.
func (c *Console) arrived(w http.ResponseWriter, r *http.Request) {
	p := &page{c: c, w: w, r: r}
	if err := p.render(http.StatusOK, "arrived", "Logged in", localPage(r.FormValue("next"))); err != nil {
		c.cfg.Log.Error("making the page after a login", "error", err)
	}
}
