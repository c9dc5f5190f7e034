package lab

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/labapi"
)

// FirstAdmin is the login of the first administrator of a standalone lab.
const FirstAdmin = "admin"

// firstToken is the name of the token by which it is known that the first administrator was
// made.
const firstToken = "first administrator"

// SubmitsAs is in whose name a caller submits: its own, but whoever is known by the machine alone is
// no user of the lab, and submits for the first administrator.
func SubmitsAs(who access.Caller) string {
	if who.Local() {
		return FirstAdmin
	}
	return who.Login
}

// EnsureFirstAdmin enters the first administrator with a token, once in the life of a lab.
// keep stores the token where only the administrator of the machine finds it, before the
// database knows it; it may return another one that was stored before.
func (l *Lab) EnsureFirstAdmin(ctx context.Context, keep func(fresh string) (secret string, err error)) error {
	made, err := l.hasFirstToken(ctx)
	if err != nil || made {
		return l.explain(err, "look for the first administrator's token")
	}
	fresh, err := NewSecret(tokenPrefix)
	if err != nil {
		return err
	}
	secret, err := keep(fresh)
	if err != nil {
		return err
	}
	if !WellFormed(secret, tokenPrefix) {
		return fmt.Errorf("%w: the file that should have the first administrator's token has something else; remove it", ErrInput)
	}
	who := access.Caller{Login: "hostsched"}
	return l.change(ctx, "enter the first administrator", func(tx *sql.Tx) error {
		if _, _, err := l.ensureUser(ctx, tx, FirstAdmin); err != nil {
			return err
		}
		grant := l.db.Dialect.InsertIgnore + " hostsched_role_grants (kind, name, role) VALUES ('user', ?, ?)"
		if _, err := tx.ExecContext(ctx, grant, FirstAdmin, access.Admin.String()); err != nil {
			return err
		}
		_, err := l.insertToken(ctx, tx, who, labapi.TokenInput{Login: FirstAdmin, Name: firstToken}, secret)
		return err
	})
}

func (l *Lab) hasFirstToken(ctx context.Context) (bool, error) {
	var n int
	err := l.db.Pool.QueryRowContext(ctx, "SELECT COUNT(*) FROM hostsched_tokens WHERE login = ? AND name = ?", FirstAdmin, firstToken).Scan(&n)
	return n > 0, err
}
