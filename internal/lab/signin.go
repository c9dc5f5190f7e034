package lab

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Everyone is the ACL group that every user is in, as Autotest has it.
const Everyone = "Everyone"

// maxGroups bounds how many groups of a person count; some providers name all that there are.
const maxGroups = 1000

// SignIn gives somebody whom an identity provider knows a token for so long. The user is
// entered at the first time, and has what the provider's groups grant until the next login.
// Whoever has no role otherwise gets the least one.
func (l *Lab) SignIn(ctx context.Context, login string, groups []string, least access.Role, tokenName string, valid time.Duration) (labapi.NewToken, error) {
	who := access.Caller{Login: login, By: "oidc"}
	err := l.change(ctx, "enter user "+login, func(tx *sql.Tx) error {
		_, created, err := l.ensureUser(ctx, tx, login)
		if err != nil {
			return err
		}
		role, err := l.roleOfGroups(ctx, tx, groups)
		if err != nil {
			return err
		}
		if err := l.setSignedInRole(ctx, tx, login, max(role, least)); err != nil {
			return err
		}
		if created {
			return l.note(ctx, tx, Event{Kind: "user.added", Who: login, Subject: login, Reason: "first login"})
		}
		return nil
	})
	if err != nil {
		return labapi.NewToken{}, err
	}
	until := time.Now().Add(valid)
	return l.CreateToken(ctx, who, labapi.TokenInput{Name: tokenName, Login: login, Expires: &until})
}

// ensureUser returns the id of a user, who is entered into Everyone if not there yet, as by
// Autotest's frontend.
func (l *Lab) ensureUser(ctx context.Context, tx *sql.Tx, login string) (id int64, created bool, err error) {
	id, created, err = l.ensureRow(ctx, tx, "SELECT id FROM afe_users WHERE login = ?", login,
		"afe_users (login, access_level, reboot_before, reboot_after, show_experimental) VALUES (?, 0, 1, 2, 0)", login)
	if err != nil || !created {
		return id, false, err
	}
	group, err := l.ensureEveryone(ctx, tx)
	if err != nil {
		return 0, false, err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO afe_acl_groups_users (aclgroup_id, user_id) VALUES (?, ?)", group, id)
	return id, true, err
}

// ensureEveryone returns the id of the group Everyone. A lab that is new has none.
func (l *Lab) ensureEveryone(ctx context.Context, tx *sql.Tx) (int64, error) {
	id, _, err := l.ensureRow(ctx, tx, "SELECT id FROM afe_acl_groups WHERE name = ? ORDER BY id LIMIT 1", Everyone,
		"afe_acl_groups (name, description) VALUES (?, ?)", Everyone, "every user, and every host that is in no other group")
	return id, err
}

// ensureRow locks the row that a query finds by its unique name, and inserts it if it is not
// there. Of two that insert it at once the second waits for the first and finds its row.
func (l *Lab) ensureRow(ctx context.Context, tx *sql.Tx, query, name, row string, values ...any) (id int64, created bool, err error) {
	find := func() error { return tx.QueryRowContext(ctx, query+l.db.Dialect.ForUpdate, name).Scan(&id) }
	if err := find(); !errors.Is(err, sql.ErrNoRows) {
		return id, false, err
	}
	res, err := tx.ExecContext(ctx, l.db.Dialect.InsertIgnore+" "+row, values...)
	if err != nil {
		return 0, false, err
	}
	if inserted, err := res.RowsAffected(); err != nil || inserted == 0 {
		err = errors.Join(err, find())
		return id, false, err
	}
	id, err = res.LastInsertId()
	return id, true, err
}

// roleOfGroups is the highest role that is granted to any of these groups.
func (l *Lab) roleOfGroups(ctx context.Context, tx *sql.Tx, groups []string) (highest access.Role, err error) {
	groups = groups[:min(len(groups), maxGroups)]
	if len(groups) == 0 {
		return access.Nobody, nil
	}
	query := "SELECT role FROM hostsched_role_grants WHERE kind = 'group' AND name IN (" + marks(len(groups)) + ")"
	err = sqldb.EachRow(ctx, tx, query, texts(groups), func(scan sqldb.Scanner) error {
		var name string
		if err := scan(&name); err != nil {
			return err
		}
		role, err := access.ParseRole(name)
		highest = max(highest, role)
		return err
	})
	return highest, err
}

// setSignedInRole replaces what the provider's groups granted at the last login.
func (l *Lab) setSignedInRole(ctx context.Context, tx *sql.Tx, login string, role access.Role) error {
	if _, err := tx.ExecContext(ctx, "DELETE FROM hostsched_role_grants WHERE kind = 'login' AND name = ?", login); err != nil {
		return err
	}
	if role == access.Nobody {
		return nil
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO hostsched_role_grants (kind, name, role) VALUES ('login', ?, ?)", login, role.String()); err != nil {
		return fmt.Errorf("note the role of %s: %w", login, err)
	}
	return nil
}
