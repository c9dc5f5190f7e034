package roles_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/roles"
	"github.com/hostsched/hostsched/store/admin"
)

func TestOf(t *testing.T) {
	scheduler := []string{"drone", admin.RoleHostScheduler}
	servers := []admin.Server{
		{Name: "lab-1", Status: "primary", Roles: scheduler},
		{Name: "lab-2", Status: "backup", Roles: scheduler},
		{Name: "lab-3", Status: "repair_required", Roles: scheduler},
		{Name: "lab-4", Status: "primary", Roles: []string{"drone"}},
		{Name: "lab-5", CName: "sched", Roles: []string{"HOST_SCHEDULER"}},
		{Name: "lab-6", Status: "melted", Roles: scheduler},
	}
	for name, want := range map[string]string{
		"lab-1": election.RolePrimary, "LAB-1": election.RolePrimary, "lab-2": election.RoleBackup, "sched": election.RolePrimary,
		"lab-3": election.RoleNone, "lab-4": election.RoleNone, "lab-6": election.RoleNone, "lab-7": election.RoleNone,
	} {
		role, why := roles.Of(servers, name)
		require.Equal(t, want, role, name)
		require.Equal(t, role == election.RoleNone, why != "", name)
	}
	role, _ := roles.Of(nil, "anybody")
	require.Equal(t, election.RolePrimary, role, "without the table every replica may lead")
}
