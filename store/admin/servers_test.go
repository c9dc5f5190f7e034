package admin_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

func TestServersTable(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		there, err := admin.New(db).HasServers(ctx)
		require.NoError(t, err)
		require.True(t, there)
		lab := admin.New(db)
		change := func(edits ...admin.ServerEdit) (string, error) {
			said, err := lab.ChangeServers(ctx, "test", admin.Agreement{}, edits...)
			return strings.Join(said, ", "), err
		}
		_, err = change(admin.AddServer(admin.Server{Name: "s1", Status: admin.ServerPrimary, Roles: []string{admin.RoleHostScheduler, "drone"}}))
		require.NoError(t, err)
		for _, s := range []admin.Server{
			{Name: "s1", Status: admin.ServerPrimary}, {Name: "s3", Status: "primry"}, {Name: "s3", Status: admin.ServerPrimary, Roles: []string{"nonsense"}},
			{Name: "s3", Status: admin.ServerPrimary, Note: strings.Repeat("x", 70000)},
			{Name: ""}, {Name: "a b"}, {Name: "a/b"}, {Name: "a\nb"}, {Name: strings.Repeat("x", 300)},
		} {
			_, err := change(admin.AddServer(s))
			require.ErrorIs(t, err, admin.ErrInput, "%.50v", s)
		}
		said, err := change(admin.GiveRole(admin.ServerRef{Name: "s1"}, "drone"))
		require.NoError(t, err)
		require.Equal(t, "has now the role drone (as before)", said)
		for _, edits := range [][]admin.ServerEdit{
			{admin.TakeRole(admin.ServerRef{Name: "s1"}, "drone"), admin.SetServerStatus(admin.ServerRef{Name: "s1"}, "nonsense")},
			{admin.TakeRole(admin.ServerRef{Name: "s1"}, "drone"), admin.GiveRole(admin.ServerRef{Name: "s1"}, "nonsense")},
			{admin.SetServerStatus(admin.ServerRef{Name: "s1"}, admin.ServerBackup), admin.RetireServer(admin.ServerRef{Name: "s2"}, "old")},
		} {
			_, err = change(edits...)
			require.ErrorIs(t, err, admin.ErrInput)
		}
		_, err = lab.ChangeServers(ctx, "test", admin.Agreement{Ask: func(before, after admin.ServersTable) error {
			require.Equal(t, []string{"drone", "host_scheduler"}, before.Rows[0].Roles)
			require.Equal(t, []string{"host_scheduler"}, after.Rows[0].Roles)
			return admin.ErrInUse
		}}, admin.TakeRole(admin.ServerRef{Name: "s1"}, "drone"))
		require.ErrorIs(t, err, admin.ErrInUse)
		all, err := lab.Servers(ctx)
		require.NoError(t, err)
		require.Equal(t, []admin.Server{{Row: all.Rows[0].Row, Name: "s1", Status: "primary", Roles: []string{"drone", "host_scheduler"}}}, all.Rows, "all of a change or nothing")
		said, err = change(admin.TakeRole(admin.ServerRef{Name: "s1"}, "drone"), admin.SetServerStatus(admin.ServerRef{Name: "s1"}, admin.ServerBackup))
		require.NoError(t, err)
		require.Equal(t, "has no longer the role drone, status is now backup", said)
		all, err = lab.Servers(ctx)
		require.NoError(t, err)
		require.Equal(t, []admin.Server{{Row: all.Rows[0].Row, Name: "s1", Status: "backup", Roles: []string{"host_scheduler"}}}, all.Rows)
		_, err = change(admin.RetireServer(admin.ServerRef{Name: "s1"}, "old"))
		require.NoError(t, err)
		all, err = lab.Servers(ctx)
		require.NoError(t, err)
		require.Equal(t, []admin.Server{{Row: all.Rows[0].Row, Name: "s1", Status: "repair_required", Roles: []string{}, Note: "old"}}, all.Rows)
	})
}

// TestServersWithOddNames: whatever row somebody has entered can be changed, by the name
// that the database takes for its own, or by its id.
func TestServersWithOddNames(t *testing.T) {
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		lab := admin.New(db)
		names := []string{"", "a/b c", "a\nb", strings.Repeat("x", 128), "Sched"}
		for _, name := range names {
			storetest.Exec(t, db, "INSERT INTO servers (hostname, status) VALUES (?, 'primary')", name)
		}
		storetest.Exec(t, db, "INSERT INTO servers (hostname, cname, status) VALUES ('other', '', 'primary')")
		names[len(names)-1] = "sched" // the lab's tables disregard case everywhere
		for i, name := range names {
			ref := admin.ServerRef{Name: name}
			if i%2 == 0 {
				ref = admin.ServerRef{Row: int64(i + 1)}
			}
			_, err := lab.ChangeServers(t.Context(), "test", admin.Agreement{}, admin.GiveRole(ref, "drone"), admin.SetServerStatus(ref, admin.ServerBackup))
			require.NoError(t, err, "%q", name)
			_, err = lab.ChangeServers(t.Context(), "test", admin.Agreement{}, admin.RetireServer(ref, "odd"))
			require.NoError(t, err, "%q", name)
			servers, err := lab.Servers(t.Context(), name)
			require.NoError(t, err)
			s, ok := servers.Of(name)
			require.True(t, ok, "%q", name)
			require.Equal(t, int64(i+1), s.Row)
			require.Equal(t, admin.ServerRepairRequired, s.Status)
		}
		servers, err := lab.Servers(t.Context(), "")
		require.NoError(t, err)
		s, _ := servers.Row(6)
		require.Equal(t, admin.ServerPrimary, s.Status, "an empty cname is nobody's name")
		_, err = lab.ChangeServers(t.Context(), "test", admin.Agreement{}, admin.RetireServer(admin.ServerRef{Row: 99}, "odd"))
		require.ErrorIs(t, err, admin.ErrInput)
		require.ErrorContains(t, err, "row 99")
	})
}
