package apiframe

import (
	"cmp"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// BodyTimeout is how long the body of a request may take to arrive.
const BodyTimeout = 30 * time.Second

// Served hears of every request: its route, the status and how long it took, 0 for streams.
type Served func(route string, status int, took time.Duration)

// Router serves the routes below a prefix.
type Router struct {
	Mux    *http.ServeMux
	prefix string
	refuse func(*http.Request) *huma.ErrorModel
	served Served
}

// NewRouter returns a router without routes. refuse looks at each request before its route
// does; served may be nil.
func NewRouter(prefix string, refuse func(*http.Request) *huma.ErrorModel, served Served) *Router {
	r := &Router{Mux: http.NewServeMux(), prefix: prefix, refuse: refuse, served: served}
	r.Mux.HandleFunc("/", r.nowhere)
	return r
}

// methods are those that some path might have.
var methods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// nowhere answers requests for which there is no route.
func (router *Router) nowhere(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, m := range methods {
		other := r.Clone(r.Context())
		other.Method = m
		if _, pattern := router.Mux.Handler(other); pattern != "/" && pattern != "" {
			allowed = append(allowed, m)
		}
	}
	if len(allowed) == 0 {
		WriteProblem(w, NewProblem(http.StatusNotFound, "not-found", "there is no such path; "+router.prefix+"/openapi.json lists all"))
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	WriteProblem(w, NewProblem(http.StatusMethodNotAllowed, "method-not-allowed", "this path knows "+strings.Join(allowed, ", ")))
}

// recorder remembers which status was answered.
type recorder struct {
	http.ResponseWriter
	status int
	// hasBody tells whether the caller sends something, which may never arrive.
	hasBody bool
}

// refusedBody is how long the body of a request that is refused may still take to arrive.
// Before it answers, the server reads what is left of it.
const refusedBody = time.Second

// boundBody bounds how long the server waits for the body of a request, also where nobody
// reads it. Where the connection cannot be bounded there is none.
func (r *recorder) boundBody(wait time.Duration) {
	if r.hasBody {
		_ = http.NewResponseController(r.ResponseWriter).SetReadDeadline(time.Now().Add(wait))
	}
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
		if status >= http.StatusBadRequest {
			r.boundBody(refusedBody)
		}
	}
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets streams find what flushes.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// ServeHTTP implements http.Handler. It tells how a request went by the pattern of its route,
// of which there are as many as routes.
func (router *Router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	rec := &recorder{ResponseWriter: w, hasBody: r.ContentLength != 0}
	rec.boundBody(BodyTimeout)
	if problem := router.refuse(r); problem != nil {
		WriteProblem(rec, problem)
	} else {
		router.Mux.ServeHTTP(rec, r)
	}
	if router.served == nil {
		return
	}
	name := "other"
	if method, path, ok := strings.Cut(r.Pattern, " "); ok {
		name = method + " " + strings.TrimPrefix(path, router.prefix)
	}
	took := time.Since(began)
	if strings.HasPrefix(rec.Header().Get("Content-Type"), EventStream) {
		took = 0 // a stream lasts as long as somebody watches
	}
	router.served(name, cmp.Or(rec.status, http.StatusOK), took)
}
