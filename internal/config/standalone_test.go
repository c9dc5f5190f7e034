package config

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestStandalone: the folder says everything, also to commands that are not serve.
func TestStandalone(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{{"--data-dir", dir}, {"--standalone", "--data-dir", dir}} {
		c, flags := bound(t)
		require.NoError(t, flags.Parse(args))
		require.NoError(t, c.Load())
		require.True(t, c.Standalone)
		require.Equal(t, "sqlite:"+filepath.Join(dir, "lab.db"), c.Database.DSN)
		require.Equal(t, []string{"unix://" + filepath.Join(dir, "etcd.sock")}, c.Etcd.Endpoints)
		require.Equal(t, filepath.Join(dir, "hostsched.sock"), c.API.Socket)
	}
	t.Chdir(dir)
	c, flags := bound(t)
	require.NoError(t, flags.Parse([]string{"--standalone"}))
	require.NoError(t, c.Load())
	require.Equal(t, filepath.Join(dir, "hostsched-data"), c.DataDir)
}

func TestSettingsThatDoNotFitAStandaloneServer(t *testing.T) {
	for _, setting := range []string{"--database-dsn=sqlite:x.db", "--etcd-endpoints=http://127.0.0.1:2379", "--etcd-embedded", "--etcd-data-dir=x", "--servers-dsn=sqlite:x.db"} {
		c, flags := bound(t)
		require.NoError(t, flags.Parse([]string{"--standalone", setting}))
		err := c.Load()
		require.ErrorIs(t, err, ErrConfig, setting)
		require.ErrorContains(t, err, "leave ", setting)
	}
	c, flags := bound(t)
	require.NoError(t, flags.Parse([]string{"--data-dir", "/" + strings.Repeat("long/", 20)}))
	require.ErrorContains(t, c.Load(), "shorter path")
}

// TestEmbeddedEtcd: what makes no member is refused before anything is started.
func TestEmbeddedEtcd(t *testing.T) {
	member := []string{"--server=a", "--etcd-embedded", "--etcd-data-dir=x", "--etcd-initial-cluster=a=http://10.0.0.1:2380,b=http://b.lab:2380"}
	c, err := loadFile(t, "", member...)
	require.NoError(t, err)
	m, err := c.EtcdMember()
	require.NoError(t, err)
	require.Equal(t, "http://10.0.0.1:2380", m.ListenPeer[0].String())
	require.Equal(t, []string{"http://127.0.0.1:2379"}, c.Etcd.Endpoints)
	for text, args := range map[string][]string{
		"needs etcd.data_dir":           {"--etcd-data-dir="},
		"does not name this member":     {"--etcd-name=c"},
		"NAME=URL":                      {"--etcd-initial-cluster=http://10.0.0.1:2380"},
		"has no port":                   {"--etcd-initial-cluster=a=http://10.0.0.1"},
		"must begin with http":          {"--etcd-initial-cluster=a=10.0.0.1:2380"},
		"there is no port":              {"--etcd-initial-cluster=a=http://10.0.0.1:99999"},
		"and nothing else":              {"--etcd-initial-cluster=a=http://10.0.0.1:2380/x"},
		"not on names":                  {"--etcd-name=b"},
		"serves this machine only":      {"--etcd-listen-client-urls=http://0.0.0.0:2379"},
		"go together":                   {"--etcd-peer-cert-file=x"},
		"https goes with":               {"--etcd-peer-cert-file=x", "--etcd-peer-key-file=x", "--etcd-peer-trusted-ca-file=x"},
		"is not new or existing":        {"--etcd-initial-cluster-state=old"},
		"names no host":                 {"--etcd-initial-cluster=a=http://:2380"},
		"etcd.listen_peer_urls has":     {"--etcd-listen-peer-urls=nonsense"},
		"the embedded member of etcd s": {"--etcd-listen-peer-urls=http://a.lab:2380"},
	} {
		c, flags := bound(t)
		// A later flag of a list adds to the former one.
		all := member
		for _, arg := range args {
			name, _, _ := strings.Cut(arg, "=")
			all = append(without(all, name), arg)
		}
		err := flags.Parse(append([]string{"--database-dsn", dsn}, all...))
		if err == nil {
			err = c.Load()
			require.ErrorIs(t, err, ErrConfig, text)
		}
		require.ErrorContains(t, err, text)
	}
}

func without(args []string, name string) (out []string) {
	for _, arg := range args {
		if !strings.HasPrefix(arg, name+"=") {
			out = append(out, arg)
		}
	}
	return out
}
