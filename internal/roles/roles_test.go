package roles_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/roles"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

func TestMain(m *testing.M) { testserver.Main(m) }

// TestOf: who may lead is decided by the row that the database takes for the server's.
func TestOf(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		rows := [][5]any{
			{"lab-1", nil, "primary", "host_scheduler"},
			{"lab-2", "", "BACKUP", "host_scheduler"},
			{"lab-3", nil, "repair_required", "host_scheduler"},
			{"lab-4", nil, "primary", "drone"},
			{"lab-5", "sched", nil, "HOST_SCHEDULER"},
			{"lab-6", nil, "melted", "host_scheduler"},
		}
		role := func(name string) (string, string) {
			servers, err := admin.New(db).Servers(t.Context(), name)
			require.NoError(t, err)
			return roles.Of(servers, name)
		}
		got, _ := role("anybody")
		require.Equal(t, election.RolePrimary, got, "without a row every replica may lead")
		for _, r := range rows {
			storetest.Exec(t, db, "INSERT INTO servers (hostname, cname, status) VALUES (?, ?, ?)", r[0], r[1], r[2])
			storetest.Exec(t, db, "INSERT INTO server_roles (server_id, role) SELECT id, 'drone' FROM servers WHERE hostname = ?", r[0])
			storetest.Exec(t, db, "INSERT INTO server_roles (server_id, role) SELECT id, ? FROM servers WHERE hostname = ?", r[3], r[0])
		}
		want := map[string]string{
			"lab-1": election.RolePrimary, "LAB-1": election.RolePrimary, "lab-2": election.RoleBackup, "sched": election.RolePrimary,
			"lab-3": election.RoleNone, "lab-4": election.RoleNone, "lab-6": election.RoleNone, "lab-7": election.RoleNone,
			"l\u00e4b-1": election.RoleNone, "": election.RoleNone,
		}
		if storetest.Count(t, db, "SELECT CASE WHEN 'a' = '\u00e4' THEN 1 ELSE 0 END") == 1 {
			want["l\u00e4b-1"] = election.RolePrimary
		}
		for name, want := range want {
			got, why := role(name)
			require.Equal(t, want, got, "%q: %s", name, why)
			require.Equal(t, got == election.RoleNone, why != "", name)
		}
	})
}
