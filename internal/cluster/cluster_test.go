package cluster_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/election"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
)

// TestLostServer: shards are spread over the servers. When one is killed, the
// others take over its shards, and no other shard moves. When it is back, it leads
// its part again.
func TestLostServer(t *testing.T) {
	storetest.OnEachDatabase(t, func(t *testing.T, dsn string) {
		l := newLab(t, dsn, 4)
		for i := range 3 {
			l.start(fmt.Sprintf("server-%d", i+1))
		}
		defer l.simulate()()
		before := l.spread(5, shard.Bound(5, 1, 3))
		l.progress(20)

		lost := l.busiest()
		shards := l.leads(lost)
		lost.kill()
		after := l.spread(5, shard.Bound(5, 1, 2))
		l.requireMoved(before, after, shards)
		l.progress(20)

		back := l.start(lost.name)
		l.until("the server leads again", func() bool { return len(l.leads(back)) >= shard.Floor(5, 3, 1, 3) })
		l.spread(5, shard.Bound(5, 1, 3))
		l.progress(20)
	})
}

// TestFrozenServer: a server that is paused, so that it does not notice that its
// leases ran out, is fenced by the database and leads again after it wakes up.
func TestFrozenServer(t *testing.T) {
	l := newLab(t, storetest.SQLiteFile(t), 2)
	for i := range 2 {
		l.start(fmt.Sprintf("server-%d", i+1))
	}
	defer l.simulate()()
	l.spread(3, shard.Bound(3, 1, 2))
	frozen := l.busiest()
	shards := l.leads(frozen)
	frozen.replica.Freeze()
	frozen.replica.Expire()
	l.until("the other server leads everything", func() bool { return len(l.leaders()) == 3 && len(l.leads(frozen)) == 0 })
	for _, name := range shards {
		l.until("the paused leader is fenced", func() bool { return frozen.status(name).FencedWrites > 0 })
	}
	l.progress(20)
	frozen.replica.Thaw()
	l.until("it leads again", func() bool { return len(l.leads(frozen)) > 0 })
	l.spread(3, shard.Bound(3, 1, 2))
}

// TestRoles: only servers with the role lead, primaries before backups. A server
// that loses the role hands over within half a second; when it has the role again,
// it leads again, once and after the hold-off.
func TestRoles(t *testing.T) {
	l := newLab(t, storetest.SQLiteFile(t), 1)
	l.addServer("first", "primary")
	l.addServer("second", "backup")
	l.addServer("third", "repair_required")
	first, second, third := l.start("first"), l.start("second"), l.start("third")
	best := soon
	const rounds = 3
	for range rounds {
		l.ledBy(first, shard.Master, shardName(0))
		began := time.Now()
		l.takeRole("first")
		l.ledBy(second, shard.Master, shardName(0))
		best = min(best, time.Since(began))
		role, why := first.controller.Role()
		require.Equal(t, election.RoleNone, role)
		require.Contains(t, why, "does not have the role")
		l.giveRole("first")
	}
	require.Less(t, best, handOver)
	l.ledBy(first, shard.Master, shardName(0))
	require.EqualValues(t, rounds+1, first.status(shard.Master).Terms, "no term in between")
	require.Zero(t, third.status(shard.Master).Terms)
	role, why := third.controller.Role()
	require.Equal(t, election.RoleNone, role)
	require.Contains(t, why, "repair_required")
}

// TestSwitchover: a shard goes to the server that was asked for and stays there
// until the request is withdrawn; then placement decides again.
func TestSwitchover(t *testing.T) {
	l := newLab(t, storetest.SQLiteFile(t), 1)
	a, b := l.start("a"), l.start("b")
	l.spread(2, 1)
	for _, name := range []shard.Name{shard.Master, shardName(0)} {
		require.NoError(t, l.election.Want(name, "a"))
	}
	l.ledBy(a, shard.Master, shardName(0))
	for _, name := range []shard.Name{shard.Master, shardName(0)} {
		require.NoError(t, l.election.Want(name, "b"))
	}
	l.ledBy(b, shard.Master, shardName(0))
	require.NoError(t, l.election.Want(shardName(0), election.AnyServer))
	l.ledBy(a, shardName(0))
	l.ledBy(b, shard.Master)
}

// TestShardsComeAndGo: the replicas follow what the list of shards says.
func TestShardsComeAndGo(t *testing.T) {
	l := newLab(t, storetest.SQLiteFile(t), 1)
	l.start("a")
	l.start("b")
	names := func(want ...shard.Name) {
		t.Helper()
		l.until(fmt.Sprintf("%v are led", want), func() bool {
			leaders := l.leaders()
			for _, name := range want {
				if leaders[name] == nil {
					return false
				}
			}
			return len(leaders) == len(want)
		})
		for _, s := range l.servers {
			l.until("every server knows them", func() bool { return len(s.controller.Status()) == len(want) })
		}
	}
	names(shard.Master, "shard-1")
	l.exec("INSERT INTO afe_shards (hostname) VALUES ('new')")
	names(shard.Master, "new", "shard-1")
	l.exec("UPDATE afe_shards SET hostname = 'renamed' WHERE hostname = 'new'")
	names(shard.Master, "renamed", "shard-1")

	own := storetest.SQLiteFile(t)
	db, _ := openLab(t, own)
	l.exec("INSERT INTO hostsched_shard_databases (shard_id, dsn) SELECT id, ? FROM afe_shards WHERE hostname = 'renamed'", own)
	l.until("the shard is led in its own database", func() bool {
		f, ok, err := db.ReadFence(t.Context(), "renamed")
		require.NoError(t, err)
		return ok && f.Epoch > 0 && l.leaders()["renamed"] != nil
	})
	l.exec("UPDATE hostsched_shard_databases SET dsn = ?", own+".missing")
	for _, s := range l.servers {
		l.until("a database that cannot be opened is reported", func() bool { return s.status("renamed").LastError != "" })
	}
	l.exec("DELETE FROM hostsched_shard_databases")
	l.exec("DELETE FROM afe_shards WHERE hostname = 'renamed'")
	names(shard.Master, "shard-1")
}

// TestUnusableName: a shard whose name cannot be a key in etcd is reported, once,
// and the others are served.
func TestUnusableName(t *testing.T) {
	l := newLab(t, storetest.SQLiteFile(t), 0)
	l.exec("INSERT INTO afe_shards (hostname) VALUES ('west/1')")
	a := l.start("a")
	l.ledBy(a, shard.Master)
	l.until("the shard is reported", func() bool { return len(a.controller.NotServed()) == 1 })
	require.Contains(t, a.controller.NotServed()["west/1"], "slashes")
	l.exec("INSERT INTO afe_shards (hostname) VALUES ('east 1')")
	l.until("another one is reported", func() bool { return len(a.controller.NotServed()) == 2 })
	require.Equal(t, 2, l.log.Count("this shard is not served"))
	l.exec("UPDATE afe_shards SET hostname = 'west-1' WHERE hostname = 'west/1'")
	l.ledBy(a, shard.Master, "west-1")
	require.Len(t, a.controller.NotServed(), 1)
}

// TestFailingTakeOver: a shard goes to another server if the one that should lead
// it cannot take it over; the other servers see why.
func TestFailingTakeOver(t *testing.T) {
	l := newLab(t, storetest.SQLiteFile(t), 1)
	a := l.start("a")
	l.ledBy(a, shard.Master, shardName(0))
	b := l.start("b")
	l.member("b")
	require.NoError(t, l.election.Want(shardName(0), "b"))
	require.NoError(t, l.election.Want(shard.Master, "b"))
	l.ledBy(b, shard.Master, shardName(0))
	l.exec("CREATE TRIGGER broken BEFORE UPDATE OF holder ON hostsched_fence WHEN NEW.shard = 'shard-1' AND NEW.holder LIKE 'a/%' BEGIN SELECT RAISE(ABORT, 'the disk is full'); END")
	require.NoError(t, l.election.Want(shardName(0), "a"))
	l.until("a says that it avoids the shard", func() bool {
		for _, m := range l.election.View().Servers {
			if m.Server == "a" && m.Avoids[shardName(0)] != "" {
				require.Contains(t, m.Avoids[shardName(0)], "the disk is full")
				return true
			}
		}
		return false
	})
	l.ledBy(b, shard.Master, shardName(0))
	l.until("once b leads, nothing is wrong with a that could be seen", func() bool {
		st := a.status(shardName(0))
		return st.NotLeading != nil && st.NotLeading.Reason == replica.AnotherLeads && st.LastError == ""
	})
}

// TestServerThatNeverCampaigns: placement wants a shard at a member that does not
// campaign for it, for whatever reason. Another server leads it after a while.
func TestServerThatNeverCampaigns(t *testing.T) {
	l := newLab(t, storetest.SQLiteFile(t), 3)
	idle := l.election.Replica("idle").Join(election.Presence{Role: election.RolePrimary, Weight: 9}, func(election.View) {})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { idle.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	l.member("idle")
	a := l.start("a")
	l.ledBy(a, shard.Master, shardName(0), shardName(1), shardName(2))
}

// TestTwoReplicasOfOneServer: a second process of the same name leads nothing and says
// why, whatever the first one does, and takes over when the first one is gone.
func TestTwoReplicasOfOneServer(t *testing.T) {
	l := newLab(t, storetest.SQLiteFile(t), 1)
	first := l.start("a")
	l.ledBy(first, shard.Master, shardName(0))
	second := l.start("a")
	l.until("the second one says why it does not lead", func() bool {
		n := second.status(shard.Master).NotLeading
		return n != nil && n.Reason == replica.Misconfigured && strings.Contains(n.Text, "server a runs at")
	})
	require.Contains(t, l.log.String(), "the other replicas do not see this one as it is")
	testserver.Throughout(t, func() bool { return second.status(shard.Master).State != replica.StateLeader }, time.Second, 10*time.Millisecond)
	require.Equal(t, replica.StateLeader, first.status(shard.Master).State)
	first.stop()
	l.ledBy(second, shard.Master, shardName(0))
}

// TestSlowLastApply: while the last apply of a removed shard takes long, other
// shards are still handed over at once, and the server does not end before that
// apply has.
func TestSlowLastApply(t *testing.T) {
	l := newLab(t, storetest.SQLiteFile(t), 0)
	own := storetest.SQLiteFile(t)
	db, _ := openLab(t, own)
	_, err := db.SQL().Exec("UPDATE afe_hosts SET locked = 1")
	require.NoError(t, err)
	l.addServer("a", "primary")
	l.addServer("b", "backup")
	l.exec("INSERT INTO afe_shards (hostname) VALUES ('own')")
	l.exec("INSERT INTO hostsched_shard_databases (shard_id, dsn) SELECT id, ? FROM afe_shards", own)
	a, b := l.start("a"), l.start("b")
	l.ledBy(a, shard.Master, "own")
	l.member("b")
	unlock := l.stuckApply(db, a)
	l.exec("DELETE FROM hostsched_shard_databases")
	l.exec("DELETE FROM afe_shards")
	l.until("the shard is removed", func() bool { return len(a.controller.Status()) == 1 })

	began := time.Now()
	l.takeRole("a")
	l.ledBy(b, shard.Master)
	require.Less(t, time.Since(began), txTimeout/2, "the hand-over does not wait for the removed shard")
	unlock()
	a.stop()
	terms, err := db.Terms(t.Context(), "own", 1)
	require.NoError(t, err)
	require.Len(t, terms, 1)
	require.False(t, terms[0].Ended.IsZero(), "the term of the removed shard was ended in order")
}

// stuckApply gives the leader of the shard own something to do and locks the
// database before it can be written. It returns when the leader waits for the lock.
func (l *lab) stuckApply(db *store.DB, leader *server) (unlock func()) {
	l.t.Helper()
	for host := 1; host <= 60; host++ {
		_, err := db.SQL().Exec("UPDATE afe_hosts SET locked = 0 WHERE id = ?", host)
		require.NoError(l.t, err)
		tx, err := db.SQL().BeginTx(l.t.Context(), nil)
		require.NoError(l.t, err)
		_, err = tx.Exec("UPDATE afe_users SET login = login")
		require.NoError(l.t, err)
		for began := time.Now(); time.Since(began) < txTimeout/4; time.Sleep(time.Millisecond) {
			if leader.status("own").Phase == replica.PhaseApply {
				return func() { require.NoError(l.t, tx.Rollback()) }
			}
		}
		require.NoError(l.t, tx.Rollback()) // the leader was faster, or the host fits no job
	}
	require.Fail(l.t, "the leader never had to wait for the lock")
	return nil
}

// TestLeaderLosesAShardsOwnDatabase: the shard goes to a server that still reaches that
// database.
func TestLeaderLosesAShardsOwnDatabase(t *testing.T) {
	own := testserver.Database(t)
	openLab(t, own)
	l := newLab(t, storetest.SQLiteFile(t), 0)
	links, through := map[string]*testserver.Link{}, map[string]string{}
	for _, name := range []string{"a", "b"} {
		links[name], through[name] = testserver.LinkDatabase(t, own)
	}
	l.route = func(server, _ string) string { return through[server] }
	l.exec("INSERT INTO afe_shards (hostname) VALUES ('west')")
	l.exec("INSERT INTO hostsched_shard_databases (shard_id, dsn) SELECT id, ? FROM afe_shards", own)
	l.start("a")
	l.start("b")
	for _, failedBefore := range []bool{false, true} {
		l.spread(2, 1)
		if failedBefore {
			l.allFail(own, "west")
		}
		blind := l.leaders()["west"]
		links[blind.name].Cut(t)
		began := time.Now()
		l.until("the other server leads west, too", func() bool { return l.leaders()["west"] != nil && l.leaders()["west"] != blind })
		require.Less(t, time.Since(began), 5*time.Second)
		links[blind.name].Heal(t)
	}
}

// allFail lets every server fail to lead a shard of a database, until one leads it again
// and the others still avoid it.
func (l *lab) allFail(dsn string, name shard.Name) {
	l.t.Helper()
	db := open(l.t, dsn)
	defer func() { require.NoError(l.t, db.Close()) }()
	rename(l.t, db, "afe_users", "afe_users_away")
	l.until("all servers avoid the shard", func() bool {
		for _, m := range l.election.View().Servers {
			if m.Avoids[name] == "" {
				return false
			}
		}
		return true
	})
	rename(l.t, db, "afe_users_away", "afe_users")
	l.until("the shard is led again", func() bool { return l.leaders()[name] != nil && l.leaders()[name].status(name).LastError == "" })
}
