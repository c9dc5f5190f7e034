package api

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/hashicorp/go-hclog"

	"github.com/hostsched/hostsched/election/recurring"
	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/apiframe"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/internal/runs"
	"github.com/hostsched/hostsched/internal/signin"
	"github.com/hostsched/hostsched/shard"
)

// Prefix begins the path of every route.
const Prefix = "/api/v1"

// Bounds of requests.
const (
	// maxBody is for ordinary requests; a suite of thousands of jobs has its own.
	maxBody = 1 << 20
)

// Config is what the API works with.
type Config struct {
	Version string
	// Lab returns the lab once its database is there, nil before; Waiting says what
	// the replica waits for then.
	Lab     func() *lab.Lab
	Waiting func() string
	// Wake tells the leader of a shard that there is something to do: all there is to do
	// are these new entries, or anything if none are given. It must not wait.
	Wake func(name shard.Name, entries ...int64)
	// Anonymous is the role of callers without token.
	Anonymous access.Role
	// Rate is how many requests one token may make in a second, 0 for any number.
	Rate float64
	// Served hears of every request: its route, the status and how long it took, 0 for
	// streams. LoginFailed hears of tokens and logins that were refused. Both may be nil.
	Served      apiframe.Served
	LoginFailed func()
	// MaxPriority is the highest priority that users may give their jobs.
	MaxPriority int
	// Runs returns the runs of the lab once that is there.
	Runs func() *runs.Runs
	// Cluster says who leads what, and which servers there are.
	Cluster func(context.Context) (ops.ClusterStatus, error)
	// Shards changes what is done in shards.
	Shards Shards
	// Submitted is told of jobs and suites that were entered, with their trace and that of the
	// caller; nil where nobody is told of traces. TraceShare is the share of those without a
	// trace of the caller that are told.
	Submitted  func(job int64, trace, caller string, began time.Time)
	TraceShare float64
	// SignIn is nil where no identity provider is configured.
	SignIn *SignIn
	Log    hclog.Logger
}

// API answers under Prefix.
type API struct {
	cfg         Config
	api         huma.API
	router      *apiframe.Router
	crossOrigin *http.CrossOriginProtection
	// rules are those of the routes, by method and path, for the test that walks them.
	rules    map[string]access.Rule
	walls    *apiframe.Walls
	watch    lab.Watch
	logWatch lab.LogWatch
	// What many ask for again and again is made once for all of them.
	summary       shared[labapi.Summary]
	attention     shared[[]labapi.Attention]
	queue         shared[[]labapi.RequestGroup]
	clusterStatus shared[ops.ClusterStatus]
	// droppedKeys is when old keys of requests were deleted last, in nanoseconds.
	droppedKeys atomic.Int64
	// faults are those that callers meet again and again.
	faults *recurring.Log
	// How long clients of long answers may read nothing.
	streamPatience, downloadPatience time.Duration
}

// New returns the API.
func New(cfg Config) *API {
	a := &API{cfg: cfg, crossOrigin: http.NewCrossOriginProtection(), rules: map[string]access.Rule{}, faults: recurring.New(cfg.Log), walls: apiframe.NewWalls(cfg.Rate, cfg.LoginFailed), streamPatience: apiframe.StreamPatience, downloadPatience: apiframe.DownloadPatience}
	a.router = apiframe.NewRouter(Prefix, a.fromElsewhere, cfg.Served)
	a.watch.Frame = frame
	a.watch.Failed = func(err error) { a.faults.Warn("a stream of events waits", "error", err) }
	a.logWatch.Failed = func(err error) { a.faults.Warn("those who follow logs wait", "error", err) }
	a.api = humago.NewWithPrefix(a.router.Mux, Prefix, apiframe.Config("hostsched", cfg.Version, "A token of 'hostsched token create'."))
	a.peopleRoutes()
	a.loginRoutes()
	a.jobRoutes()
	a.suiteRoutes()
	a.eventRoutes()
	a.clusterRoutes()
	a.shardRoutes()
	a.overviewRoutes()
	a.hostRoutes()
	a.groupRoutes()
	a.agentRoutes()
	a.logRoutes()
	a.runRoutes()
	a.viewerRoutes()
	return a
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.router.ServeHTTP(w, r) }

// fromElsewhere refuses what a browser may have been made to send by a page that is not ours.
// It sends its cookie also where a page of another site makes it call, and such a call changes
// nothing. Where everybody is the administrator, the call must be meant for this machine.
func (a *API) fromElsewhere(r *http.Request) *huma.ErrorModel {
	if a.cfg.Anonymous == access.Admin && !namesThisMachine(r.Host) {
		return newProblem(http.StatusForbidden, "cross-origin", "everybody on this machine is the administrator here, so it must be called as localhost or by its address, and not as "+strconv.Quote(r.Host))
	}
	if r.Header.Get("Authorization") == "" && a.crossOrigin.Check(r) != nil {
		return newProblem(http.StatusForbidden, "cross-origin", "a page of another site may not change anything here")
	}
	return nil
}

// namesThisMachine tells whether a request was meant for this machine: a page of a browser may
// be served under a name that its owner lets mean this machine afterwards.
func namesThisMachine(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	return name == "" || name == "localhost" || net.ParseIP(strings.Trim(name, "[]")) != nil
}

// OpenAPI returns the document that describes all routes.
func (a *API) OpenAPI() *huma.OpenAPI { return a.api.OpenAPI() }

// route registers an operation under a rule. The handler gets who calls from callerOf, and
// checks the rule again with checkRelated if it depends on what the request is about.
func route[In, Out any](a *API, rule access.Rule, op huma.Operation, handle func(context.Context, *lab.Lab, *In) (*Out, error)) {
	if op.MaxBodyBytes == 0 {
		op.MaxBodyBytes = maxBody
	}
	op.MaxBodyBytes++ // huma refuses a body that is as long as its bound
	op.BodyReadTimeout = apiframe.BodyTimeout
	op.Security = []map[string][]string{{"token": {}}}
	op.Middlewares = append(op.Middlewares, a.authenticate(rule))
	op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden, http.StatusServiceUnavailable)
	a.rules[op.Method+" "+op.Path] = rule
	huma.Register(a.api, op, func(ctx context.Context, in *In) (*Out, error) {
		out, err := handle(ctx, a.cfg.Lab(), in)
		if errors.Is(err, signin.ErrRefused) {
			a.loginFailed(ctx)
		}
		if err != nil {
			return nil, a.asProblem(err)
		}
		return out, nil
	})
}

// body is an answer with nothing but a body.
type body[T any] struct{ Body T }

func answer[T any](v T, err error) (*body[T], error) {
	if err != nil {
		return nil, err
	}
	return &body[T]{v}, nil
}

// nothing is the answer of a call that only does something.
type nothing struct{}

// Document returns the OpenAPI document as it is kept in the repository: without the
// version of the binary.
func Document() ([]byte, error) {
	a := New(Config{Version: "v1", Lab: func() *lab.Lab { return nil }, Log: hclog.NewNullLogger()})
	return json.MarshalIndent(a.OpenAPI(), "", "  ")
}
