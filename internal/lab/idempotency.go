package lab

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hostsched/hostsched/store/sqldb"
)

// Errors of requests with an Idempotency-Key.
var (
	// ErrKey is a key that cannot be used.
	ErrKey = errors.New("the header Idempotency-Key cannot be used")
	// ErrKeyReused is a key that came with another request before.
	ErrKeyReused = errors.New("the Idempotency-Key was used for another request")
	// ErrKeyRunning means that the first request with the key has not ended.
	ErrKeyRunning = errors.New("the first request with this Idempotency-Key still runs")
)

// keyLasts is how long the answer to a request is kept.
const keyLasts = 24 * time.Hour

// Key makes requests that have it one: the first is done, the others get its answer.
type Key struct{ key, request string }

// NewKey makes a key of the header, which is a text with or without quotes, and of what is
// asked for; nil without header. Capitals count, whatever the database thinks of them.
func NewKey(header, route string, request any) (*Key, error) {
	if header == "" {
		return nil, nil
	}
	text := header
	if strings.HasPrefix(text, `"`) {
		if len(text) < 2 || !strings.HasSuffix(text, `"`) {
			return nil, fmt.Errorf("%w: it lacks a quote", ErrKey)
		}
		text = text[1 : len(text)-1]
	}
	if text == "" || len(text) > 190 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' || r == '"' }) {
		return nil, fmt.Errorf("%w: it must be 1 to 190 printable ASCII characters", ErrKey)
	}
	asked, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	return &Key{hashText(text), hashText(route + "\n" + string(asked))}, nil
}

func hashText(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// answered fetches the answer if the request was done before.
func (l *Lab) answered(ctx context.Context, s Submission, answer any) (bool, error) {
	if s.Key == nil {
		return false, nil
	}
	found, err := l.stored(ctx, l.db.Pool, s, answer)
	return found, l.explain(err, "look an Idempotency-Key up")
}

func (l *Lab) stored(ctx context.Context, q sqldb.Querier, s Submission, answer any) (bool, error) {
	var request, text string
	err := q.QueryRowContext(ctx, "SELECT request_hash, answer FROM hostsched_idempotency WHERE login = ? AND idempotency_key = ? AND created > "+l.db.Dialect.NowMillis+" - ?", s.Who.Login, s.Key.key, keyLasts.Milliseconds()).Scan(&request, &text)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err != nil:
		return false, err
	case request != s.Key.request:
		return false, fmt.Errorf("%w; use a new key for a new request", ErrKeyReused)
	}
	return true, json.Unmarshal([]byte(text), answer)
}

// changeOnce is change for the work of a request that may be repeated.
func (l *Lab) changeOnce(ctx context.Context, what string, s Submission, answer any, work func(*sql.Tx) error) error {
	err := l.change(ctx, what, func(tx *sql.Tx) error {
		return l.onceOnly(ctx, tx, s, answer, func() error { return work(tx) })
	})
	if !errors.Is(err, errAnswered) {
		return err
	}
	done, err := l.answered(ctx, s, answer)
	if err == nil && !done {
		err = fmt.Errorf("%w; ask again for its answer", ErrKeyRunning)
	}
	return err
}

// onceOnly does the work of a request in its transaction, with the key and the answer: either
// all of it is there, or nothing. A second request waits for the row of the first.
func (l *Lab) onceOnly(ctx context.Context, tx *sql.Tx, s Submission, answer any, work func() error) error {
	if s.Key == nil {
		return work()
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO hostsched_idempotency (login, idempotency_key, request_hash, created, answer) VALUES (?, ?, ?, "+l.db.Dialect.NowMillis+", '')", s.Who.Login, s.Key.key, s.Key.request)
	switch {
	case sqldb.IsLockWait(err):
		return fmt.Errorf("%w; ask again for its answer", ErrKeyRunning)
	case sqldb.IsDuplicate(err):
		if err := l.takeOldKey(ctx, tx, s); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	if err := work(); err != nil {
		return err
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "UPDATE hostsched_idempotency SET status = 201, answer = ? WHERE login = ? AND idempotency_key = ?", string(text), s.Who.Login, s.Key.key)
	return err
}

// takeOldKey uses a key again that was used long ago, and fails with errAnswered if it is too new.
func (l *Lab) takeOldKey(ctx context.Context, tx *sql.Tx, s Submission) error {
	res, err := tx.ExecContext(ctx, "UPDATE hostsched_idempotency SET request_hash = ?, created = "+l.db.Dialect.NowMillis+", answer = '' WHERE login = ? AND idempotency_key = ? AND created <= "+l.db.Dialect.NowMillis+" - ?",
		s.Key.request, s.Who.Login, s.Key.key, keyLasts.Milliseconds())
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n > 0 {
		return err
	}
	return errAnswered
}

// maxOldKeys bounds how many keys are deleted at once; the others wait for the next time.
const maxOldKeys = 1000

// DropOldKeys deletes keys that do not count any more.
func (l *Lab) DropOldKeys(ctx context.Context) error {
	_, err := l.db.Pool.ExecContext(ctx, "DELETE FROM hostsched_idempotency WHERE created <= (SELECT x.created FROM (SELECT MAX(o.created) AS created FROM (SELECT created FROM hostsched_idempotency WHERE created <= "+l.db.Dialect.NowMillis+" - ? ORDER BY created LIMIT ?) o) x)",
		keyLasts.Milliseconds(), maxOldKeys)
	return l.explain(err, "delete old keys of requests")
}

// errAnswered ends a transaction whose work another one did.
var errAnswered = errors.New("done by another request")
