package admin

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store/sqldb"
)

// Server is a row of the servers table with its roles (Autotest
// server_models.Server).
type Server struct {
	Row    int64    `json:"row"`
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

// HasRole tells whether the server has a role.
func (s Server) HasRole(role string) bool { return slices.Contains(s.Roles, role) }

// ServersTable is the servers table.
type ServersTable struct {
	Rows []Server
	// rowOf are the rows of the servers that were asked for, by their names. Which these
	// are is the database's decision, which may disregard case, accents and trailing blanks.
	rowOf map[string]int64
}

// Of returns the row of a server that was asked for; ok is false if it has none.
func (t ServersTable) Of(name string) (s Server, ok bool) { return t.Row(t.rowOf[name]) }

// Row returns a row; ok is false if it is not there.
func (t ServersTable) Row(id int64) (s Server, ok bool) {
	at := slices.IndexFunc(t.Rows, func(s Server) bool { return s.Row == id })
	if at < 0 {
		return Server{}, false
	}
	return t.Rows[at], true
}

// HasServers tells whether this database has a servers table at all: Autotest
// may keep it in another database, or not use it.
func (lab *Lab) HasServers(ctx context.Context) (bool, error) { return lab.HasTable(ctx, "servers") }

// Servers lists the servers table by name, and finds the rows of the servers named.
func (lab *Lab) Servers(ctx context.Context, names ...string) (ServersTable, error) {
	out, err := readServers(ctx, lab.Pool, names)
	return out, sqldb.Explain(err, "list the servers", lab.Target())
}

func readServers(ctx context.Context, q sqldb.Querier, names []string) (ServersTable, error) {
	out := ServersTable{Rows: []Server{}, rowOf: map[string]int64{}}
	query := "SELECT s.id, s.hostname, s.cname, " + sqldb.Spelled("s.status", Statuses...) + ", s.note, " + sqldb.Spelled("r.role", Roles...) +
		" FROM servers s LEFT JOIN server_roles r ON r.server_id = s.id ORDER BY s.hostname, s.id, r.role"
	err := sqldb.EachRow(ctx, q, query, nil, func(scan sqldb.Scanner) error {
		var id int64
		var name, cname, status, note, role sql.NullString
		if err := scan(&id, &name, &cname, &status, &note, &role); err != nil {
			return err
		}
		if n := len(out.Rows); n == 0 || out.Rows[n-1].Row != id {
			out.Rows = append(out.Rows, Server{Row: id, Name: name.String, CName: cname.String, Status: status.String, Note: note.String, Roles: []string{}})
		}
		if s := &out.Rows[len(out.Rows)-1]; role.Valid {
			s.Roles = append(s.Roles, role.String)
		}
		return nil
	})
	for _, name := range names {
		if id, ok, findErr := findServer(ctx, q, name); findErr != nil {
			err = cmp.Or(err, findErr)
		} else if ok {
			out.rowOf[name] = id
		}
	}
	return out, err
}

// findServer finds the row of a server by its name, or else by its cname.
func findServer(ctx context.Context, q sqldb.Querier, name string) (id int64, ok bool, err error) {
	err = sqldb.EachRow(ctx, q, "SELECT id FROM servers WHERE hostname = ? OR cname = ? AND cname <> '' ORDER BY CASE WHEN hostname = ? THEN 0 ELSE 1 END, id LIMIT 1", []any{name, name, name}, func(scan sqldb.Scanner) error {
		ok = true
		return scan(&id)
	})
	return id, ok, err
}

// ServerRef says which server is meant: by its name, or by its row, if the name is one that
// cannot be typed.
type ServerRef struct {
	Name string
	Row  int64 // 0 means by name
}

func (r ServerRef) String() string {
	if r.Row != 0 {
		return fmt.Sprintf("row %d", r.Row)
	}
	return r.Name
}

// find returns the id of the row, which must be there.
func (r ServerRef) find(ctx context.Context, tx *sql.Tx) (id int64, err error) {
	ok := false
	if r.Row == 0 {
		id, ok, err = findServer(ctx, tx, r.Name)
	} else {
		err = sqldb.EachRow(ctx, tx, "SELECT id FROM servers WHERE id = ?", []any{r.Row}, func(scan sqldb.Scanner) error {
			ok = true
			return scan(&id)
		})
	}
	if err == nil && !ok {
		err = fmt.Errorf("%w: there is no server %q; see 'hostsched server list -o wide'", ErrInput, r)
	}
	return id, err
}

// ServerEdit is a change of one server, within a transaction. It says what became of the
// server.
type ServerEdit func(ctx context.Context, lab *Lab, tx *sql.Tx) (said string, err error)

// Agreement is asked before a change of the servers table is made, with the table as it was
// and as it would be; its error undoes the change. Both find the rows of the Servers.
type Agreement struct {
	Servers []string
	Ask     func(before, after ServersTable) error
}

// ChangeServers makes all edits or none.
func (lab *Lab) ChangeServers(ctx context.Context, what string, agree Agreement, edits ...ServerEdit) (said []string, err error) {
	err = lab.change(ctx, what, nil, func(tx *sql.Tx) error {
		said = nil // the transaction may be repeated
		before, err := readServers(ctx, tx, agree.Servers)
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
		after, err := readServers(ctx, tx, agree.Servers)
		if err != nil || agree.Ask == nil {
			return err
		}
		return agree.Ask(before, after)
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
		_, exists, err := findServer(ctx, tx, s.Name)
		if err != nil {
			return "", err
		}
		if exists {
			return "", fmt.Errorf("%w: server %s exists already", ErrInput, s.Name)
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
func GiveRole(server ServerRef, role string) ServerEdit {
	return func(ctx context.Context, _ *Lab, tx *sql.Tx) (string, error) {
		if err := knownRoles([]string{role}); err != nil {
			return "", err
		}
		id, err := server.find(ctx, tx)
		if err != nil {
			return "", err
		}
		changed, err := changes(tx.ExecContext(ctx, "INSERT INTO server_roles (server_id, role) SELECT s.id, ? FROM servers s WHERE s.id = ? AND NOT EXISTS (SELECT 1 FROM server_roles r WHERE r.server_id = s.id AND r.role = ?)", role, id, role))
		return "has now the role " + role + asBefore(changed), err
	}
}

// TakeRole takes a role from a server, also one that nobody knows.
func TakeRole(server ServerRef, role string) ServerEdit {
	return func(ctx context.Context, _ *Lab, tx *sql.Tx) (string, error) {
		id, err := server.find(ctx, tx)
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
func SetServerStatus(server ServerRef, status string) ServerEdit {
	return func(ctx context.Context, _ *Lab, tx *sql.Tx) (string, error) {
		if err := knownStatus(status); err != nil {
			return "", err
		}
		id, err := server.find(ctx, tx)
		if err != nil {
			return "", err
		}
		_, err = tx.ExecContext(ctx, "UPDATE servers SET status = ? WHERE id = ?", status, id)
		return "status is now " + status, err
	}
}

// RetireServer takes all roles from a server and marks it as in repair, so that
// it never leads. The row stays: with an empty table every replica may lead.
func RetireServer(server ServerRef, reason string) ServerEdit {
	return func(ctx context.Context, _ *Lab, tx *sql.Tx) (string, error) {
		id, err := server.find(ctx, tx)
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
