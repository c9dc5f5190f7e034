package signin

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Errors that callers tell apart.
var (
	// ErrAway means that the provider did not answer as it should.
	ErrAway = errors.New("the identity provider is away")
	// ErrRefused means that the provider, or what it said, does not let this person in.
	ErrRefused = errors.New("the login was refused")
	// ErrPending means that the person has not finished at the provider yet.
	ErrPending = errors.New("the login is not finished yet")
	// ErrSlowDown is ErrPending, and the caller asks too often.
	ErrSlowDown = errors.New("the login is not finished yet; ask less often")
)

// answerBound is how long the provider may take for one answer.
const answerBound = 10 * time.Second

// Config says which provider it is, and what of its answers counts.
type Config struct {
	// Issuer is the provider's URL, as it says it itself.
	Issuer   string
	ClientID string
	// Secret returns the client's secret, read again each time; empty for a public client.
	Secret func() (string, error)
	// DeviceClientID and DeviceSecret are those of the device flow, if they are not
	// the same.
	DeviceClientID string
	DeviceSecret   func() (string, error)
	Scopes         []string
	// UserClaim is the claim that has the login, GroupsClaim the one with the groups.
	UserClaim, GroupsClaim string
}

// Identity is who somebody is, as the provider says.
type Identity struct {
	Login  string
	Groups []string
}

// Provider is an OpenID provider. It is asked for its endpoints when it is first needed.
type Provider struct {
	cfg    Config
	client *http.Client

	mu    sync.Mutex
	found *oidc.Provider
}

// New returns the provider; it asks nothing yet.
func New(cfg Config) *Provider {
	return &Provider{cfg: cfg, client: &http.Client{Timeout: answerBound}}
}

// discover asks the provider for its endpoints, until it has answered once.
func (p *Provider) discover(ctx context.Context) (*oidc.Provider, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found != nil {
		return p.found, nil
	}
	found, err := oidc.NewProvider(p.using(context.WithoutCancel(ctx)), p.cfg.Issuer)
	if err != nil {
		return nil, fmt.Errorf("%w: ask %s for its endpoints: %w", ErrAway, p.cfg.Issuer, err)
	}
	p.found = found
	return found, nil
}

// Reach asks the provider for its endpoints, and nothing else.
func (p *Provider) Reach(ctx context.Context) error {
	_, err := p.discover(ctx)
	return err
}

func (p *Provider) using(ctx context.Context) context.Context {
	return oidc.ClientContext(ctx, p.client)
}

// oauth returns the client of a flow.
func (p *Provider) oauth(ctx context.Context, id string, secret func() (string, error), redirect string) (*oauth2.Config, error) {
	found, err := p.discover(ctx)
	if err != nil {
		return nil, err
	}
	c := &oauth2.Config{ClientID: id, Endpoint: found.Endpoint(), RedirectURL: redirect, Scopes: p.cfg.Scopes}
	if secret == nil {
		return c, nil
	}
	c.ClientSecret, err = secret()
	return c, err
}

func (p *Provider) web(ctx context.Context, redirect string) (*oauth2.Config, error) {
	return p.oauth(ctx, p.cfg.ClientID, p.cfg.Secret, redirect)
}

func (p *Provider) device(ctx context.Context) (*oauth2.Config, error) {
	if p.cfg.DeviceClientID == "" {
		return p.web(ctx, "")
	}
	return p.oauth(ctx, p.cfg.DeviceClientID, p.cfg.DeviceSecret, "")
}

// Flow is what a browser keeps while its person is at the provider.
type Flow struct {
	State    string
	Nonce    string
	Verifier string
	// Next is the path to return to.
	Next string
}

// Begin returns where to send a browser, which must come back to redirect.
func (p *Provider) Begin(ctx context.Context, redirect, next string) (address string, f Flow, err error) {
	c, err := p.web(ctx, redirect)
	if err != nil {
		return "", Flow{}, err
	}
	f = Flow{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(), Next: next}
	return c.AuthCodeURL(f.State, oidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier)), f, nil
}

// Finish returns who came back with a code.
func (p *Provider) Finish(ctx context.Context, redirect string, f Flow, state, code string) (Identity, error) {
	if f.State == "" || subtle.ConstantTimeCompare([]byte(f.State), []byte(state)) == 0 {
		return Identity{}, fmt.Errorf("%w: this answer belongs to another login; begin again", ErrRefused)
	}
	c, err := p.web(ctx, redirect)
	if err != nil {
		return Identity{}, err
	}
	token, err := c.Exchange(p.using(ctx), code, oauth2.VerifierOption(f.Verifier))
	if err != nil {
		return Identity{}, meaningOf(err)
	}
	return p.identify(ctx, c, token, f.Nonce)
}

// DeviceLogin is what a person needs to log in for a command line. Code is the command
// line's own and is not shown.
type DeviceLogin struct {
	Code            string
	UserCode        string
	VerificationURL string
	// Interval is how many seconds to wait between two questions.
	Interval int64
	Expires  time.Time
}

// BeginDevice begins a login for a command line.
func (p *Provider) BeginDevice(ctx context.Context) (DeviceLogin, error) {
	c, err := p.device(ctx)
	if err != nil {
		return DeviceLogin{}, err
	}
	if c.Endpoint.DeviceAuthURL == "" {
		return DeviceLogin{}, fmt.Errorf("%w: %s knows no logins of devices; log in with a token", ErrRefused, p.cfg.Issuer)
	}
	a, err := c.DeviceAuth(p.using(ctx))
	if err != nil {
		return DeviceLogin{}, meaningOf(err)
	}
	return DeviceLogin{Code: a.DeviceCode, UserCode: a.UserCode, VerificationURL: cmp.Or(a.VerificationURIComplete, a.VerificationURI), Interval: max(1, a.Interval), Expires: a.Expiry}, nil
}

// FinishDevice asks once whether the person has logged in, with ErrPending if not yet.
func (p *Provider) FinishDevice(ctx context.Context, code string) (Identity, error) {
	c, err := p.device(ctx)
	if err != nil {
		return Identity{}, err
	}
	token, err := c.Exchange(p.using(ctx), "", oauth2.SetAuthURLParam("grant_type", "urn:ietf:params:oauth:grant-type:device_code"), oauth2.SetAuthURLParam("device_code", code))
	if err != nil {
		return Identity{}, meaningOf(err)
	}
	return p.identify(ctx, c, token, "")
}

// meaningOf tells a provider that says no from one that says nothing.
func meaningOf(err error) error {
	var said *oauth2.RetrieveError
	if !errors.As(err, &said) || said.ErrorCode == "" {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	switch said.ErrorCode {
	case "authorization_pending":
		return ErrPending
	case "slow_down":
		return ErrSlowDown
	}
	return fmt.Errorf("%w: the provider says %s %s", ErrRefused, said.ErrorCode, said.ErrorDescription)
}

// identify verifies an ID token. Claims that are not in it are asked for at the provider's
// userinfo endpoint, because many providers keep ID tokens small.
func (p *Provider) identify(ctx context.Context, c *oauth2.Config, token *oauth2.Token, nonce string) (Identity, error) {
	found, err := p.discover(ctx)
	if err != nil {
		return Identity{}, err
	}
	raw, _ := token.Extra("id_token").(string)
	verified, err := found.Verifier(&oidc.Config{ClientID: c.ClientID}).Verify(p.using(ctx), raw)
	if err != nil {
		return Identity{}, fmt.Errorf("%w: its ID token: %w", ErrRefused, err)
	}
	if nonce != "" && subtle.ConstantTimeCompare([]byte(verified.Nonce), []byte(nonce)) == 0 {
		return Identity{}, fmt.Errorf("%w: the ID token belongs to another login; begin again", ErrRefused)
	}
	claims := map[string]any{}
	if err := verified.Claims(&claims); err != nil {
		return Identity{}, fmt.Errorf("%w: its ID token: %w", ErrRefused, err)
	}
	if claims[p.cfg.UserClaim] == nil || claims[p.cfg.GroupsClaim] == nil {
		more, err := p.userinfo(ctx, found, token, verified.Subject)
		if err != nil {
			return Identity{}, err
		}
		for name, value := range more {
			if _, there := claims[name]; !there {
				claims[name] = value
			}
		}
	}
	return p.fromClaims(claims)
}

func (p *Provider) userinfo(ctx context.Context, found *oidc.Provider, token *oauth2.Token, subject string) (map[string]any, error) {
	claims := map[string]any{}
	if found.UserInfoEndpoint() == "" {
		return claims, nil
	}
	info, err := found.UserInfo(p.using(ctx), oauth2.StaticTokenSource(token))
	if err != nil {
		return nil, fmt.Errorf("%w: ask for the user's claims: %w", ErrAway, err)
	}
	if info.Subject != subject {
		return nil, fmt.Errorf("%w: the provider answered with the claims of another user", ErrRefused)
	}
	return claims, info.Claims(&claims)
}

func (p *Provider) fromClaims(claims map[string]any) (Identity, error) {
	who := Identity{}
	who.Login, _ = claims[p.cfg.UserClaim].(string)
	if who.Login == "" {
		return who, fmt.Errorf("%w: the provider says no %s; name another claim with oidc.user_claim", ErrRefused, p.cfg.UserClaim)
	}
	if p.cfg.UserClaim == "email" && claims["email_verified"] != true {
		return who, fmt.Errorf("%w: the provider has not verified the address %s", ErrRefused, who.Login)
	}
	groups, _ := claims[p.cfg.GroupsClaim].([]any)
	for _, g := range groups {
		if name, ok := g.(string); ok {
			who.Groups = append(who.Groups, name)
		}
	}
	return who, nil
}

// Encode turns a Flow into the value of a cookie, and DecodeFlow back. A text that is no
// flow is an empty one, which no answer belongs to.
func (f Flow) Encode() string {
	return url.Values{"state": {f.State}, "nonce": {f.Nonce}, "verifier": {f.Verifier}, "next": {f.Next}}.Encode()
}

// DecodeFlow is the reverse of Encode.
func DecodeFlow(text string) Flow {
	v, err := url.ParseQuery(text)
	if err != nil {
		return Flow{}
	}
	return Flow{State: v.Get("state"), Nonce: v.Get("nonce"), Verifier: v.Get("verifier"), Next: v.Get("next")}
}
