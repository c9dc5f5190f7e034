package cluster_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/shard"
)

// TestWhoDoesNotLeadSaysWhy: every replica that does not lead says why, from the role
// to the database, and stops saying so as soon as it is no longer true.
func TestWhoDoesNotLeadSaysWhy(t *testing.T) {
	l := newLab(t, storetest.SQLiteFile(t), 0)
	a := l.start("a")
	l.ledBy(a, shard.Master)
	b := l.start("b")
	says := func(s *server, reason replica.Reason, text string) {
		t.Helper()
		l.until(s.name+" says "+string(reason), func() bool {
			why := s.status(shard.Master).NotLeading
			return why != nil && why.Reason == reason
		})
		st := s.status(shard.Master)
		require.Contains(t, st.NotLeading.Text, text)
		require.Equal(t, reason, s.controller.NotLeading()[shard.Master].Reason)
		require.Equal(t, st.NotLeading.Healthy(), st.LastError == "")
	}
	says(b, replica.AnotherLeads, "server a leads")

	l.addServer("shced-1", "primary") // a mistake that stops the lab
	says(a, replica.NoServerMayLead, "server a is not in the servers table; server b is not in the servers table")
	says(b, replica.NoServerMayLead, "none of the 2 running servers may lead")
	l.until("the log says so", func() bool { return l.log.Count("no server may lead any shard") == 2 })

	l.addServer("a", "primary")
	l.ledBy(a, shard.Master)
	require.Nil(t, a.status(shard.Master).NotLeading)
	says(b, replica.NoRole, "server b is not in the servers table")

	l.addServer("b", "backup")
	says(b, replica.AnotherLeads, "server a leads")

	l.exec("ALTER TABLE afe_shards RENAME TO afe_shards_away")
	says(b, replica.DatabaseAway, "afe_shards")
	l.exec("ALTER TABLE afe_shards_away RENAME TO afe_shards")
	says(b, replica.AnotherLeads, "server a leads")
}

// TestHangingSnapshot: a leader whose snapshot waits for somebody's lock says so after a
// few seconds, once, and only for as long as that lasts. If its term is over meanwhile, it
// campaigns at once, and says that its takeover hangs.
func TestHangingSnapshot(t *testing.T) {
	l := newLab(t, testserver.Database(t), 0)
	a := l.start("a")
	l.ledBy(a, shard.Master)
	l.until("all is given out", func() bool { return a.status(shard.Master).Ticks > 20 })
	other, err := l.db.SQL().Conn(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, other.Close()) }()
	_, err = other.ExecContext(t.Context(), "LOCK TABLES afe_host_queue_entries WRITE")
	require.NoError(t, err)
	slow := func() string { return a.status(shard.Master).Slow(time.Now()) }
	l.until("the log says so", func() bool { return l.log.Count("the work of a leader hangs") == 1 })
	require.Contains(t, slow(), "the snapshot of shard master has been running since")
	require.Nil(t, a.status(shard.Master).NotLeading)
	l.election.Revoke(shard.Master)
	l.until("the next takeover", func() bool { return a.status(shard.Master).Phase == replica.PhaseTakeOver })
	l.until("the takeover hangs", func() bool {
		why := a.controller.NotLeading()[shard.Master]
		return why.Reason == replica.TickHangs && strings.Contains(why.Text, "the takeover of shard master has been running since") && l.log.Count("it waits for the database") > 0
	})
	require.Contains(t, a.status(shard.Master).NotLeading.Text, "shard master")
	_, err = other.ExecContext(t.Context(), "UNLOCK TABLES")
	require.NoError(t, err)
	ticks := a.status(shard.Master).Ticks
	l.until("ticking on", func() bool { return slow() == "" && a.status(shard.Master).Ticks > ticks })
	l.ledBy(a, shard.Master)
}

// TestCampaignThatEtcdRefuses: a replica that should lead, and whose key etcd does not take
// because its quota is used up, says so and is not as it should be. It leads as soon as there is
// room.
func TestCampaignThatEtcdRefuses(t *testing.T) {
	etcd := testserver.EtcdWith(t, "http", func(cfg *embed.Config) { cfg.QuotaBackendBytes = 8 << 20 })
	at := clientv3.Config{Endpoints: []string{etcd.Endpoint}}
	client, err := election.NewClient(at)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	l := newLab(t, storetest.SQLiteFile(t), 0)
	start := func(name, holder string) *server {
		e, err := election.NewEtcd(election.EtcdConfig{Etcd: election.At(at), Cluster: "lab", Server: name, Holder: holder, TTL: 2 * time.Second})
		require.NoError(t, err)
		return l.startOn(name, e, l.dsn)
	}
	leads := func(s *server) func() bool {
		return func() bool { return s.status(shard.Master).State == replica.StateLeader }
	}
	b := start("b", "b/0")
	l.until("b leads", leads(b))
	a := start("a", "a/1")
	says := func(reason replica.Reason) func() bool {
		return func() bool {
			why := a.status(shard.Master).NotLeading
			return why != nil && why.Reason == reason
		}
	}
	l.until("a stands by", says(replica.AnotherLeads))

	free := testserver.FillEtcd(t, client)
	b.stop()
	l.until("the campaign is refused", says(replica.WaitingForEtcd))
	st := a.status(shard.Master)
	require.Contains(t, st.NotLeading.Text, "campaign for shard master")
	require.Contains(t, st.NotLeading.Text, "space exceeded")
	require.False(t, st.NotLeading.Healthy())
	require.NotEmpty(t, st.LastError)

	free()
	l.until("a leads", leads(a))
	require.Nil(t, a.status(shard.Master).NotLeading)
}

// TestStoppingSaysSo: a replica whose last apply outlasts its process's end says that it shuts
// down, and not that it starts.
func TestStoppingSaysSo(t *testing.T) {
	l := newLab(t, testserver.Database(t), 0)
	a := l.start("a")
	l.ledBy(a, shard.Master)
	other, err := l.db.SQL().Conn(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, other.Close()) }()
	_, err = other.ExecContext(t.Context(), "LOCK TABLES hostsched_terms WRITE")
	require.NoError(t, err)
	var stopping sync.WaitGroup
	stopping.Go(a.stop)
	l.until("a says that it stops", func() bool {
		why := a.status(shard.Master).NotLeading
		return why != nil && why.Reason == replica.Stopping
	})
	st := a.status(shard.Master)
	require.Equal(t, replica.StateCandidate, st.State)
	require.Equal(t, "this replica is shutting down", st.LastError)
	_, err = other.ExecContext(t.Context(), "UNLOCK TABLES")
	require.NoError(t, err)
	stopping.Wait()
}
