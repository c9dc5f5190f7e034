// Package roles says which role a server has in the cluster, from the servers table. The
// replicas and the commands that change the table both ask it.
package roles

import (
	"fmt"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/store/admin"
)

// Of says whether a server may lead, from the servers table (Autotest
// server_manager_utils.confirm_server_has_role): only with the role
// host_scheduler, and never in repair. Without any row, every server may.
func Of(servers admin.ServersTable, name string) (role, why string) {
	if len(servers.Rows) == 0 {
		return election.RolePrimary, ""
	}
	s, ok := servers.Of(name)
	if !ok {
		return election.RoleNone, fmt.Sprintf("server %s is not in the servers table", name)
	}
	return OfRow(s)
}

// OfRow is Of by the row of the server.
func OfRow(s admin.Server) (role, why string) {
	switch {
	case !s.HasRole(admin.RoleHostScheduler):
		return election.RoleNone, fmt.Sprintf("server %s does not have the role %s", s.Name, admin.RoleHostScheduler)
	case s.Status == admin.ServerBackup:
		return election.RoleBackup, ""
	case s.Status == admin.ServerPrimary, s.Status == "":
		return election.RolePrimary, ""
	}
	return election.RoleNone, fmt.Sprintf("server %s has status %s", s.Name, s.Status)
}
