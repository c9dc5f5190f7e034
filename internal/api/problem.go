package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/jobspec"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/signin"
	"github.com/hostsched/hostsched/store/sqldb"
)

// typePrefix begins the stable types of problems. They are names, not pages.
const typePrefix = "/problems/"

// problem is what an error of the lab becomes.
type problem struct {
	err    error
	status int
	name   string
}

// problems are the errors that callers can do something about. The first that fits counts.
var problems = []problem{
	{lab.ErrToken, http.StatusUnauthorized, "token-not-valid"},
	{signin.ErrSlowDown, http.StatusTooManyRequests, "slow-down"},
	{signin.ErrPending, http.StatusConflict, "login-pending"},
	{signin.ErrRefused, http.StatusForbidden, "login-refused"},
	{signin.ErrAway, http.StatusBadGateway, "identity-provider-away"},
	{access.ErrDenied, http.StatusForbidden, "not-allowed"},
	{lab.ErrNotFound, http.StatusNotFound, "not-found"},
	{lab.ErrExists, http.StatusConflict, "exists"},
	{lab.ErrStale, http.StatusPreconditionFailed, "stale-version"},
	{lab.ErrHeld, http.StatusConflict, "locked-by-other"},
	{lab.ErrConflict, http.StatusConflict, "conflict"},
	{lab.ErrUnplaceable, http.StatusUnprocessableEntity, "no-host-can-ever-run"},
	{lab.ErrExpired, http.StatusGone, "cursor-expired"},
	{lab.ErrKey, http.StatusBadRequest, "idempotency-key"},
	{lab.ErrKeyReused, http.StatusUnprocessableEntity, "idempotency-key-reused"},
	{lab.ErrKeyRunning, http.StatusConflict, "request-running"},
	{lab.ErrTooMany, http.StatusServiceUnavailable, "too-many-streams"},
	{jobspec.ErrSpec, http.StatusUnprocessableEntity, "bad-input"},
	{jobspec.ErrMediaType, http.StatusUnsupportedMediaType, "media-type"},
	{lab.ErrInput, http.StatusUnprocessableEntity, "bad-input"},
	{sqldb.ErrUnreachable, http.StatusServiceUnavailable, "database-away"},
	{sqldb.ErrPrivilege, http.StatusServiceUnavailable, "missing-privilege"},
	{sqldb.ErrBusy, http.StatusServiceUnavailable, "database-busy"},
	{context.DeadlineExceeded, http.StatusServiceUnavailable, "too-slow"},
}

// asProblem makes a problem document of an error. What is none of the caller's business
// is said in the log only.
func (a *API) asProblem(err error) error {
	var ready huma.StatusError
	if errors.As(err, &ready) {
		return err
	}
	for _, p := range problems {
		if errors.Is(err, p.err) {
			return newProblem(p.status, p.name, err.Error())
		}
	}
	a.cfg.Log.Error("answering a request", "error", err)
	return newProblem(http.StatusInternalServerError, "internal", "the server failed; its log says why")
}

func newProblem(status int, name, detail string) *huma.ErrorModel {
	return &huma.ErrorModel{Type: typePrefix + name, Title: http.StatusText(status), Status: status, Detail: detail}
}

// writeProblem answers outside of any route.
func writeProblem(w http.ResponseWriter, p *huma.ErrorModel) {
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
		model.Type = typePrefix + name
	}
	if model.Status == http.StatusRequestEntityTooLarge {
		model.Detail = fmt.Sprintf("the body may have %d MiB at most; send it in several requests", ctx.Operation().MaxBodyBytes>>20)
	}
	return v, nil
}

// plainText refuses texts of a query that no name in the lab can be.
func plainText(texts ...string) error {
	for _, text := range texts {
		if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			return fmt.Errorf("%w: %q has a character that no name has", lab.ErrInput, text)
		}
	}
	return nil
}
