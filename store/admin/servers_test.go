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
			said, err := lab.ChangeServers(ctx, "test", nil, edits...)
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
		said, err := change(admin.GiveRole("s1", "drone"))
		require.NoError(t, err)
		require.Equal(t, "has now the role drone (as before)", said)
		for _, edits := range [][]admin.ServerEdit{
			{admin.TakeRole("s1", "drone"), admin.SetServerStatus("s1", "nonsense")},
			{admin.TakeRole("s1", "drone"), admin.GiveRole("s1", "nonsense")},
			{admin.SetServerStatus("s1", admin.ServerBackup), admin.RetireServer("s2", "old")},
		} {
			_, err = change(edits...)
			require.ErrorIs(t, err, admin.ErrInput)
		}
		_, err = lab.ChangeServers(ctx, "test", func(before, after []admin.Server) error {
			require.Equal(t, []string{"drone", "host_scheduler"}, before[0].Roles)
			require.Equal(t, []string{"host_scheduler"}, after[0].Roles)
			return admin.ErrInUse
		}, admin.TakeRole("s1", "drone"))
		require.ErrorIs(t, err, admin.ErrInUse)
		all, err := lab.Servers(ctx)
		require.NoError(t, err)
		require.Equal(t, []admin.Server{{Name: "s1", Status: "primary", Roles: []string{"drone", "host_scheduler"}}}, all, "all of a change or nothing")
		said, err = change(admin.TakeRole("s1", "drone"), admin.SetServerStatus("s1", admin.ServerBackup))
		require.NoError(t, err)
		require.Equal(t, "has no longer the role drone, status is now backup", said)
		all, err = lab.Servers(ctx)
		require.NoError(t, err)
		require.Equal(t, []admin.Server{{Name: "s1", Status: "backup", Roles: []string{"host_scheduler"}}}, all)
		_, err = change(admin.RetireServer("s1", "old"))
		require.NoError(t, err)
		all, err = lab.Servers(ctx)
		require.NoError(t, err)
		require.Equal(t, []admin.Server{{Name: "s1", Status: "repair_required", Roles: []string{}, Note: "old"}}, all)
	})
}
