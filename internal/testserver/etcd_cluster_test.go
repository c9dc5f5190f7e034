package testserver_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/internal/testserver"
)

// write writes a key through one member.
func write(t *testing.T, m *testserver.EtcdMember, within time.Duration) error {
	t.Helper()
	client, err := m.Client()
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	_, err = client.Put(ctx, "key", "value")
	return err
}

// followers are the members that do not lead.
func followers(t *testing.T, c *testserver.EtcdCluster) (leader *testserver.EtcdMember, others []*testserver.EtcdMember) {
	t.Helper()
	require.Eventually(t, func() bool {
		var err error
		leader, err = c.Leader(t.Context())
		return err == nil
	}, patience, silence)
	for _, m := range c.Members {
		if m != leader {
			others = append(others, m)
		}
	}
	return leader, others
}

// TestEtcdMemberCutFromItsPeers: a member that is cut off from its peers answers
// its clients, but writes nothing; the others elect a leader and go on; and
// afterwards it takes part again.
func TestEtcdMemberCutFromItsPeers(t *testing.T) {
	c := testserver.NewEtcdCluster(t, 3)
	leader, others := followers(t, c)
	require.NoError(t, write(t, leader, patience))
	leader.CutPeers(t)
	require.Error(t, write(t, leader, time.Second), "no quorum")
	require.Eventually(t, func() bool { return write(t, others[0], time.Second) == nil }, patience, silence, "the others elect a leader")
	leader.HealPeers(t)
	require.Eventually(t, func() bool { return write(t, leader, time.Second) == nil }, patience, silence)
}

// TestEtcdMemberKilled: a quorum goes on without a member that is killed or
// stopped, and it comes back with its data.
func TestEtcdMemberKilled(t *testing.T) {
	c := testserver.NewEtcdCluster(t, 3)
	_, others := followers(t, c)
	require.NoError(t, others[0].Kill())
	require.NoError(t, write(t, others[1], patience))
	require.NoError(t, others[0].Start())
	require.NoError(t, c.WaitReady(t.Context()))
	require.NoError(t, others[1].Stop())
	require.NoError(t, write(t, others[0], patience))
	require.NoError(t, others[1].Cont())
	require.NoError(t, c.WaitReady(t.Context()))

	client, err := clientv3.New(clientv3.Config{Endpoints: []string{others[1].Endpoint()}})
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()
	got, err := client.Get(t.Context(), "key")
	require.NoError(t, err)
	require.Equal(t, "value", string(got.Kvs[0].Value), "over the link for clients")
}
