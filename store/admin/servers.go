package admin

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
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
	out := []Server{}
	err := sqldb.EachRow(ctx, lab.Pool, "SELECT s.hostname, s.cname, s.status, s.note, r.role FROM servers s LEFT JOIN server_roles r ON r.server_id = s.id ORDER BY s.hostname, r.role", nil, func(scan sqldb.Scanner) error {
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
	return out, sqldb.Explain(err, "list the servers", lab.Target())
}

// AddServer adds a server with its roles. Its name must be one that a replica can
// have: with a row that nobody can be, nobody may lead.
func (lab *Lab) AddServer(ctx context.Context, s Server) error {
	if err := shard.CheckName(s.Name); err != nil {
		return fmt.Errorf("%w: server %q: %w; no replica can have this name", ErrInput, s.Name, err)
	}
	return lab.change(ctx, "add server "+s.Name, nil, func(tx *sql.Tx) error {
		_, err := serverID(ctx, tx, s.Name)
		if err == nil {
			return fmt.Errorf("%w: server %s exists already", ErrInput, s.Name)
		}
		if !errors.Is(err, ErrInput) {
			return err
		}
		res, err := tx.ExecContext(ctx, "INSERT INTO servers (hostname, status, note, date_created) VALUES (?, ?, ?, "+lab.Dialect.Now+")", s.Name, s.Status, s.Note)
		if err != nil {
			return err
		}
		id, err := res.LastInsertId()
		if err != nil {
			return err
		}
		for _, role := range s.Roles {
			if _, err := tx.ExecContext(ctx, "INSERT INTO server_roles (server_id, role) VALUES (?, ?)", id, role); err != nil {
				return err
			}
		}
		return nil
	})
}

// SetRole gives a role to a server or takes it away. It returns whether that
// changed anything.
func (lab *Lab) SetRole(ctx context.Context, server, role string, has bool) (changed bool, err error) {
	err = lab.change(ctx, "change the roles of server "+server, nil, func(tx *sql.Tx) error {
		id, err := serverID(ctx, tx, server)
		if err != nil {
			return err
		}
		query := "DELETE FROM server_roles WHERE server_id = ? AND role = ?"
		if has {
			query = "INSERT INTO server_roles (server_id, role) SELECT s.id, ? FROM servers s WHERE s.id = ? AND NOT EXISTS (SELECT 1 FROM server_roles r WHERE r.server_id = s.id AND r.role = ?)"
		}
		args := []any{id, role}
		if has {
			args = []any{role, id, role}
		}
		res, err := tx.ExecContext(ctx, query, args...)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		changed = n > 0
		return err
	})
	return changed, err
}

// SetServerStatus changes a server's status.
func (lab *Lab) SetServerStatus(ctx context.Context, server, status string) error {
	return lab.change(ctx, "change the status of server "+server, nil, func(tx *sql.Tx) error {
		id, err := serverID(ctx, tx, server)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE servers SET status = ? WHERE id = ?", status, id)
		return err
	})
}

// RetireServer takes all roles from a server and marks it as in repair, so that
// it never leads. The row stays: with an empty table every replica may lead.
func (lab *Lab) RetireServer(ctx context.Context, server, reason string) error {
	return lab.change(ctx, "retire server "+server, nil, func(tx *sql.Tx) error {
		id, err := serverID(ctx, tx, server)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM server_roles WHERE server_id = ?", id); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE servers SET status = ?, note = ? WHERE id = ?", ServerRepairRequired, reason, id)
		return err
	})
}

func serverID(ctx context.Context, tx *sql.Tx, name string) (id int64, err error) {
	err = tx.QueryRowContext(ctx, "SELECT id FROM servers WHERE hostname = ? OR cname = ?", name, name).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("%w: there is no server %q; see 'hostsched server list'", ErrInput, name)
	}
	return id, err
}
