package testserver

import (
	"os"
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
