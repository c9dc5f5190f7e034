package agentapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/hashicorp/go-hclog"

	"github.com/hostsched/hostsched/internal/apiframe"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/runs"
)

// Bounds of bodies.
const (
	maxBody = 1 << 20
	// maxFinish has room for the results of all tests of a run.
	maxFinish = 32 << 20
)

// Config is what the API works with.
type Config struct {
	Version string
	// Lab and Runs return nil until the database is there; Waiting says what the replica
	// waits for then.
	Lab     func() *lab.Lab
	Runs    func() *runs.Runs
	Waiting func() string
	// Wake tells the leaders that hosts may be free. It must not wait. May be nil.
	Wake func()
	// Watch reads the journal, for all who watch it through this replica.
	Watch *lab.Watch
	// Rate is how many requests one agent may make in a second, 0 for any number.
	Rate float64
	// Served hears of every request, LoginFailed of tokens that were refused. Both may be
	// nil.
	Served      apiframe.Served
	LoginFailed func()
	Log         hclog.Logger
}

// Rule is which token a route asks for.
type Rule string

// The rules of routes.
const (
	Joining Rule = "a join token in the body"
	Agents  Rule = "the token of an agent"
	OfRuns  Rule = "the token of the run"
)

// API answers under labapi.AgentPrefix.
type API struct {
	cfg    Config
	api    huma.API
	router *apiframe.Router
	// rules are those of the routes, by method and path, for the test that walks them.
	rules map[string]Rule
	walls *apiframe.Walls
	hub   *hub
}

// New returns the API.
func New(cfg Config) *API {
	a := &API{cfg: cfg, rules: map[string]Rule{}, walls: apiframe.NewWalls(cfg.Rate, cfg.LoginFailed)}
	a.router = apiframe.NewRouter(labapi.AgentPrefix, func(*http.Request) *huma.ErrorModel { return nil }, a.served())
	a.hub = newHub(cfg)
	a.api = humago.NewWithPrefix(a.router.Mux, labapi.AgentPrefix, apiframe.Config("hostsched agents", cfg.Version, "The token of an agent, or of a run."))
	a.agentRoutes()
	a.syncRoute()
	a.runRoutes()
	a.logRoutes()
	return a
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.router.ServeHTTP(w, r) }

// served tells of routes by their whole paths: some have the same name as one for people. A
// call that waits on purpose lasts as long as a stream.
func (a *API) served() apiframe.Served {
	if a.cfg.Served == nil {
		return nil
	}
	return func(route string, status int, took time.Duration) {
		method, path, ok := strings.Cut(route, " ")
		if ok {
			route = method + " " + labapi.AgentPrefix + path
		}
		if path == "/sync" {
			took = 0
		}
		a.cfg.Served(route, status, took)
	}
}

// OpenAPI returns the document that describes all routes.
func (a *API) OpenAPI() *huma.OpenAPI { return a.api.OpenAPI() }

// Ring says that something changed that agents may wait for. It does not wait.
func (a *API) Ring() { a.hub.Ring() }

// EndWaits answers all who wait, and lets nobody wait any more: the replica is ending.
func (a *API) EndWaits() { a.hub.close() }

// changed is for after a call that changed something: agents may have something to do, and
// hosts may be free.
func (a *API) changed() {
	a.hub.Ring()
	if a.cfg.Wake != nil {
		a.cfg.Wake()
	}
}

// route registers an operation under a rule. A handler gets who calls from agentOf or runOf.
func route[In, Out any](a *API, rule Rule, op huma.Operation, handle func(context.Context, *In) (*Out, error)) {
	if op.MaxBodyBytes == 0 {
		op.MaxBodyBytes = maxBody
	}
	op.MaxBodyBytes++ // huma refuses a body that is as long as its bound
	op.BodyReadTimeout = apiframe.BodyTimeout
	if rule != Joining {
		op.Security = []map[string][]string{{"token": {}}}
	}
	op.Middlewares = append(op.Middlewares, a.authenticate(rule))
	op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict, http.StatusServiceUnavailable)
	a.rules[op.Method+" "+op.Path] = rule
	huma.Register(a.api, op, func(ctx context.Context, in *In) (*Out, error) {
		out, err := handle(ctx, in)
		if errors.Is(err, lab.ErrToken) {
			a.walls.Failed(addressIn(ctx))
		}
		if err != nil {
			return nil, a.asProblem(err)
		}
		return out, nil
	})
}

func operation(id, method, path, summary string) huma.Operation {
	return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, DefaultStatus: http.StatusOK}
}

// body is an answer, or a request, with nothing but a body.
type body[T any] struct{ Body T }

func answer[T any](v T, err error) (*body[T], error) {
	if err != nil {
		return nil, err
	}
	return &body[T]{v}, nil
}

// errProtocol means that an agent is too old or too new.
var errProtocol = errors.New("the protocol is not spoken here")

// problems are the errors that claimants can do something about. The first that fits counts.
var problems = append([]apiframe.Meaning{
	means(lab.ErrToken, http.StatusUnauthorized, labapi.ProblemToken),
	means(lab.ErrRevoked, http.StatusForbidden, labapi.ProblemRevoked),
	means(lab.ErrReplaced, http.StatusConflict, labapi.ProblemReplaced),
	means(errProtocol, http.StatusUpgradeRequired, labapi.ProblemProtocol),
	means(runs.ErrOfferGone, http.StatusConflict, labapi.ProblemOfferGone),
	means(runs.ErrAutotest, http.StatusConflict, labapi.ProblemAutotest),
	means(runs.ErrRunLost, http.StatusGone, labapi.ProblemRunLost),
	means(lab.ErrLogFull, http.StatusRequestEntityTooLarge, labapi.ProblemLogFull),
	means(lab.ErrNotFound, http.StatusNotFound, "not-found"),
	means(lab.ErrConflict, http.StatusConflict, "conflict"),
	means(lab.ErrInput, http.StatusUnprocessableEntity, "bad-input"),
}, apiframe.Database...)

func means(err error, status int, name string) apiframe.Meaning {
	return apiframe.Meaning{Err: err, Status: status, Name: name}
}

func (a *API) asProblem(err error) error { return apiframe.AsProblem(err, problems, a.cfg.Log) }

// Document returns the OpenAPI document as it is kept in the repository: without the version
// of the binary.
func Document() ([]byte, error) {
	a := New(Config{Version: "v1", Log: hclog.NewNullLogger()})
	return json.MarshalIndent(a.OpenAPI(), "", "  ")
}
