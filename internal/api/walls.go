package api

import (
	"cmp"
	"crypto/sha256"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// Bounds of what callers may do.
const (
	// remembered is of how many tokens and addresses it is known what they did lately.
	remembered = 10_000
	// failuresAtOnce is how many logins may fail from one address before it must wait for
	// failurePause between two.
	failuresAtOnce = 10
	failurePause   = 5 * time.Second
)

// Types of problems of callers that ask too much, and after how many seconds they may go on.
const (
	tooManyRequests = "too-many-requests"
	tooManyFailures = "too-many-failed-logins"
)

var retryAfter = map[string]string{typePrefix + tooManyRequests: "1", typePrefix + tooManyFailures: "5"}

// walls bound what one caller can take from others.
type walls struct {
	// perSecond is how many requests a token may make, 0 for any number.
	perSecond float64
	// tokens are those that were good when they came last: by their hash, so that no
	// secret stays in memory.
	tokens *lru.Cache[[sha256.Size]byte, *rate.Limiter]
	// failures are the failed logins of addresses.
	failures *lru.Cache[string, *rate.Limiter]
}

func newWalls(perSecond float64) *walls {
	// An error would only say that the size is not positive.
	tokens, _ := lru.New[[sha256.Size]byte, *rate.Limiter](remembered)
	failures, _ := lru.New[string, *rate.Limiter](remembered)
	return &walls{perSecond: perSecond, tokens: tokens, failures: failures}
}

// admit counts a request of a token, or of an address without one, and refuses it if there are
// too many.
func (w *walls) admit(key [sha256.Size]byte) error {
	limiter, known := w.tokens.Get(key)
	if !known || w.perSecond == 0 || limiter.Allow() {
		return nil
	}
	return newProblem(http.StatusTooManyRequests, tooManyRequests, "more requests than api.rate allows one token in a second; slow down, or ask for many things at once")
}

// remember begins to count the requests of a token that is good.
func (w *walls) remember(key [sha256.Size]byte) {
	if _, known := w.tokens.Get(key); !known {
		w.tokens.Add(key, rate.NewLimiter(rate.Limit(w.perSecond), max(1, int(2*w.perSecond))))
	}
}

// failed counts a login that failed.
func (w *walls) failed(address string) {
	limiter, known := w.failures.Get(address)
	if !known {
		limiter = rate.NewLimiter(rate.Every(failurePause), failuresAtOnce)
		w.failures.Add(address, limiter)
	}
	limiter.Allow()
}

// mayLogin refuses an address from which too many logins failed. Tokens that were good lately
// are not asked: many people may share an address.
func (w *walls) mayLogin(address string) error {
	if limiter, known := w.failures.Get(address); known && limiter.Tokens() < 1 {
		return newProblem(http.StatusTooManyRequests, tooManyFailures, "too many logins failed from this address; wait some seconds, and check the token")
	}
	return nil
}

// addressOf is the machine of a connection; in IPv6 its network, of which a machine has many
// addresses.
func addressOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
		return ip.Mask(net.CIDRMask(64, 128)).String()
	}
	return host
}

// readable refuses paths and parameters that are no text: the database would compare them with
// something else than what was meant.
func readable(u url.URL) error {
	query, err := url.QueryUnescape(strings.NewReplacer("&", "", "=", "").Replace(u.RawQuery))
	if err != nil {
		return newProblem(http.StatusBadRequest, "bad-request", "the parameters behind the question mark are not encoded as in URLs")
	}
	for what, text := range map[string]string{"path": u.Path, "parameters": query} {
		if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			return newProblem(http.StatusBadRequest, "bad-request", "the "+what+" must be UTF-8 without control characters")
		}
	}
	return nil
}

// methods are those that some path might have.
var methods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// nowhere answers requests for which there is no route.
func (a *API) nowhere(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, m := range methods {
		other := r.Clone(r.Context())
		other.Method = m
		if _, pattern := a.mux.Handler(other); pattern != "/" && pattern != "" {
			allowed = append(allowed, m)
		}
	}
	if len(allowed) == 0 {
		writeProblem(w, newProblem(http.StatusNotFound, "not-found", "there is no such path; "+Prefix+"/openapi.json lists all"))
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	writeProblem(w, newProblem(http.StatusMethodNotAllowed, "method-not-allowed", "this path knows "+strings.Join(allowed, ", ")))
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

// observed serves a request and tells how it went: by the pattern of its route, of which there
// are as many as routes.
func (a *API) observed(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	rec := &recorder{ResponseWriter: w, hasBody: r.ContentLength != 0}
	rec.boundBody(bodyTimeout)
	if err := a.fromElsewhere(r); err != nil {
		writeProblem(rec, err)
	} else {
		a.mux.ServeHTTP(rec, r)
	}
	if a.cfg.Served == nil {
		return
	}
	name := "other"
	if method, path, ok := strings.Cut(r.Pattern, " "); ok {
		name = method + " " + strings.TrimPrefix(path, Prefix)
	}
	took := time.Since(began)
	if strings.HasPrefix(rec.Header().Get("Content-Type"), "text/event-stream") {
		took = 0 // a stream lasts as long as somebody watches
	}
	a.cfg.Served(name, cmp.Or(rec.status, http.StatusOK), took)
}
