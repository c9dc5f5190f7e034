package lab

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/store/sqldb"
)

// What secrets begin with tells them apart, also for scanners of leaked ones.
const (
	tokenPrefix = "hsu_" // of a user
	joinPrefix  = "hsj_" // of who becomes an agent
	agentPrefix = "hsa_" // of an agent
	RunPrefix   = "hsr_" // of a run
)

// ErrToken is a token that gives no right: unknown, expired, or revoked.
var ErrToken = errors.New("the token is not valid")

// NewSecret makes the secret of a token: 256 random bits and their checksum, so that a
// mistyped token is told from an unknown one without the database.
func NewSecret(prefix string) (string, error) {
	var b [32]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	return SecretOf(prefix, b), nil
}

// SecretOf is the secret that has these bits.
func SecretOf(prefix string, b [32]byte) string {
	body := base64.RawURLEncoding.EncodeToString(b[:])
	return prefix + body + "_" + checksum(body)
}

func checksum(body string) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(body))) }

// WellFormed tells whether a text can be a token of a kind at all.
func WellFormed(secret, prefix string) bool {
	rest, ok := strings.CutPrefix(secret, prefix)
	i := strings.LastIndex(rest, "_")
	return ok && i > 0 && checksum(rest[:i]) == rest[i+1:]
}

// HashOf is how a token is stored. A random secret needs no slow hash.
func HashOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// lastUsedEvery bounds how often the use of a token is noted: reads should not all write.
const lastUsedEvery = time.Minute

// Authenticate returns whose token this is, with ErrToken if it gives no right.
func (l *Lab) Authenticate(ctx context.Context, secret string) (access.Caller, error) {
	if !WellFormed(secret, tokenPrefix) {
		return access.Caller{}, fmt.Errorf("%w: it is no token of hostsched", ErrToken)
	}
	var id, now int64
	var login, atMost string
	var expires, used, revoked sql.NullInt64
	err := l.db.Pool.QueryRowContext(ctx, "SELECT id, login, role, expires, last_used, revoked, "+l.db.Dialect.NowMillis+" FROM hostsched_tokens WHERE token_hash = ?", HashOf(secret)).
		Scan(&id, &login, &atMost, &expires, &used, &revoked, &now)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return access.Caller{}, fmt.Errorf("%w: nobody knows it", ErrToken)
	case err != nil:
		return access.Caller{}, l.explain(err, "look a token up")
	case revoked.Valid:
		return access.Caller{}, fmt.Errorf("%w: it was revoked at %s", ErrToken, millis(revoked).Format(time.RFC3339))
	case expires.Valid && expires.Int64 <= now:
		return access.Caller{}, fmt.Errorf("%w: it expired at %s; get a new one with 'hostsched token create'", ErrToken, millis(expires).Format(time.RFC3339))
	}
	if now-used.Int64 > lastUsedEvery.Milliseconds() {
		if _, err := l.db.Pool.ExecContext(ctx, "UPDATE hostsched_tokens SET last_used = ? WHERE id = ?", now, id); err != nil {
			return access.Caller{}, l.explain(err, "note the use of a token")
		}
	}
	role, err := l.RoleOf(ctx, login)
	if err != nil {
		return access.Caller{}, err
	}
	if atMost != "" {
		limit, err := access.ParseRole(atMost)
		if err != nil {
			return access.Caller{}, err
		}
		role = min(role, limit)
	}
	return access.Caller{Login: login, Role: role, By: "token"}, nil
}

// RoleOf returns the role of a user: the one that was granted by name; else what the
// identity provider's groups gave at the last login, or Autotest's access_level, if that is
// more than an ordinary user's. It is Nobody if there is no such user.
func (l *Lab) RoleOf(ctx context.Context, login string) (access.Role, error) {
	var level int64
	known := false
	grants := map[string]access.Role{}
	// One statement, because each request of a token asks.
	query := "SELECT '', COALESCE(access_level, 0), '' FROM afe_users WHERE login = ? UNION ALL SELECT kind, 0, role FROM hostsched_role_grants WHERE kind IN ('user', 'login') AND name = ?"
	err := sqldb.EachRow(ctx, l.db.Pool, query, []any{login, login}, func(scan sqldb.Scanner) error {
		var kind, role string
		var of int64
		if err := scan(&kind, &of, &role); err != nil {
			return err
		}
		if kind == "" {
			known, level = true, of
			return nil
		}
		var err error
		grants[kind], err = access.ParseRole(role)
		return err
	})
	if err != nil {
		return access.Nobody, l.explain(err, "look the role of "+login+" up")
	}
	if !known {
		return access.Nobody, nil
	}
	return access.Of(level, grants["user"], grants["login"]), nil
}

// CreateToken makes a token and returns it with its secret, which nobody can read again.
func (l *Lab) CreateToken(ctx context.Context, who access.Caller, in labapi.TokenInput) (labapi.NewToken, error) {
	secret, err := NewSecret(tokenPrefix)
	if err != nil {
		return labapi.NewToken{}, err
	}
	var id int64
	err = l.change(ctx, "create a token", func(tx *sql.Tx) error {
		if err := l.requireUser(ctx, tx, in.Login); err != nil {
			return err
		}
		var err error
		id, err = l.insertToken(ctx, tx, who, in, secret)
		return err
	})
	if err != nil {
		return labapi.NewToken{}, err
	}
	made, err := l.Token(ctx, id)
	return labapi.NewToken{Token: made, Secret: secret}, err
}

// insertToken enters a token, and notes who made it.
func (l *Lab) insertToken(ctx context.Context, tx *sql.Tx, who access.Caller, in labapi.TokenInput, secret string) (id int64, err error) {
	res, err := tx.ExecContext(ctx, "INSERT INTO hostsched_tokens (token_hash, login, name, role, created, created_by, expires) VALUES (?, ?, ?, ?, "+l.db.Dialect.NowMillis+", ?, ?)",
		HashOf(secret), in.Login, in.Name, in.Role, who.Login, toMillis(in.Expires))
	if err != nil {
		return 0, err
	}
	if id, err = res.LastInsertId(); err != nil {
		return 0, err
	}
	return id, l.note(ctx, tx, Event{Kind: "token.created", Who: who.Login, Subject: in.Login + ": " + in.Name})
}

// requireUser fails unless there is such a user.
func (l *Lab) requireUser(ctx context.Context, tx sqldb.Querier, login string) error {
	var n int
	if err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM afe_users WHERE login = ?", login).Scan(&n); err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("%w: there is no user %q; enter it with 'hostsched user add %[2]s'", ErrNotFound, login)
	}
	return nil
}

const tokenColumns = "id, name, login, role, created, created_by, expires, last_used, revoked"

func scanToken(scan sqldb.Scanner) (t labapi.Token, err error) {
	var created int64
	var expires, used, revoked sql.NullInt64
	err = scan(&t.ID, &t.Name, &t.Login, &t.Role, &created, &t.CreatedBy, &expires, &used, &revoked)
	t.Created = time.UnixMilli(created).UTC()
	t.Expires, t.LastUsed, t.Revoked = millis(expires), millis(used), millis(revoked)
	return t, err
}

// Token returns one token.
func (l *Lab) Token(ctx context.Context, id int64) (labapi.Token, error) {
	t, err := scanToken(l.db.Pool.QueryRowContext(ctx, "SELECT "+tokenColumns+" FROM hostsched_tokens WHERE id = ?", id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("%w: there is no token %d", ErrNotFound, id)
	}
	return t, l.explain(err, "read a token")
}

// Tokens returns the tokens of a user, or all if login is empty.
func (l *Lab) Tokens(ctx context.Context, login string) ([]labapi.Token, error) {
	query, args := "SELECT "+tokenColumns+" FROM hostsched_tokens", []any(nil)
	if login != "" {
		query, args = query+" WHERE login = ?", []any{login}
	}
	out := []labapi.Token{}
	err := l.each(ctx, "read tokens", query+" ORDER BY id", args, func(scan sqldb.Scanner) error {
		t, err := scanToken(scan)
		out = append(out, t)
		return err
	})
	return out, err
}

// RevokeToken ends a token at once.
func (l *Lab) RevokeToken(ctx context.Context, who access.Caller, id int64) error {
	return l.change(ctx, "revoke a token", func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "UPDATE hostsched_tokens SET revoked = "+l.db.Dialect.NowMillis+" WHERE id = ? AND revoked IS NULL", id)
		if err := one(res, err, "there is no token %d that could be revoked", id); err != nil {
			return err
		}
		return l.note(ctx, tx, Event{Kind: "token.revoked", Who: who.Login, Subject: fmt.Sprint(id)})
	})
}

// RevokeSecret ends the token that has this secret.
func (l *Lab) RevokeSecret(ctx context.Context, who access.Caller, secret string) error {
	var id int64
	err := l.db.Pool.QueryRowContext(ctx, "SELECT id FROM hostsched_tokens WHERE token_hash = ?", HashOf(secret)).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%w: there is no such token", ErrNotFound)
	}
	if err != nil {
		return l.explain(err, "look a token up")
	}
	return l.RevokeToken(ctx, who, id)
}
