package testserver

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/hostsched/hostsched/internal/embedetcd"
)

// Etcd starts an etcd server for one test and stops it when the test ends.
func Etcd(t testing.TB) *embedetcd.Server {
	t.Helper()
	return EtcdWith(t, "http", func(*embed.Config) {})
}

// EtcdWith is Etcd with another configuration.
func EtcdWith(t testing.TB, scheme string, adjust func(*embed.Config)) *embedetcd.Server {
	t.Helper()
	// Not t.TempDir: etcd's last write may come while the folder is removed.
	dir, err := os.MkdirTemp("", "hostsched-etcd-")
	require.NoError(t, err)
	s, err := embedetcd.StartWith(dir, scheme, adjust)
	require.NoError(t, err)
	t.Cleanup(func() {
		s.Stop()
		require.NoError(t, os.RemoveAll(dir))
	})
	return s
}

// BackUp copies the data of etcd, which stands still meanwhile. restore puts the copy
// in the place of what is there then.
func BackUp(t testing.TB, s *embedetcd.Server) (restore func()) {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "backup")
	s.Stop()
	require.NoError(t, os.CopyFS(copied, os.DirFS(s.Dir())))
	require.NoError(t, s.Run())
	return func() {
		t.Helper()
		s.Stop()
		require.NoError(t, os.RemoveAll(s.Dir()))
		require.NoError(t, os.CopyFS(s.Dir(), os.DirFS(copied)))
		require.NoError(t, s.Run())
	}
}
