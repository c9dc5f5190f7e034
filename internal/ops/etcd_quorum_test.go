package ops_test

import (
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/embedetcd"
	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/internal/testserver"
)

// TestMemberThatServesItsOwnMachine: a member whose clients are on its own machine alone is asked
// where the other members reach it, with their certificate.
func TestMemberThatServesItsOwnMachine(t *testing.T) {
	dir, err := os.MkdirTemp("", "etcd") // the path of t.TempDir may be too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	ca := testserver.NewAuthority(t, "lab")
	cert, key := filepath.Join(dir, "peer.crt"), filepath.Join(dir, "peer.key")
	ca.IssueNow(t, cert, key, "member", time.Hour)
	cluster := map[string][]url.URL{}
	for _, name := range []string{"a", "b"} {
		port, err := testserver.FreePort()
		require.NoError(t, err)
		cluster[name] = []url.URL{{Scheme: "https", Host: "127.0.0.1:" + strconv.Itoa(port)}}
	}
	socket := func(name string) string { return filepath.Join(dir, name+".sock") }
	end := map[string]func(){}
	for name, peer := range cluster {
		m, err := embedetcd.StartMember(embedetcd.MemberConfig{
			Dir: filepath.Join(dir, name), Name: name, Cluster: cluster, ListenPeer: peer, ListenClient: []url.URL{{Scheme: "unix", Path: socket(name)}},
			PeerTLS: transport.TLSInfo{CertFile: cert, KeyFile: key, TrustedCAFile: ca.File, ClientCertAuth: true},
		})
		require.NoError(t, err)
		end[name] = sync.OnceFunc(m.Close)
		t.Cleanup(end[name])
	}
	client, err := election.NewClient(clientv3.Config{Endpoints: []string{"unix://" + socket("a")}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	ctx, c := t.Context(), &config.Config{}
	c.Etcd.Endpoints = client.Endpoints()
	c.Etcd.PeerCertFile, c.Etcd.PeerKeyFile, c.Etcd.PeerTrustedCAFile = cert, key, ca.File
	answers := func(t require.TestingT) (all map[string]ops.EtcdMember) {
		members, err := ops.AskEtcdMembers(ctx, c, client)
		require.NoError(t, err)
		all = map[string]ops.EtcdMember{}
		for _, m := range members {
			all[m.Name] = m
		}
		return all
	}
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		all := answers(t)
		require.True(t, all["a"].Answers && all["b"].Answers, "%+v", all)
	}, 30*time.Second, 50*time.Millisecond)

	require.NoError(t, os.Remove(socket("b"))) // as if it were another machine's
	all := answers(t)
	require.True(t, all["b"].Answers, "%+v", all)
	end["b"]()
	all = answers(t)
	require.False(t, all["b"].Answers)
	require.Contains(t, all["b"].Error, cluster["b"][0].Host)
	text, spare := ops.EtcdQuorum([]ops.EtcdMember{all["a"], all["b"]})
	require.Equal(t, -1, spare, text)
}
