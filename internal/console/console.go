package console

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/hostsched/hostsched/internal/lab"
)

// Prefix begins the path of every page.
const Prefix = "/ui"

// Config is what the console works with.
type Config struct {
	Server, Version string
	// API answers people: what it serves under /api/v1 is what the pages show.
	API http.Handler
	// Lab returns the lab once its database is there, nil before; Waiting says what the
	// replica waits for then. Watch is the one reading of the journal.
	Lab     func() *lab.Lab
	Waiting func() string
	Watch   *lab.Watch
	// SignIn tells whether people log in at an identity provider, and Session is how long a
	// login by token lasts.
	SignIn  bool
	Session time.Duration
	Log     hclog.Logger
}

// Console serves the pages.
type Console struct {
	cfg         Config
	mux         *http.ServeMux
	pages       *pages
	crossOrigin *http.CrossOriginProtection
}

// New returns the console.
func New(cfg Config) *Console {
	c := &Console{cfg: cfg, mux: http.NewServeMux(), pages: newPages(), crossOrigin: http.NewCrossOriginProtection()}
	c.mux.HandleFunc("GET /{$}", redirectTo("ui/"))
	c.mux.HandleFunc("GET "+Prefix, redirectTo("ui/"))
	c.mux.HandleFunc("GET "+Prefix+"/static/{version}/{file}", serveStatic)
	c.mux.HandleFunc("GET "+Prefix+"/login", c.loginPage)
	c.mux.HandleFunc("POST "+Prefix+"/login", c.login)
	c.mux.HandleFunc("POST "+Prefix+"/logout", c.logout)
	c.mux.HandleFunc("GET "+Prefix+"/arrived", c.arrived)
	c.mux.HandleFunc("GET "+Prefix+"/events", c.events)
	c.page("GET /{$}", (*page).overview)
	c.page("GET /hosts", (*page).hosts)
	c.page("POST /hosts", (*page).holdHosts)
	c.page("GET /hosts/{name}", (*page).host)
	c.page("POST /hosts/{name}", (*page).holdHosts)
	c.page("GET /queue", (*page).queue)
	c.page("GET /jobs", (*page).jobs)
	c.page("GET /jobs/{id}", (*page).job)
	c.page("POST /jobs/{id}", (*page).changeJob)
	c.page("GET /runs/{id}/log/{stream}", (*page).logPage)
	c.page("GET /suites", (*page).suites)
	c.page("GET /suites/{id}", (*page).suite)
	c.page("POST /suites/{id}", (*page).abortSuite)
	c.page("GET /pools", (*page).pools)
	c.page("GET /agents", (*page).agents)
	c.page("POST /agents", (*page).changeAgent)
	c.page("GET /cluster", (*page).cluster)
	c.page("POST /cluster", (*page).changeShard)
	c.page("GET /audit", (*page).audit)
	c.page("/", (*page).nowhere)
	return c
}

// policy lets a page load and call nothing but this server, and nothing inline run.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP implements http.Handler.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if err := c.crossOrigin.Check(r); err != nil {
		http.Error(w, "a page of another site may not change anything here", http.StatusForbidden)
		return
	}
	c.mux.ServeHTTP(w, r)
}

// pageBound is how long a page may take to be made. It asks the API several times.
const pageBound = 30 * time.Second

// page registers a page, which needs to know who looks at it.
func (c *Console) page(pattern string, serve func(*page) error) {
	method, path, found := strings.Cut(pattern, " ")
	if !found {
		method, path = "", pattern
	} else {
		method += " "
	}
	c.mux.HandleFunc(method+Prefix+path, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), pageBound)
		defer cancel()
		p := &page{c: c, w: w, r: r.WithContext(ctx)}
		err := p.identify()
		if err == nil {
			err = serve(p)
		}
		if err != nil {
			p.fail(err)
		}
	})
}

// fail answers with what went wrong. Who is not logged in is asked to do so.
func (p *page) fail(err error) {
	var refused *refusal
	switch {
	case errors.As(err, &refused):
	case errors.Is(err, context.Canceled):
		return // the browser is gone
	default:
		p.c.cfg.Log.Error("making a page", "path", p.r.URL.Path, "error", err)
		refused = &refusal{Status: http.StatusInternalServerError, Detail: "The server failed; its log says why."}
	}
	if refused.Status == http.StatusUnauthorized {
		p.askToLogIn(refused)
		return
	}
	if err := p.render(refused.Status, "error", http.StatusText(refused.Status), refused); err != nil {
		p.c.cfg.Log.Error("making a page", "path", p.r.URL.Path, "error", err)
	}
}

func (p *page) nowhere() error {
	return &refusal{Status: http.StatusNotFound, Detail: "There is no such page."}
}

// redirectTo sends a browser to a path relative to where it is: behind a proxy, the server does
// not know the whole.
func redirectTo(relative string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { seeOther(w, relative) }
}

func seeOther(w http.ResponseWriter, relative string) {
	w.Header().Set("Location", relative)
	w.WriteHeader(http.StatusSeeOther)
}

// secure tells whether the browser's connection is encrypted, as far as the server can know.
func secure(r *http.Request) bool {
	return r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https"
}

// addressOf is for the log.
func addressOf(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		return host
	}
	return r.RemoteAddr
}
