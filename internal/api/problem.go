package api

import (
	"fmt"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/apiframe"
	"github.com/hostsched/hostsched/internal/jobspec"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/internal/runs"
	"github.com/hostsched/hostsched/internal/signin"
	"github.com/hostsched/hostsched/shard"
)

// newProblem is short for what most routes need.
var newProblem = apiframe.NewProblem

func means(err error, status int, name string) apiframe.Meaning {
	return apiframe.Meaning{Err: err, Status: status, Name: name}
}

// problems are the errors that callers can do something about. The first that fits counts.
var problems = append([]apiframe.Meaning{
	means(lab.ErrToken, http.StatusUnauthorized, "token-not-valid"),
	means(signin.ErrSlowDown, http.StatusTooManyRequests, "slow-down"),
	means(signin.ErrPending, http.StatusConflict, "login-pending"),
	means(signin.ErrRefused, http.StatusForbidden, "login-refused"),
	means(signin.ErrAway, http.StatusBadGateway, "identity-provider-away"),
	means(access.ErrDenied, http.StatusForbidden, "not-allowed"),
	means(lab.ErrNotFound, http.StatusNotFound, "not-found"),
	means(lab.ErrExists, http.StatusConflict, "exists"),
	means(lab.ErrStale, http.StatusPreconditionFailed, "stale-version"),
	means(lab.ErrHeld, http.StatusConflict, "locked-by-other"),
	means(runs.ErrAutotest, http.StatusConflict, labapi.ProblemAutotest),
	means(lab.ErrConflict, http.StatusConflict, "conflict"),
	means(lab.ErrUnplaceable, http.StatusUnprocessableEntity, "no-host-can-ever-run"),
	means(lab.ErrExpired, http.StatusGone, "cursor-expired"),
	means(lab.ErrFileMissing, http.StatusGone, "file-missing"),
	means(lab.ErrFile, http.StatusServiceUnavailable, "file-not-readable"),
	means(lab.ErrKey, http.StatusBadRequest, "idempotency-key"),
	means(lab.ErrKeyReused, http.StatusUnprocessableEntity, "idempotency-key-reused"),
	means(lab.ErrKeyRunning, http.StatusConflict, "request-running"),
	means(lab.ErrTooMany, http.StatusServiceUnavailable, "too-many-streams"),
	means(shard.ErrName, http.StatusUnprocessableEntity, "bad-input"),
	means(ops.ErrNoShard, http.StatusNotFound, "not-found"),
	means(ops.ErrNotPaused, http.StatusConflict, "conflict"),
	means(ops.ErrNotHandedOver, http.StatusServiceUnavailable, "not-handed-over"),
	means(ops.ErrInput, http.StatusUnprocessableEntity, "bad-input"),
	means(jobspec.ErrSpec, http.StatusUnprocessableEntity, "bad-input"),
	means(jobspec.ErrMediaType, http.StatusUnsupportedMediaType, "media-type"),
	means(lab.ErrInput, http.StatusUnprocessableEntity, "bad-input"),
}, apiframe.Database...)

// asProblem makes a problem document of an error. What is none of the caller's business
// is said in the log only.
func (a *API) asProblem(err error) error { return apiframe.AsProblem(err, problems, a.cfg.Log) }

// plainText refuses texts of a query that no name in the lab can be.
func plainText(texts ...string) error {
	for _, text := range texts {
		if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			return fmt.Errorf("%w: %q has a character that no name has", lab.ErrInput, text)
		}
	}
	return nil
}
