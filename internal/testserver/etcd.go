package testserver

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
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

// FillEtcd writes to an etcd with a small quota until it refuses. free gives it room again.
func FillEtcd(t testing.TB, client *clientv3.Client) (free func()) {
	t.Helper()
	const prefix = "fill/"
	value := strings.Repeat("x", 1<<20)
	for i := range 100 {
		if _, err := client.Put(t.Context(), fmt.Sprintf("%s%d", prefix, i), value); err != nil {
			require.ErrorContains(t, err, "space exceeded")
			return func() { freeEtcd(t, client, prefix) }
		}
	}
	t.Fatal("etcd has no quota")
	return nil
}

func freeEtcd(t testing.TB, client *clientv3.Client, prefix string) {
	t.Helper()
	res, err := client.Delete(t.Context(), prefix, clientv3.WithPrefix())
	require.NoError(t, err)
	_, err = client.Compact(t.Context(), res.Header.Revision, clientv3.WithCompactPhysical())
	require.NoError(t, err)
	for _, endpoint := range client.Endpoints() {
		_, err = client.Defragment(t.Context(), endpoint)
		require.NoError(t, err)
	}
	_, err = client.AlarmDisarm(t.Context(), &clientv3.AlarmMember{})
	require.NoError(t, err)
}
