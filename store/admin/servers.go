package admin

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Server is a row of the servers table with its roles (Autotest
// server_models.Server).
type Server struct {
	Name   string   `json:"server"`
	CName  string   `json:"cname,omitempty"`
	Status string   `json:"status"`
	Roles  []string `json:"roles"`
	Note   string   `json:"note,omitempty"`
}

// Statuses and roles that mean something to us.
const (
	ServerPrimary        = "primary"
	ServerBackup         = "backup"
	ServerRepairRequired = "repair_required"
	RoleHostScheduler    = "host_scheduler"
)

// Is tells whether this is the server called name.
func (s Server) Is(name string) bool {
	return strings.EqualFold(s.Name, name) || s.CName != "" && strings.EqualFold(s.CName, name)
}

// HasRole tells whether the server has a role.
func (s Server) HasRole(role string) bool {
	for _, r := range s.Roles {
		if strings.EqualFold(r, role) {
			return true
		}
	}
	return false
}

// HasServers tells whether this database has a servers table at all: Autotest
// may keep it in another database, or not use it.
func (lab *Lab) HasServers(ctx context.Context) (bool, error) { return lab.HasTable(ctx, "servers") }

// Servers lists the servers table, by name.
func (lab *Lab) Servers(ctx context.Context) ([]Server, error) {
	out, err := readServers(ctx, lab.Pool)
	return out, sqldb.Explain(err, "list the servers", lab.Target())
}

func readServers(ctx context.Context, q sqldb.Querier) ([]Server, error) {
	out := []Server{}
	err := sqldb.EachRow(ctx, q, "SELECT s.hostname, s.cname, s.status, s.note, r.role FROM servers s LEFT JOIN server_roles r ON r.server_id = s.id ORDER BY s.hostname, r.role", nil, func(scan sqldb.Scanner) error {
		var name, cname, status, note, role sql.NullString
		if err := scan(&name, &cname, &status, &note, &role); err != nil {
			return err
		}
		if len(out) == 0 || out[len(out)-1].Name != name.String {
			out = append(out, Server{Name: name.String, CName: cname.String, Status: status.String, Note: note.String, Roles: []string{}})
		}
		if s := &out[len(out)-1]; role.Valid {
			s.Roles = append(s.Roles, role.String)
		}
		return nil
	})
	return out, err
}

// ServerEdit is a change of one server, within a transaction. It says what became of the
// server.
type ServerEdit func(ctx context.Context, lab *Lab, tx *sql.Tx) (said string, err error)

// ChangeServers makes all edits or none. agree, if set, is asked with the servers table as it
// was and as it would be; its error undoes the edits.
func (lab *Lab) ChangeServers(ctx context.Context, what string, agree func(before, after []Server) error, edits ...ServerEdit) (said []string, err error) {
	err = lab.change(ctx, what, nil, func(tx *sql.Tx) error {
		said = nil // the transaction may be repeated
		before, err := readServers(ctx, tx)
		if err != nil {
			return err
		}
		for _, edit := range edits {
			text, err := edit(ctx, lab, tx)
			if err != nil {
				return err
			}
			said = append(said, text)
		}
		after, err := readServers(ctx, tx)
		if err != nil || agree == nil {
			return err
		}
		return agree(before, after)
	})
	return said, err
}

// AddServer adds a server with its roles. Its name must be one that a replica can have: with
// a row that nobody can be, nobody may lead.
func AddServer(s Server) ServerEdit {
	return func(ctx context.Context, lab *Lab, tx *sql.Tx) (string, error) {
		if err := shard.CheckServer(s.Name); err != nil {
			return "", fmt.Errorf("%w: server %q: %w; no replica can have this name", ErrInput, s.Name, err)
		}
		if err := cmp.Or(knownRoles(s.Roles), knownStatus(s.Status), fits("the note", s.Note, shard.MaxReason)); err != nil {
			return "", err
		}
		_, err := serverID(ctx, tx, s.Name)
		if err == nil {
			return "", fmt.Errorf("%w: server %s exists already", ErrInput, s.Name)
		}
		if !errors.Is(err, ErrInput) {
			return "", err
		}
		res, err := tx.ExecContext(ctx, "INSERT INTO servers (hostname, status, note, date_created) VALUES (?, ?, ?, "+lab.Dialect.Now+")", s.Name, s.Status, s.Note)
		if err != nil {
			return "", err
		}
		id, err := res.LastInsertId()
		if err != nil {
			return "", err
		}
		for _, role := range s.Roles {
			if _, err := tx.ExecContext(ctx, "INSERT INTO server_roles (server_id, role) VALUES (?, ?)", id, role); err != nil {
				return "", err
			}
		}
		return fmt.Sprintf("added as %s with roles %s", s.Status, strings.Join(s.Roles, ",")), nil
	}
}

// GiveRole gives a role to a server.
func GiveRole(server, role string) ServerEdit {
	return func(ctx context.Context, _ *Lab, tx *sql.Tx) (string, error) {
		if err := knownRoles([]string{role}); err != nil {
			return "", err
		}
		id, err := serverID(ctx, tx, server)
		if err != nil {
			return "", err
		}
		changed, err := changes(tx.ExecContext(ctx, "INSERT INTO server_roles (server_id, role) SELECT s.id, ? FROM servers s WHERE s.id = ? AND NOT EXISTS (SELECT 1 FROM server_roles r WHERE r.server_id = s.id AND r.role = ?)", role, id, role))
		return "has now the role " + role + asBefore(changed), err
	}
}

// TakeRole takes a role from a server, also one that nobody knows.
func TakeRole(server, role string) ServerEdit {
	return func(ctx context.Context, _ *Lab, tx *sql.Tx) (string, error) {
		id, err := serverID(ctx, tx, server)
		if err != nil {
			return "", err
		}
		changed, err := changes(tx.ExecContext(ctx, "DELETE FROM server_roles WHERE server_id = ? AND role = ?", id, role))
		return "has no longer the role " + role + asBefore(changed), err
	}
}

// changes tells whether a statement changed any row.
func changes(res sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

func asBefore(changed bool) string {
	if changed {
		return ""
	}
	return " (as before)"
}

// SetServerStatus changes a server's status.
func SetServerStatus(server, status string) ServerEdit {
	return func(ctx context.Context, _ *Lab, tx *sql.Tx) (string, error) {
		if err := knownStatus(status); err != nil {
			return "", err
		}
		id, err := serverID(ctx, tx, server)
		if err != nil {
			return "", err
		}
		_, err = tx.ExecContext(ctx, "UPDATE servers SET status = ? WHERE id = ?", status, id)
		return "status is now " + status, err
	}
}

// RetireServer takes all roles from a server and marks it as in repair, so that
// it never leads. The row stays: with an empty table every replica may lead.
func RetireServer(server, reason string) ServerEdit {
	return func(ctx context.Context, _ *Lab, tx *sql.Tx) (string, error) {
		id, err := serverID(ctx, tx, server)
		if err != nil {
			return "", err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM server_roles WHERE server_id = ?", id); err != nil {
			return "", err
		}
		_, err = tx.ExecContext(ctx, "UPDATE servers SET status = ?, note = ? WHERE id = ?", ServerRepairRequired, reason, id)
		return "retired", err
	}
}

// Statuses are those that a server can have, and Roles those that Autotest knows
// (server_models.ServerRole).
var (
	Statuses = []string{ServerPrimary, ServerBackup, ServerRepairRequired}
	Roles    = []string{
		"afe", "crash_server", "database", "database_slave", "devserver", "drone", "golo_proxy", RoleHostScheduler, "reserve", "scheduler", "sentinel", "shard",
		"skylab_drone", "suite_scheduler",
	}
)

func knownStatus(status string) error {
	if slices.Contains(Statuses, status) {
		return nil
	}
	return fmt.Errorf("%w: status %q is unknown; there are %s", ErrInput, status, strings.Join(Statuses, ", "))
}

// knownRoles refuses a mistyped role: a server without the right one may not lead.
func knownRoles(roles []string) error {
	for _, role := range roles {
		if !slices.Contains(Roles, role) {
			return fmt.Errorf("%w: role %q is unknown; there are %s", ErrInput, role, strings.Join(Roles, ", "))
		}
	}
	return nil
}

func serverID(ctx context.Context, tx *sql.Tx, name string) (id int64, err error) {
	err = tx.QueryRowContext(ctx, "SELECT id FROM servers WHERE hostname = ? OR cname = ?", name, name).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("%w: there is no server %q; see 'hostsched server list'", ErrInput, name)
	}
	return id, err
}
