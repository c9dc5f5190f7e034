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
		require.NoError(t, admin.New(db).AddServer(ctx, admin.Server{Name: "s1", Status: admin.ServerPrimary, Roles: []string{admin.RoleHostScheduler, "drone"}}))
		require.ErrorIs(t, admin.New(db).AddServer(ctx, admin.Server{Name: "s1"}), admin.ErrInput)
		for _, name := range []string{"", "a b", "a/b", "a\nb", strings.Repeat("x", 300)} {
			require.ErrorIs(t, admin.New(db).AddServer(ctx, admin.Server{Name: name}), admin.ErrInput, "%q", name)
		}
		changed, err := admin.New(db).SetRole(ctx, "s1", "drone", true)
		require.NoError(t, err)
		require.False(t, changed)
		changed, err = admin.New(db).SetRole(ctx, "s1", "drone", false)
		require.NoError(t, err)
		require.True(t, changed)
		require.NoError(t, admin.New(db).SetServerStatus(ctx, "s1", admin.ServerBackup))
		all, err := admin.New(db).Servers(ctx)
		require.NoError(t, err)
		require.Equal(t, []admin.Server{{Name: "s1", Status: "backup", Roles: []string{"host_scheduler"}}}, all)
		require.NoError(t, admin.New(db).RetireServer(ctx, "s1", "old"))
		require.ErrorIs(t, admin.New(db).RetireServer(ctx, "s2", "old"), admin.ErrInput)
		all, err = admin.New(db).Servers(ctx)
		require.NoError(t, err)
		require.Equal(t, []admin.Server{{Name: "s1", Status: "repair_required", Roles: []string{}, Note: "old"}}, all)
	})
}
