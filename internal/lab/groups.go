package lab

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/store/sqldb"
)

type groupRow struct {
	labapi.ACLGroup
	id int64
}

const groupQuery = "SELECT g.id, g.name, g.description, (SELECT COUNT(*) FROM afe_acl_groups_users m WHERE m.aclgroup_id = g.id)," +
	" (SELECT COUNT(*) FROM afe_acl_groups_hosts x JOIN afe_hosts h ON h.id = x.host_id WHERE h.invalid = 0 AND x.aclgroup_id = g.id) FROM afe_acl_groups g WHERE "

func groupRows(ctx context.Context, q sqldb.Querier, condition string, args ...any) ([]groupRow, error) {
	rows := []groupRow{}
	err := sqldb.EachRow(ctx, q, groupQuery+condition, args, func(scan sqldb.Scanner) error {
		var row groupRow
		var name, description sql.NullString
		err := scan(&row.id, &name, &description, &row.UserCount, &row.HostCount)
		row.Name, row.Description = name.String, description.String
		rows = append(rows, row)
		return err
	})
	return rows, err
}

// ACLGroups lists ACL groups in the order of their ids, without their members.
func (l *Lab) ACLGroups(ctx context.Context, after string, limit int) (labapi.Page[labapi.ACLGroup], error) {
	from, err := ParseCursor(after)
	if err != nil {
		return labapi.Page[labapi.ACLGroup]{}, err
	}
	rows, err := groupRows(ctx, l.db.Pool, "g.id > ? ORDER BY g.id LIMIT ?", from, limit+1)
	p := page(rows, limit, func(r groupRow) int64 { return r.id })
	out := labapi.Page[labapi.ACLGroup]{Items: make([]labapi.ACLGroup, len(p.Items)), After: p.After}
	for i, r := range p.Items {
		out.Items[i] = r.ACLGroup
	}
	return out, l.explain(err, "list the ACL groups")
}

// ACLGroup returns an ACL group with its members, and its version.
func (l *Lab) ACLGroup(ctx context.Context, name string) (labapi.ACLGroup, string, error) {
	row, err := l.group(ctx, l.db.Pool, name, "")
	return row.ACLGroup, versionOf(row.ACLGroup), l.explain(err, "read ACL group "+name)
}

func (l *Lab) group(ctx context.Context, q sqldb.Querier, name, lock string) (groupRow, error) {
	var id int64
	err := q.QueryRowContext(ctx, "SELECT id FROM afe_acl_groups WHERE name = ? ORDER BY id LIMIT 1"+lock, name).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return groupRow{}, fmt.Errorf("%w: there is no ACL group %q", ErrNotFound, shortened(name))
	}
	if err != nil {
		return groupRow{}, err
	}
	rows, err := groupRows(ctx, q, "g.id = ?", id)
	if err != nil || len(rows) == 0 {
		return groupRow{}, err
	}
	g := rows[0]
	r := &txReader{ctx: ctx, tx: q}
	r.RowsOf("SELECT u.login FROM afe_acl_groups_users m JOIN afe_users u ON u.id = m.user_id WHERE m.aclgroup_id = ? ORDER BY u.login", []any{id}, func(v sqldb.Row) { g.Users = append(g.Users, v.Text(0)) })
	r.RowsOf("SELECT h.hostname FROM afe_acl_groups_hosts m JOIN afe_hosts h ON h.id = m.host_id WHERE h.invalid = 0 AND m.aclgroup_id = ? ORDER BY h.hostname", []any{id}, func(v sqldb.Row) { g.Hosts = append(g.Hosts, v.Text(0)) })
	return g, r.err
}

// AddACLGroup makes an ACL group. One without users begins with who makes it, as in
// Autotest's frontend.
func (l *Lab) AddACLGroup(ctx context.Context, who access.Caller, in labapi.ACLGroupInput) (labapi.ACLGroup, string, error) {
	if err := checkName("an ACL group", in.Name, maxName); err != nil {
		return labapi.ACLGroup{}, "", err
	}
	if err := checkText("the description", in.Description, maxName); err != nil {
		return labapi.ACLGroup{}, "", err
	}
	err := l.change(ctx, "make ACL group "+in.Name, func(tx *sql.Tx) error {
		if err := l.lockHostNames(ctx, tx); err != nil { // names of groups have no key either
			return err
		}
		if _, err := l.group(ctx, tx, in.Name, ""); err == nil {
			return fmt.Errorf("%w: ACL group %s", ErrExists, in.Name)
		} else if !errors.Is(err, ErrNotFound) {
			return err
		}
		res, err := tx.ExecContext(ctx, "INSERT INTO afe_acl_groups (name, description) VALUES (?, ?)", in.Name, in.Description)
		if err != nil {
			return err
		}
		id, err := res.LastInsertId()
		if err != nil {
			return err
		}
		users := in.Users
		if len(users) == 0 {
			if _, _, err := l.ensureUser(ctx, tx, who.Login); err != nil {
				return err
			}
			users = []string{who.Login}
		}
		if err := l.note(ctx, tx, Event{Kind: "acl.added", Who: who.Login, Subject: in.Name, Reason: in.Description}); err != nil {
			return err
		}
		return l.changeMembers(ctx, tx, who, groupRow{id: id, ACLGroup: labapi.ACLGroup{Name: in.Name}}, labapi.ACLGroupPatch{AddUsers: users, AddHosts: in.Hosts})
	})
	if err != nil {
		return labapi.ACLGroup{}, "", err
	}
	return l.ACLGroup(ctx, in.Name)
}

// lockGroup locks a group of a version that may be changed.
func (l *Lab) lockGroup(ctx context.Context, tx *sql.Tx, name, version string) (groupRow, error) {
	everyone, err := l.ensureEveryone(ctx, tx)
	if err != nil {
		return groupRow{}, err
	}
	g, err := l.group(ctx, tx, name, l.db.Dialect.ForUpdate)
	switch {
	case err != nil:
		return g, err
	case g.id == everyone:
		return g, fmt.Errorf("%w: Everyone cannot be changed: every user is in it, and every host that is in no other group", ErrConflict)
	case version != anyVersion && version != versionOf(g.ACLGroup):
		return g, fmt.Errorf("%w: ACL group %s is now at version %s; read it again and repeat the change", ErrStale, g.Name, versionOf(g.ACLGroup))
	}
	return g, nil
}

// PatchACLGroup changes a group and its members.
func (l *Lab) PatchACLGroup(ctx context.Context, who access.Caller, name, version string, p labapi.ACLGroupPatch) (labapi.ACLGroup, string, error) {
	if p.Description != nil {
		if err := checkText("the description", *p.Description, maxName); err != nil {
			return labapi.ACLGroup{}, "", err
		}
	}
	err := l.change(ctx, "change ACL group "+name, func(tx *sql.Tx) error {
		g, err := l.lockGroup(ctx, tx, name, version)
		if err != nil {
			return err
		}
		if p.Description != nil {
			if _, err := tx.ExecContext(ctx, "UPDATE afe_acl_groups SET description = ? WHERE id = ?", *p.Description, g.id); err != nil {
				return err
			}
			if err := l.note(ctx, tx, Event{Kind: "acl.changed", Who: who.Login, Subject: g.Name, Reason: "description " + *p.Description}); err != nil {
				return err
			}
		}
		return l.changeMembers(ctx, tx, who, g, p)
	})
	if err != nil {
		return labapi.ACLGroup{}, "", err
	}
	return l.ACLGroup(ctx, name)
}

// changeMembers adds and removes users and hosts.
func (l *Lab) changeMembers(ctx context.Context, tx *sql.Tx, who access.Caller, g groupRow, p labapi.ACLGroupPatch) error {
	var changes []string
	for _, c := range []struct {
		names       []string
		of          named
		what, table string
		column      string
		add         bool
	}{
		{p.AddUsers, userNames, "user", "afe_acl_groups_users", "user_id", true},
		{p.RemoveUsers, userNames, "user", "afe_acl_groups_users", "user_id", false},
		{p.AddHosts, hostNames, "host", "afe_acl_groups_hosts", "host_id", true},
		{p.RemoveHosts, hostNames, "host", "afe_acl_groups_hosts", "host_id", false},
	} {
		ids, err := idsOfAll(ctx, tx, c.of, c.what, c.names)
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			continue
		}
		sign := "+"
		if !c.add {
			sign = "-"
		}
		if c.add {
			rows := make([][]any, len(ids))
			for i, id := range ids {
				rows[i] = []any{g.id, id}
			}
			err = insert(ctx, tx, l.db.Dialect.InsertIgnore, c.table+" (aclgroup_id, "+c.column+")", "(?, ?)", rows)
		} else {
			_, err = tx.ExecContext(ctx, "DELETE FROM "+c.table+" WHERE aclgroup_id = ? AND "+c.column+" IN "+sqldb.List(ids), g.id)
		}
		if err != nil {
			return err
		}
		if c.what == "host" {
			if err := l.settleEveryone(ctx, tx, ids); err != nil {
				return err
			}
			if err := l.noteHostsChanged(ctx, tx, who, ids, "ACL group "+sign+g.Name); err != nil {
				return err
			}
		}
		changes = append(changes, c.what+" "+sign+strings.Join(c.names, " "+sign))
	}
	if len(changes) == 0 {
		return nil
	}
	return l.note(ctx, tx, Event{Kind: "acl.members_changed", Who: who.Login, Subject: g.Name, Reason: strings.Join(changes, "; ")})
}

// idsOfAll looks names up that must all be there.
func idsOfAll(ctx context.Context, tx *sql.Tx, of named, what string, names []string) ([]int64, error) {
	if len(names) == 0 {
		return nil, nil
	}
	r := &txReader{ctx: ctx, tx: tx}
	found := of.find(r, names)
	if r.err != nil {
		return nil, r.err
	}
	ids := make([]int64, len(names))
	for i, name := range names {
		id, ok := found[name]
		if !ok {
			return nil, fmt.Errorf("%w: there is no %s %q", ErrInput, what, shortened(name))
		}
		ids[i] = id
	}
	return ids, nil
}

// settleEveryone keeps to the rule that a host is in Everyone if it is in no other group.
func (l *Lab) settleEveryone(ctx context.Context, tx *sql.Tx, hosts []int64) error {
	everyone, err := l.ensureEveryone(ctx, tx)
	if err != nil {
		return err
	}
	in, group := sqldb.List(hosts), fmt.Sprint(everyone)
	// MySQL does not delete from a table that a plain subquery of the statement reads.
	others := "SELECT o.host_id FROM (SELECT host_id FROM afe_acl_groups_hosts WHERE aclgroup_id <> " + group + " AND host_id IN " + in + ") o"
	if _, err := tx.ExecContext(ctx, "DELETE FROM afe_acl_groups_hosts WHERE aclgroup_id = "+group+" AND host_id IN ("+others+")"); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, l.db.Dialect.InsertIgnore+" afe_acl_groups_hosts (aclgroup_id, host_id) SELECT "+group+", h.id FROM afe_hosts h WHERE h.id IN "+in+" AND h.id NOT IN ("+others+")")
	return err
}

// RemoveACLGroup removes a group. Hosts that are in no other one are in Everyone then.
func (l *Lab) RemoveACLGroup(ctx context.Context, who access.Caller, name, version string) error {
	return l.change(ctx, "remove ACL group "+name, func(tx *sql.Tx) error {
		g, err := l.lockGroup(ctx, tx, name, version)
		if err != nil {
			return err
		}
		hosts, err := sqldb.SelectIDs(ctx, tx, "SELECT host_id FROM afe_acl_groups_hosts WHERE aclgroup_id = ?", g.id)
		if err != nil {
			return err
		}
		for _, text := range []string{"DELETE FROM afe_acl_groups_hosts WHERE aclgroup_id = ?", "DELETE FROM afe_acl_groups_users WHERE aclgroup_id = ?", "DELETE FROM afe_acl_groups WHERE id = ?"} {
			if _, err := tx.ExecContext(ctx, text, g.id); err != nil {
				return err
			}
		}
		if len(hosts) > 0 {
			if err := l.settleEveryone(ctx, tx, hosts); err != nil {
				return err
			}
		}
		if err := l.noteHostsChanged(ctx, tx, who, hosts, "ACL group -"+g.Name); err != nil {
			return err
		}
		return l.note(ctx, tx, Event{Kind: "acl.removed", Who: who.Login, Subject: g.Name})
	})
}
