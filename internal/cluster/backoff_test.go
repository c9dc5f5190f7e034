package cluster_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/shard"
)

// TestTakeOversThatKeepFailing makes every takeover, or every tick, of three replicas
// fail for a while, and counts what they write meanwhile. They lead again soon
// after the reason is gone.
func TestTakeOversThatKeepFailing(t *testing.T) {
	const (
		lasts   = 3 * time.Second
		shards  = 2
		recover = 3 * time.Second // on a busy machine; 1.5 s on one that is not
	)
	l := newLab(t, testserver.Database(t), shards-1)
	etcd := testserver.Etcd(t)
	client, err := election.NewClient(clientv3.Config{Endpoints: []string{etcd.Endpoint}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	dsn := testserver.User(t, l.dsn, "bystander", "secret", "SELECT, INSERT, UPDATE, DELETE")
	for _, name := range []string{"a", "b", "c"} {
		e, err := election.NewEtcd(election.EtcdConfig{Etcd: election.At(clientv3.Config{Endpoints: []string{etcd.Endpoint}}), Cluster: "lab", Server: name, TTL: 2 * time.Second})
		require.NoError(t, err)
		l.startOn(name, e, dsn)
	}
	led := func() bool {
		n := 0
		for _, s := range l.servers {
			for _, st := range s.controller.Status() {
				if st.State == replica.StateLeader && time.Since(st.LastTick) < time.Second && st.LastTick.After(st.Since) {
					n++
				}
			}
		}
		return n == shards
	}
	revision := func() int64 {
		res, err := client.Get(t.Context(), "/")
		require.NoError(t, err)
		return res.Header.Revision
	}
	terms := func() (n int) {
		require.NoError(t, l.db.SQL().QueryRow("SELECT COUNT(*) FROM hostsched_terms").Scan(&n))
		return n
	}
	admin := func(text string) func() {
		return func() {
			_, err := testserver.Shared(t).Admin().Exec(text)
			require.NoError(t, err, text)
		}
	}
	for _, fault := range []struct {
		name          string
		begin, end    func()
		terms, writes float64 // allowed for each shard and second
	}{
		{name: "the server is read-only", begin: admin("SET GLOBAL read_only = 1"), end: admin("SET GLOBAL read_only = 0"), writes: 1},
		{name: "the fence belongs to another etcd", begin: func() { l.exec("UPDATE hostsched_fence SET etcd_cluster = 'other', epoch = epoch + 1") },
			end: func() { l.exec("UPDATE hostsched_fence SET etcd_cluster = '', token = 0, epoch = epoch + 1") }, writes: 1},
		{name: "ticks fail", begin: func() { rename(t, l.db, "afe_users", "afe_users_away") },
			end: func() { rename(t, l.db, "afe_users_away", "afe_users") }, terms: 1, writes: 6},
	} {
		l.until("all shards are led before "+fault.name, led)
		lines, termsBefore, revisionBefore := l.log.Count("\n"), terms(), revision()
		fault.begin()
		// A leader with nothing to write notices little, so the terms are ended.
		for _, name := range []shard.Name{shard.Master, shardName(0)} {
			_, err := client.Delete(t.Context(), election.LeaderPrefix("lab", name), clientv3.WithPrefix())
			require.NoError(t, err)
		}
		time.Sleep(lasts)
		count := lasts.Seconds() * shards
		// The first attempts, and telling the others about them, come on top.
		const first = 20
		require.LessOrEqual(t, float64(terms()-termsBefore), first/2+fault.terms*count, "terms while %s", fault.name)
		require.LessOrEqual(t, float64(revision()-revisionBefore), first*shards+fault.writes*count, "writes to etcd while %s", fault.name)
		require.LessOrEqual(t, l.log.Count("\n")-lines, 60, "lines in the log while %s", fault.name)
		fault.end()
		began := time.Now()
		l.until("all shards are led after "+fault.name, led)
		t.Logf("%s: %d terms, %d revisions, %d lines, led again after %v", fault.name, terms()-termsBefore, revision()-revisionBefore, l.log.Count("\n")-lines, time.Since(began))
		require.Less(t, time.Since(began), recover, fault.name)
	}
}
