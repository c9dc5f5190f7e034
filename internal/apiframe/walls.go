package apiframe

import (
	"crypto/sha256"
	"errors"
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

var retryAfter = map[string]string{TypePrefix + tooManyRequests: "1", TypePrefix + tooManyFailures: "5"}

// Walls bound what one caller can take from others.
type Walls struct {
	// perSecond is how many requests a token may make, 0 for any number.
	perSecond float64
	// tokens are those that were good when they came last: by their hash, so that no
	// secret stays in memory.
	tokens *lru.Cache[[sha256.Size]byte, *rate.Limiter]
	// failures are the failed logins of addresses.
	failures *lru.Cache[string, *rate.Limiter]
	// refused hears of every token and login that was refused; it may be nil.
	refused func()
}

// NewWalls returns walls for callers that may make so many requests in a second. refused, if it
// is set, hears of every token and login that was refused.
func NewWalls(perSecond float64, refused func()) *Walls {
	// An error would only say that the size is not positive.
	tokens, _ := lru.New[[sha256.Size]byte, *rate.Limiter](remembered)
	failures, _ := lru.New[string, *rate.Limiter](remembered)
	return &Walls{perSecond: perSecond, tokens: tokens, failures: failures, refused: refused}
}

// Admit counts a request of a token, or of an address without one, and refuses it if there are
// too many.
func (w *Walls) Admit(key [sha256.Size]byte) error {
	limiter, known := w.tokens.Get(key)
	if !known || w.perSecond == 0 || limiter.Allow() {
		return nil
	}
	return NewProblem(http.StatusTooManyRequests, tooManyRequests, "more requests than api.rate allows one token in a second; slow down, or ask for many things at once")
}

// LookedUp notes what came of looking up a token that a caller at an address showed: it is good
// if err is nil, and none of ours, or one no more, if err is noToken.
func (w *Walls) LookedUp(key [sha256.Size]byte, address string, err, noToken error) {
	switch {
	case err == nil:
		w.Remember(key)
	case errors.Is(err, noToken):
		w.tokens.Remove(key)
		w.Failed(address)
	}
}

// Remember begins to count the requests of a token that is good.
func (w *Walls) Remember(key [sha256.Size]byte) {
	if _, known := w.tokens.Get(key); !known {
		w.tokens.Add(key, rate.NewLimiter(rate.Limit(w.perSecond), max(1, int(2*w.perSecond))))
	}
}

// Failed counts a login that failed.
func (w *Walls) Failed(address string) {
	limiter, known := w.failures.Get(address)
	if !known {
		limiter = rate.NewLimiter(rate.Every(failurePause), failuresAtOnce)
		w.failures.Add(address, limiter)
	}
	limiter.Allow()
	if w.refused != nil {
		w.refused()
	}
}

// MayLogin refuses an address from which too many logins failed. Tokens that were good lately
// are not asked: many people may share an address.
func (w *Walls) MayLogin(address string) error {
	if limiter, known := w.failures.Get(address); known && limiter.Tokens() < 1 {
		return NewProblem(http.StatusTooManyRequests, tooManyFailures, "too many logins failed from this address; wait some seconds, and check the token")
	}
	return nil
}

// AddressOf is the machine of a connection; in IPv6 its network, of which a machine has many
// addresses.
func AddressOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
		return ip.Mask(net.CIDRMask(64, 128)).String()
	}
	return host
}

// Readable refuses paths and parameters that are no text: the database would compare them with
// something else than what was meant.
func Readable(u url.URL) error {
	query, err := url.QueryUnescape(strings.NewReplacer("&", "", "=", "").Replace(u.RawQuery))
	if err != nil {
		return NewProblem(http.StatusBadRequest, "bad-request", "the parameters behind the question mark are not encoded as in URLs")
	}
	for what, text := range map[string]string{"path": u.Path, "parameters": query} {
		if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			return NewProblem(http.StatusBadRequest, "bad-request", "the "+what+" must be UTF-8 without control characters")
		}
	}
	return nil
}

// Known tells whether a token was good when it came last.
func (w *Walls) Known(key [sha256.Size]byte) bool { return w.tokens.Contains(key) }

// Bearer returns the token of a header, empty if it has none.
func Bearer(header string) string {
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
