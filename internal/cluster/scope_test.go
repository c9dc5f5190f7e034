package cluster_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/cluster"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/shard"
)

// refuses waits until a server says that its configuration does not fit, and requires that
// it leads nothing.
func (l *lab) refuses(s *server, name shard.Name, text string) {
	l.t.Helper()
	l.until(s.name+" refuses", func() bool {
		why := s.status(name).NotLeading
		return why != nil && why.Reason == replica.Misconfigured
	})
	require.Contains(l.t, s.status(name).NotLeading.Text, text)
	role, why := s.controller.Role()
	require.Equal(l.t, "none", role)
	require.Contains(l.t, why, text)
	require.Empty(l.t, l.leads(s))
	require.Equal(l.t, 1, l.log.Count("this replica does not lead any shard"), "the log says so once")
}

// TestOneScopePerDatabase: beside leaders that share a database no replica leads that has the
// whole of it for one shard, nor the other way round, whoever came first; and it does as
// soon as the others are gone.
func TestOneScopePerDatabase(t *testing.T) {
	for name, first := range map[string]func(*lab) (a, b *server){
		"shared first": func(l *lab) (a, b *server) {
			a = l.start("a")
			l.ledBy(a, shard.Master, shardName(0))
			return a, l.startOnly("b", shardName(0))
		},
		"whole first": func(l *lab) (a, b *server) {
			a = l.startOnly("a", shardName(0))
			l.ledBy(a, shardName(0))
			return a, l.start("b")
		},
		"the master's, shared first": func(l *lab) (a, b *server) {
			a = l.start("a")
			l.ledBy(a, shard.Master, shardName(0))
			return a, l.startOnly("b", shard.Master)
		},
		"two wholes": func(l *lab) (a, b *server) {
			a = l.startOnly("a", shard.Master)
			l.ledBy(a, shard.Master)
			return a, l.startOnly("b", shardName(0))
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, storetest.SQLiteFile(t), 1)
			a, b := first(l)
			led := l.leads(a)
			l.refuses(b, b.controller.Status()[0].Shard, "server a leads shard ")
			require.Equal(t, led, l.leads(a), "who led before leads on")
			a.stop()
			l.until("b leads", func() bool { return len(l.leads(b)) > 0 })
		})
	}
}

// TestTwoScopesAtOnce: of two replicas that begin at the same time one leads in the end.
func TestTwoScopesAtOnce(t *testing.T) {
	l := newLab(t, storetest.SQLiteFile(t), 1)
	a, b := l.start("a"), l.startOnly("b", shardName(0))
	l.until("one of them refuses", func() bool {
		return (a.status(shard.Master).NotLeading != nil && a.status(shard.Master).NotLeading.Reason == replica.Misconfigured && len(l.leads(b)) == 1) ||
			(b.status(shardName(0)).NotLeading != nil && b.status(shardName(0)).NotLeading.Reason == replica.Misconfigured && len(l.leads(a)) == 2)
	})
}

// TestWholeDatabasesInOneCluster: each shard has a database of its own, as Autotest has it.
// They are led side by side, and no server waits for one that cannot serve its shard.
func TestWholeDatabasesInOneCluster(t *testing.T) {
	l := newLab(t, storetest.SQLiteFile(t), 1)
	west := newLab(t, storetest.SQLiteFile(t), 1)
	a := l.startOnly("a", shard.Master)
	b := l.startOn("b", l.election.Replica("b"), west.dsn, func(c *cluster.Config) { c.Only, c.Replica.Scope.Shard = shardName(0), shardName(0) })
	l.ledBy(a, shard.Master)
	l.ledBy(b, shardName(0))
}

// TestRowOfTheConfiguredShard: without it nobody leads, from the moment it is removed to that
// when it is back.
func TestRowOfTheConfiguredShard(t *testing.T) {
	l := newLab(t, storetest.SQLiteFile(t), 2)
	a := l.startOnly("a", shardName(0))
	l.ledBy(a, shardName(0))
	l.exec("UPDATE afe_shards SET hostname = 'renamed' WHERE hostname = ?", shardName(0).String())
	l.refuses(a, shardName(0), "shard-1, which the setting 'shard' names, is not in afe_shards")
	l.until("handed over", func() bool { return len(l.leads(a)) == 0 })
	require.Contains(t, a.status(shardName(0)).NotLeading.Text, "there are master, renamed, shard-2")
	l.exec("UPDATE afe_shards SET hostname = ? WHERE hostname = 'renamed'", shardName(0).String())
	l.ledBy(a, shardName(0))
}
