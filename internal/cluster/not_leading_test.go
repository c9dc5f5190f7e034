package cluster_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

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
// few seconds, once, and only for as long as that lasts, even if its term is over meanwhile.
func TestHangingSnapshot(t *testing.T) {
	l := newLab(t, testserver.Database(t), 0)
	a := l.start("a")
	l.ledBy(a, shard.Master)
	other, err := l.db.SQL().Conn(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, other.Close()) }()
	_, err = other.ExecContext(t.Context(), "LOCK TABLES afe_hosts WRITE")
	require.NoError(t, err)
	slow := func() string { return a.status(shard.Master).Slow(time.Now()) }
	l.until("the log says so", func() bool { return l.log.Count("the work of a leader hangs") == 1 })
	require.Contains(t, slow(), "the snapshot of shard master has been running since")
	require.Nil(t, a.status(shard.Master).NotLeading)
	l.election.Revoke(shard.Master)
	l.until("the tick outlasts its term", func() bool {
		why := a.controller.NotLeading()[shard.Master]
		return why.Reason == replica.TickHangs && l.log.Count("it waits for the database") == 1
	})
	require.Contains(t, a.status(shard.Master).NotLeading.Text, "shard master")
	_, err = other.ExecContext(t.Context(), "UNLOCK TABLES")
	require.NoError(t, err)
	ticks := a.status(shard.Master).Ticks
	l.until("ticking on", func() bool { return slow() == "" && a.status(shard.Master).Ticks > ticks })
	require.Equal(t, 1, l.log.Count("the work of a leader hangs"))
	l.ledBy(a, shard.Master)
}
