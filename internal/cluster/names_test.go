package cluster_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/shard"
)

// TestNamesThatTheDatabaseTakesForOne: of shards whose names are the same to the
// database the first is led, in one term, and the others are reported.
func TestNamesThatTheDatabaseTakesForOne(t *testing.T) {
	storetest.OnEachDatabase(t, func(t *testing.T, dsn string) {
		l := newLab(t, dsn, 1)
		names := []string{"SHARD-1", "Master", "lab-x", "lab-x", "Lab-X"}
		for _, name := range names {
			l.exec("INSERT INTO afe_shards (hostname) VALUES (?)", name)
		}
		a, b := l.start("a"), l.start("b")
		led := []shard.Name{"lab-x", shard.Master, shardName(0)}
		leaders := l.spread(len(led), 2)
		require.Len(t, leaders, len(led))
		stop := l.simulate()
		l.progress(60)
		time.Sleep(time.Second) // the terms are what is watched
		stop()
		for _, name := range led {
			require.Contains(t, l.leaders(), name)
			require.Zero(t, a.status(name).FencedWrites+b.status(name).FencedWrites, name)
			terms := storetest.Count(t, l.db, "SELECT COUNT(*) FROM hostsched_terms WHERE shard = ?", name.String())
			require.LessOrEqual(t, terms, 2, "%s: one term, and one more if placement moved it at the beginning", name)
		}
		for _, s := range l.servers {
			require.Len(t, s.controller.NotServed(), 4)
			require.Contains(t, s.controller.NotServed()["SHARD-1"], "shard-1, which is row 1")
			require.Contains(t, s.controller.NotServed()["Master"], "master")
			require.Contains(t, s.controller.NotServed()["lab-x"], "row 5 of afe_shards")
		}
		require.Equal(t, 2*(len(names)-1), l.log.Count("this shard is not served"))

		l.exec("DELETE FROM afe_shards WHERE hostname = 'lab-x' AND id = 4")
		l.until("the next row of the name is served", func() bool {
			return l.leaders()["lab-x"] != nil && len(a.controller.NotServed()) == 3
		})
	})
}

// TestNamesInAnotherEncoding: a name that is not UTF-8 is reported, and the rest served.
func TestNamesInAnotherEncoding(t *testing.T) {
	l := newLab(t, storetest.SQLiteFile(t), 1)
	l.exec("INSERT INTO afe_shards (hostname) VALUES (CAST(X'6CE462' AS TEXT)), ('')")
	a := l.start("a")
	l.ledBy(a, shard.Master, shardName(0))
	require.Contains(t, a.controller.NotServed()["l\xe4b"], "UTF-8")
	require.Contains(t, a.controller.NotServed()[""], "empty")
	require.Equal(t, 2, a.controller.Unserved())
	require.Equal(t, 1, l.log.Count(`shard=l\xe4b `), "the log has it on one line")
}
