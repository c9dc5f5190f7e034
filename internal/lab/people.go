package lab

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/store/sqldb"
)

type userRow struct {
	labapi.User
	id int64
}

// userRows reads users with their roles and groups, of which only those for which a condition
// on afe_acl_groups g holds.
func (l *Lab) userRows(r reader, groups, condition string, args []any) []userRow {
	rows := []userRow{}
	byID := map[int64]int{}
	r.RowsOf("SELECT u.id, u.login, u.access_level, n.role, s.role FROM afe_users u LEFT JOIN hostsched_role_grants n ON n.kind = 'user' AND n.name = "+l.db.Dialect.OwnText("u.login")+
		" LEFT JOIN hostsched_role_grants s ON s.kind = 'login' AND s.name = "+l.db.Dialect.OwnText("u.login")+" WHERE "+condition, args, func(v sqldb.Row) {
		// A role that is none, which somebody wrote by hand, gives nothing.
		named, _ := access.ParseRole(v.Text(3))
		signedIn, _ := access.ParseRole(v.Text(4))
		byID[v.Int(0).N] = len(rows)
		rows = append(rows, userRow{id: v.Int(0).N, User: labapi.User{Login: v.Text(1), Role: access.Of(v.Int(2).N, named, signedIn).String(), ACLGroups: []string{}}})
	})
	for from := 0; from < len(rows); from += hostsAtOnce {
		part := rows[from:min(from+hostsAtOnce, len(rows))]
		r.RowsOf("SELECT m.user_id, g.name FROM afe_acl_groups_users m JOIN afe_acl_groups g ON g.id = m.aclgroup_id WHERE "+groups+" AND m.user_id IN "+
			sqldb.List(sqldb.IDsOf(part, func(u userRow) int64 { return u.id }))+" ORDER BY m.user_id, g.name", nil, func(v sqldb.Row) {
			u := &rows[byID[v.Int(0).N]]
			u.ACLGroups = append(u.ACLGroups, v.Text(1))
		})
	}
	return rows
}

func usersOf(rows []userRow, limit int) labapi.Page[labapi.User] {
	p := page(rows, limit, func(u userRow) int64 { return u.id })
	out := labapi.Page[labapi.User]{Items: make([]labapi.User, len(p.Items)), After: p.After}
	for i, u := range p.Items {
		out.Items[i] = u.User
	}
	return out
}

// Users lists users in the order of their ids.
func (l *Lab) Users(ctx context.Context, after string, limit int) (labapi.Page[labapi.User], error) {
	from, err := ParseCursor(after)
	if err != nil {
		return labapi.Page[labapi.User]{}, err
	}
	var rows []userRow
	err = l.read(ctx, "list the users", func(r *sqldb.Reader) {
		rows = l.userRows(r, "1 = 1", "u.id > ? ORDER BY u.id LIMIT ?", []any{from, int64(limit) + 1})
	})
	return usersOf(rows, limit), err
}

// User returns one user.
func (l *Lab) User(ctx context.Context, login string) (labapi.User, error) {
	var rows []userRow
	err := l.read(ctx, "read user "+login, func(r *sqldb.Reader) {
		rows = l.userRows(r, "1 = 1", "u.login = ?", []any{login})
	})
	if err == nil && len(rows) == 0 {
		err = noUser(login)
	}
	if err != nil {
		return labapi.User{}, err
	}
	return rows[0].User, nil
}

func noUser(login string) error {
	return fmt.Errorf("%w: there is no user %q; enter it with 'hostsched user add'", ErrNotFound, shortened(login))
}

// HostUsers lists who may use a host, with the ACL groups that they share with it.
func (l *Lab) HostUsers(ctx context.Context, hostname, after string, limit int) (labapi.Page[labapi.User], error) {
	from, err := ParseCursor(after)
	if err != nil {
		return labapi.Page[labapi.User]{}, err
	}
	h, _, err := l.Host(ctx, hostname)
	if err != nil {
		return labapi.Page[labapi.User]{}, err
	}
	shared := fmt.Sprintf("g.id IN (SELECT x.aclgroup_id FROM afe_acl_groups_hosts x WHERE x.host_id = %d)", h.ID)
	var rows []userRow
	err = l.read(ctx, "list who may use host "+hostname, func(r *sqldb.Reader) {
		rows = l.userRows(r, shared, "u.id > ? AND u.id IN (SELECT y.user_id FROM afe_acl_groups_users y JOIN afe_acl_groups g ON g.id = y.aclgroup_id WHERE "+shared+") ORDER BY u.id LIMIT ?", []any{from, int64(limit) + 1})
	})
	return usersOf(rows, limit), err
}

// AddUser enters a user, into Everyone.
func (l *Lab) AddUser(ctx context.Context, who access.Caller, login string) (labapi.User, error) {
	if err := checkName("a user", login, maxLogin); err != nil {
		return labapi.User{}, err
	}
	err := l.change(ctx, "enter user "+login, func(tx *sql.Tx) error {
		_, created, err := l.ensureUser(ctx, tx, login)
		if err != nil {
			return err
		}
		if !created {
			return fmt.Errorf("%w: user %s", ErrExists, login)
		}
		return l.note(ctx, tx, Event{Kind: "user.added", Who: who.Login, Subject: login})
	})
	if err != nil {
		return labapi.User{}, err
	}
	return l.User(ctx, login)
}

// RemoveUser removes a user to whom nothing refers, with tokens, roles and memberships.
func (l *Lab) RemoveUser(ctx context.Context, who access.Caller, login string) error {
	return l.change(ctx, "remove user "+login, func(tx *sql.Tx) error {
		var id int64
		err := tx.QueryRowContext(ctx, "SELECT id FROM afe_users WHERE login = ?"+l.db.Dialect.ForUpdate, login).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			return noUser(login)
		}
		if err != nil {
			return err
		}
		if err := userIsFree(ctx, tx, id, login); err != nil {
			return err
		}
		for _, s := range []struct {
			text string
			arg  any
		}{
			{"UPDATE hostsched_tokens SET revoked = " + l.db.Dialect.NowMillis + " WHERE revoked IS NULL AND login = ?", login},
			{"DELETE FROM hostsched_role_grants WHERE kind IN ('user', 'login') AND name = ?", login},
			{"DELETE FROM afe_acl_groups_users WHERE user_id = ?", id},
			{"DELETE FROM afe_users WHERE id = ?", id},
		} {
			if _, err := tx.ExecContext(ctx, s.text, s.arg); err != nil {
				return err
			}
		}
		return l.note(ctx, tx, Event{Kind: "user.removed", Who: who.Login, Subject: login})
	})
}

// userIsFree refuses a user to whom rows refer that must say who it was.
func userIsFree(ctx context.Context, tx *sql.Tx, id int64, login string) error {
	for _, c := range []struct {
		query, what string
		arg         any
	}{
		{"SELECT COUNT(*) FROM afe_hosts WHERE locked_by_id = ?", "hosts are locked by", id},
		{"SELECT COUNT(*) FROM afe_host_queue_entries q JOIN afe_jobs j ON j.id = q.job_id WHERE q.complete = 0 AND j.owner = ?", "queue entries wait or run for", login},
		{"SELECT COUNT(*) FROM afe_special_tasks WHERE requested_by_id = ?", "special tasks were asked for by", id},
		{"SELECT COUNT(*) FROM afe_aborted_host_queue_entries WHERE aborted_by_id = ?", "queue entries were aborted by", id},
	} {
		var n int
		if err := tx.QueryRowContext(ctx, c.query, c.arg).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			return fmt.Errorf("%w: %d %s user %s; take the rights away instead: revoke the tokens and grant the role viewer", ErrConflict, n, c.what, login)
		}
	}
	return nil
}

// Grants lists which roles were given by name.
func (l *Lab) Grants(ctx context.Context) ([]labapi.RoleGrant, error) {
	out := []labapi.RoleGrant{}
	err := l.each(ctx, "list the roles", "SELECT kind, name, role FROM hostsched_role_grants WHERE kind IN ('user', 'group') ORDER BY kind, name", nil, func(scan sqldb.Scanner) error {
		var g labapi.RoleGrant
		err := scan(&g.Kind, &g.Name, &g.Role)
		out = append(out, g)
		return err
	})
	return out, err
}

// Grant gives a role to a user, or to a group of the identity provider.
func (l *Lab) Grant(ctx context.Context, who access.Caller, g labapi.RoleGrant) error {
	if err := checkName("a "+g.Kind, g.Name, maxLogin); err != nil {
		return err
	}
	return l.change(ctx, "grant a role", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM hostsched_role_grants WHERE kind = ? AND name = ?", g.Kind, g.Name); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO hostsched_role_grants (kind, name, role) VALUES (?, ?, ?)", g.Kind, g.Name, g.Role); err != nil {
			return err
		}
		return l.note(ctx, tx, Event{Kind: "role.granted", Who: who.Login, Subject: g.Kind + " " + g.Name, Reason: g.Role})
	})
}

// RevokeGrant takes a role back.
func (l *Lab) RevokeGrant(ctx context.Context, who access.Caller, kind, name string) error {
	return l.change(ctx, "take a role back", func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "DELETE FROM hostsched_role_grants WHERE kind = ? AND name = ?", kind, name)
		if err := one(res, err, "%s %q has no role of its own", kind, shortened(name)); err != nil {
			return err
		}
		return l.note(ctx, tx, Event{Kind: "role.revoked", Who: who.Login, Subject: kind + " " + name})
	})
}
