package apiframe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/hashicorp/go-hclog"

	"github.com/hostsched/hostsched/store/sqldb"
)

// TypePrefix begins the stable types of problems. They are names, not pages.
const TypePrefix = "/problems/"

// NewProblem makes a problem document. detail says what to do.
func NewProblem(status int, name, detail string) *huma.ErrorModel {
	return &huma.ErrorModel{Type: TypePrefix + name, Title: http.StatusText(status), Status: status, Detail: detail}
}

// WriteProblem answers outside of any route.
func WriteProblem(w http.ResponseWriter, p *huma.ErrorModel) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	// The client is gone if this fails; there is nobody to tell.
	_ = json.NewEncoder(w).Encode(p)
}

// namesOf are the types of the problems that huma finds by itself.
var namesOf = map[int]string{
	http.StatusBadRequest:            "bad-request",
	http.StatusUnauthorized:          "not-authenticated",
	http.StatusForbidden:             "not-allowed",
	http.StatusNotFound:              "not-found",
	http.StatusMethodNotAllowed:      "method-not-allowed",
	http.StatusNotAcceptable:         "not-acceptable",
	http.StatusRequestTimeout:        "too-slow",
	http.StatusRequestEntityTooLarge: "too-large",
	http.StatusUnsupportedMediaType:  "media-type",
	http.StatusUnprocessableEntity:   "bad-input",
	http.StatusTooManyRequests:       "too-many-requests",
}

// named gives huma's own problems a type, and words that say what to do.
func named(ctx huma.Context, _ string, v any) (any, error) {
	model, ok := v.(*huma.ErrorModel)
	if !ok || model.Type != "" {
		return v, nil
	}
	if name := namesOf[model.Status]; name != "" {
		model.Type = TypePrefix + name
	}
	if model.Status == http.StatusRequestEntityTooLarge {
		model.Detail = fmt.Sprintf("the body may have %d MiB at most; send it in several requests", ctx.Operation().MaxBodyBytes>>20)
	}
	return v, nil
}

// Meaning is what an error becomes.
type Meaning struct {
	Err    error
	Status int
	Name   string
}

// Database are the errors of a database that callers see.
var Database = []Meaning{
	{sqldb.ErrUnreachable, http.StatusServiceUnavailable, "database-away"},
	{sqldb.ErrPrivilege, http.StatusServiceUnavailable, "missing-privilege"},
	{sqldb.ErrBusy, http.StatusServiceUnavailable, "database-busy"},
	{sqldb.ErrFull, http.StatusInsufficientStorage, "database-full"},
	{sqldb.ErrServer, http.StatusServiceUnavailable, "database-refuses"},
	{sqldb.ErrAccess, http.StatusServiceUnavailable, "database-refuses"},
	{sqldb.ErrSchema, http.StatusServiceUnavailable, "schema-does-not-fit"},
	{context.DeadlineExceeded, http.StatusServiceUnavailable, "too-slow"},
}

// AsProblem makes a problem document of an error, by the first meaning that fits. What is none
// of the caller's business is said in the log only.
func AsProblem(err error, meanings []Meaning, log hclog.Logger) error {
	var ready huma.StatusError
	if errors.As(err, &ready) {
		return err
	}
	for _, m := range meanings {
		if errors.Is(err, m.Err) {
			return NewProblem(m.Status, m.Name, err.Error())
		}
	}
	if errors.Is(err, context.Canceled) {
		// Its caller hung up, or the server ends: nothing failed, and nobody reads the answer.
		log.Debug("answering a request", "error", err)
	} else {
		log.Error("answering a request", "error", err)
	}
	return NewProblem(http.StatusInternalServerError, "internal", "the server failed; its log says why")
}

// Refuse answers a request before its route sees it.
func Refuse(api huma.API, ctx huma.Context, problem error, log hclog.Logger) {
	var model *huma.ErrorModel
	if !errors.As(problem, &model) {
		model = NewProblem(http.StatusInternalServerError, "internal", problem.Error())
	}
	if model.Status == http.StatusUnauthorized {
		ctx.SetHeader("WWW-Authenticate", "Bearer")
	}
	if seconds := retryAfter[model.Type]; seconds != "" {
		ctx.SetHeader("Retry-After", seconds)
	}
	ctx.SetHeader("Content-Type", "application/problem+json")
	ctx.SetStatus(model.Status)
	if err := api.Marshal(ctx.BodyWriter(), "application/json", model); err != nil {
		log.Debug("a caller was gone before its answer", "error", err)
	}
}
