package main

import (
	"context"
	"encoding/json"
	"net"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/shard"
)

// statusBound is how long `cluster status` may take, whatever hangs.
const statusBound = 3 * time.Second

// clusterStatus runs `cluster status` as table and as JSON until they say what is right. The
// command does not wait long for a replica, so a busy one may be missing in a single answer.
func (in *installation) clusterStatus(t *testing.T, code int, right func(t require.TestingT, table string, st ops.ClusterStatus), args ...string) {
	t.Helper()
	in.setEnvironment(t)
	asTable := slices.Concat([]string{"cluster", "status"}, args)
	asJSON := slices.Concat(asTable, []string{"-o", "json"})
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		began := time.Now()
		table := prints(t, code, asTable...)
		require.Less(t, time.Since(began), statusBound)
		var st ops.ClusterStatus
		require.NoError(t, json.Unmarshal([]byte(prints(t, code, asJSON...)), &st))
		right(t, table, st)
	}, patience, 50*time.Millisecond)
}

// nobody listens at refusing; silent takes connections and never says anything.
func nobody(t *testing.T) (refusing, silent string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	refusing = l.Addr().String()
	require.NoError(t, l.Close())
	l, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return refusing, l.Addr().String()
}

// TestStatusOfHalfACluster: `cluster status` shows what it can reach, says what is
// missing and why, within three seconds, and its exit code says that something is.
func TestStatusOfHalfACluster(t *testing.T) {
	in := newInstallation(t, failoverLab, 2)
	leader, _ := in.leaderIn(t, anyPhase()...)
	in.followersReady(t)
	in.clusterStatus(t, exitOK, func(t require.TestingT, table string, st ops.ClusterStatus) {
		require.Empty(t, st.Missing)
		require.Empty(t, st.Warnings)
		require.Contains(t, table, leader.name)
	})

	refusing, silent := nobody(t)
	for _, address := range []string{refusing, silent} {
		in.clusterStatus(t, exitFailed, func(t require.TestingT, table string, st ops.ClusterStatus) {
			require.Contains(t, table, "MISSING  etcd: ")
			require.Len(t, st.Missing, 1)
			require.Equal(t, "etcd", st.Missing[0].What)
			require.Len(t, st.Shards, 1)
			require.Equal(t, leader.name, st.Shards[0].Leader, "the replica says so itself")
			require.Positive(t, st.Shards[0].Term)
			require.Len(t, st.Servers, 1, "those that led are known from the history")
		}, "--etcd-endpoints", "http://"+address)

		dsn := "root@tcp(" + address + ")/lab"
		in.clusterStatus(t, exitFailed, func(t require.TestingT, table string, st ops.ClusterStatus) {
			require.Contains(t, table, "MISSING  database: ")
			require.Len(t, st.Shards, 1)
			require.Equal(t, leader.name, st.Shards[0].Leader)
			require.Equal(t, int64(-1), int64(st.Shards[0].Failovers))
			require.Len(t, st.Servers, 2)
			for _, s := range st.Servers {
				require.Empty(t, s.Error)
			}
		}, "--database-dsn", dsn)

		in.clusterStatus(t, exitFailed, func(t require.TestingT, _ string, st ops.ClusterStatus) {
			require.Len(t, st.Missing, 2)
		}, "--database-dsn", dsn, "--etcd-endpoints", "http://"+address)
	}
	in.command(t, 2, "cluster", "status", "--database-dsn", "nonsense")
	in.command(t, 2, "cluster", "status", "--interval", "0s")

	// A watch continues whatever is missing.
	ctx, cancel := context.WithCancel(t.Context())
	var out storetest.Log
	ended := make(chan int)
	go func() {
		ended <- run(ctx, []string{"cluster", "status", "--watch", "--interval", "100ms", "--database-dsn", "root@tcp(" + refusing + ")/lab"}, &out, &out)
	}()
	require.Eventually(t, func() bool { return out.Count("MISSING  database: ") > 2 }, patience, 10*time.Millisecond)
	cancel()
	require.Zero(t, <-ended)
}

// TestStatusOfALeaderThatDoesNotAnswer: etcd says for as long as its lease lasts that it leads, and the
// exit code that it does not answer.
func TestStatusOfALeaderThatDoesNotAnswer(t *testing.T) {
	in := newInstallation(t, failoverLab, 1, func(_ *testing.T, in *installation) { in.args = []string{"--etcd-ttl", "1m"} })
	leader, _ := in.leaderIn(t, anyPhase()...)
	in.clusterStatus(t, exitOK, func(t require.TestingT, _ string, st ops.ClusterStatus) {
		require.Equal(t, leader.name, st.Shards[0].Leader)
	})
	leader.kill(t)
	in.clusterStatus(t, exitFailed, func(t require.TestingT, table string, st ops.ClusterStatus) {
		require.Contains(t, table, "the leader does not answer: ")
		require.Empty(t, st.Missing)
		require.Equal(t, leader.name, st.Shards[0].Leader)
		require.NotEmpty(t, st.Servers[0].Error)
	})
}

// TestStatusSaysWhyNobodyLeads: from the cluster's name to the takeover.
func TestStatusSaysWhyNobodyLeads(t *testing.T) {
	in := newInstallation(t, failoverLab, 2)
	in.leaderIn(t, anyPhase()...)
	depose := func() {
		_, err := in.etcd.Delete(t.Context(), election.LeaderPrefix(testCluster, shard.Master), clientv3.WithPrefix())
		require.NoError(t, err)
	}
	exec := func(text string) {
		_, err := in.db.SQL().Exec(text)
		require.NoError(t, err)
	}
	says := func(text string, args ...string) {
		t.Helper()
		in.clusterStatus(t, exitFailed, func(t require.TestingT, table string, st ops.ClusterStatus) {
			require.Contains(t, table, text)
			require.Len(t, st.Shards, 1)
			require.NotEmpty(t, st.Shards[0].WhyNobody, table)
		}, args...)
	}
	in.clusterStatus(t, exitOK, func(t require.TestingT, table string, st ops.ClusterStatus) {
		require.Len(t, st.Shards, 1)
		require.Empty(t, st.Shards[0].WhyNobody, table)
	})
	says(`etcd has no cluster "typo"; it has "failover"`, "--cluster", "typo")

	exec("UPDATE hostsched_fence SET etcd_cluster = 'other', epoch = epoch + 1")
	depose()
	says("replica-1, replica-2: take over shard master")
	says("fence belongs to another etcd cluster: shard master was led under etcd cluster other")
	exec("UPDATE hostsched_fence SET etcd_cluster = '', token = 0, epoch = epoch + 1")
	in.leaderIn(t, anyPhase()...)

	exec("INSERT INTO servers (hostname, status) VALUES ('shced-1', 'primary')")
	says("no server may lead")
	exec("DELETE FROM servers")
	in.leaderIn(t, anyPhase()...)

	for _, s := range in.replicas {
		s.stop(t)
	}
	says("no replica is running")
	says("last led by")
}

// TestSwitchoverThatDoesNotHappen withdraws its request and records that.
func TestSwitchoverThatDoesNotHappen(t *testing.T) {
	in := newInstallation(t, failoverLab, 2)
	leader, _ := in.leaderIn(t, anyPhase()...)
	in.followersReady(t)
	other := in.replicas[0]
	if other == leader {
		other = in.replicas[1]
	}
	refusing, silent := nobody(t)
	for _, address := range []string{refusing, silent} {
		began := time.Now()
		in.command(t, 1, "shard", "switchover", "master", "--to", other.name, "--etcd-endpoints", "http://"+address, "--yes")
		require.Less(t, time.Since(began), 5*time.Second)
	}
	require.NotContains(t, in.command(t, 0, "audit"), "switchover")

	other.signal(t, syscall.SIGSTOP)
	in.command(t, 1, "shard", "switchover", "master", "--to", other.name, "--reason", "kernel update", "--timeout", "1s", "--yes")
	other.signal(t, syscall.SIGCONT)
	audit := in.command(t, 0, "audit")
	require.Contains(t, audit, "to "+other.name+" kernel update")
	require.Contains(t, audit, "the request for "+other.name+" was given up and withdrawn")
	view, err := election.Look(t.Context(), in.etcd, testCluster)
	require.NoError(t, err)
	require.Empty(t, view.Shards[shard.Master].Wanted)
	require.Empty(t, view.Shards[shard.Master].WantedWhy)

	in.followersReady(t)
	in.command(t, 0, "shard", "switchover", "master", "--to", other.name, "--reason", "kernel update", "--yes")
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		require.Contains(t, prints(t, exitOK, "cluster", "history"), "handed over to "+other.name+": switchover requested: kernel update (")
	}, patience, 20*time.Millisecond)
}
