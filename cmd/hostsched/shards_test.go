package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

const holdOff = 1500 * time.Millisecond

// withShards divides a lab with so many boards per shard into the master and n
// shards, and has the database record every fenced write.
func withShards(n, boards int) before {
	return func(t *testing.T, in *installation) {
		in.args = append(in.args, "--placement-hold-off", holdOff.String())
		for i := range n {
			name := shardName(i)
			require.NoError(t, admin.New(in.db).AddShard(t.Context(), name, "", "test", ""))
			for b := range boards {
				_, err := admin.New(in.db).AssignLabel(t.Context(), fmt.Sprintf("board:b%02d", i*boards+b), name, "test", "")
				require.NoError(t, err)
			}
		}
		recordFence(t, in.db)
	}
}

func shardName(i int) shard.Name { return shard.Name(fmt.Sprintf("shard-%d", i+1)) }

// recordFence installs a trigger that notes every fenced write with its epoch.
func recordFence(t *testing.T, db *store.DB) {
	for _, text := range []string{
		"CREATE TABLE lab_fence (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, shard VARCHAR(190) NOT NULL, epoch BIGINT NOT NULL, KEY lab_fence_shard (shard, id))",
		"CREATE TRIGGER lab_fence_write AFTER UPDATE ON hostsched_fence FOR EACH ROW IF NEW.ticks <> OLD.ticks THEN INSERT INTO lab_fence (shard, epoch) VALUES (NEW.shard, NEW.epoch); END IF",
	} {
		_, err := db.SQL().Exec(text)
		require.NoError(t, err)
	}
}

// requireOrderedEpochs: of each shard, no epoch writes after a later one.
func (in *installation) requireOrderedEpochs(t *testing.T) {
	t.Helper()
	var writes, wrong int
	require.NoError(t, in.db.SQL().QueryRow("SELECT COUNT(*), COALESCE(SUM(CASE WHEN epoch < best THEN 1 ELSE 0 END), 0) FROM (SELECT epoch, MAX(epoch) OVER (PARTITION BY shard ORDER BY id) AS best FROM lab_fence) w").Scan(&writes, &wrong))
	require.Positive(t, writes)
	require.Zero(t, wrong, "epochs interleave")
	t.Logf("%d fenced writes, epochs in order in every shard", writes)
}

// all returns what a replica says about its shards.
func (s *server) all() map[shard.Name]replica.Status {
	page, ok := s.page()
	if !ok {
		return nil
	}
	out := map[shard.Name]replica.Status{}
	for _, r := range page.Shards {
		out[r.Shard] = r
	}
	return out
}

// claim is what a replica says of a shard that it leads.
type claim struct {
	*server
	replica.Status
}

// claims asks each replica once what it leads, and maps each shard to the claim with the
// latest epoch. One that has just woken up may believe that it still leads.
func (in *installation) claims() map[shard.Name]claim {
	out := map[shard.Name]claim{}
	for _, s := range in.replicas {
		for name, st := range s.all() {
			if st.State == replica.StateLeader && st.Epoch > out[name].Epoch {
				out[name] = claim{s, st}
			}
		}
	}
	return out
}

// leaders maps every shard that somebody claims to lead to its server. A shard is missing
// while its leader is too busy to answer.
func (in *installation) leaders() map[shard.Name]*server {
	out := map[shard.Name]*server{}
	for name, c := range in.claims() {
		out[name] = c.server
	}
	return out
}

// leaderOf waits until a server claims to lead a shard, and the fence says so, too.
func (in *installation) leaderOf(t *testing.T, name shard.Name) (leader claim) {
	t.Helper()
	require.Eventually(t, func() bool {
		leader = in.claims()[name]
		f, _, err := in.db.ReadFence(t.Context(), name)
		return err == nil && leader.server != nil && leader.Epoch == f.Epoch
	}, patience, 10*time.Millisecond, "somebody leads shard %s", name)
	return leader
}

// spread waits until n shards are led and no server leads more than most.
func (in *installation) spread(t *testing.T, n, most int) {
	t.Helper()
	require.Eventually(t, func() bool {
		load := map[*server]int{}
		leaders := in.leaders()
		for _, s := range leaders {
			load[s]++
		}
		for _, l := range load {
			if l > most {
				return false
			}
		}
		return len(leaders) == n
	}, patience, 20*time.Millisecond, "%d shards are led, at most %d by each server", n, most)
}

// balanced waits until there is nothing left to balance, and returns the leaders
// with their fences.
func (in *installation) balanced(t *testing.T) (leaders map[shard.Name]*server, fences map[shard.Name]store.Fence) {
	t.Helper()
	return in.ledByEach(t, in.replicas)
}

// ledByEach waits until each of these servers leads something, and no other one does. A
// server that has just lost a shard may say for a moment that it leads it, so what the
// servers say must agree with the fences.
func (in *installation) ledByEach(t *testing.T, servers []*server) (leaders map[shard.Name]*server, fences map[shard.Name]store.Fence) {
	t.Helper()
	require.Eventually(t, func() bool {
		claims := in.claims()
		leaders, fences = map[shard.Name]*server{}, in.epochs(t)
		for name, f := range fences {
			if claims[name].server == nil || claims[name].Epoch != f.Epoch {
				return false
			}
			leaders[name] = claims[name].server
		}
		return !slices.ContainsFunc(in.replicas, func(s *server) bool { return slices.Contains(servers, s) != (len(ledBy(leaders, s)) > 0) })
	}, patience, 20*time.Millisecond, "every server that can leads something, and the fences say so, too")
	return leaders, fences
}

// victim waits until everything is led in balance, and returns the server that leads
// most, what it leads, who leads the rest, and the fences.
func (in *installation) victim(t *testing.T) (victim *server, names []shard.Name, leaders map[shard.Name]*server, old map[shard.Name]store.Fence) {
	t.Helper()
	in.followersReady(t)
	in.spread(t, 4, shard.Bound(4, 1, 3))
	leaders, old = in.balanced(t)
	victim = in.busiest(leaders)
	return victim, ledBy(leaders, victim), leaders, old
}

// busiest returns the replica that leads most.
func (in *installation) busiest(leaders map[shard.Name]*server) *server {
	return slices.MaxFunc(in.replicas, func(a, b *server) int { return len(ledBy(leaders, a)) - len(ledBy(leaders, b)) })
}

// epochs reads the fences of all shards.
func (in *installation) epochs(t *testing.T) map[shard.Name]store.Fence {
	t.Helper()
	out := map[shard.Name]store.Fence{}
	shards, err := admin.New(in.db).Shards(t.Context())
	require.NoError(t, err)
	for _, s := range shards {
		f, _, err := in.db.ReadFence(t.Context(), s.Name)
		require.NoError(t, err)
		out[s.Name] = f
	}
	return out
}

// terms tells the history of a shard, the latest term first.
func (in *installation) terms(t *testing.T, name shard.Name) string {
	t.Helper()
	terms, err := in.db.Terms(t.Context(), name, 4)
	require.NoError(t, err)
	return fmt.Sprintf("%+v", terms)
}

// allTakenOver waits until each of the shards has written under a later epoch
// and returns how long the slowest took.
func (in *installation) allTakenOver(t *testing.T, names []shard.Name, old map[shard.Name]store.Fence, from time.Time) time.Duration {
	t.Helper()
	open := map[shard.Name]bool{}
	for _, name := range names {
		open[name] = true
	}
	var took time.Duration
	require.Eventually(t, func() bool {
		for name := range open {
			f, _, err := in.db.ReadFence(t.Context(), name)
			require.NoError(t, err)
			if f.Epoch > old[name].Epoch && f.Holder != old[name].Holder {
				took = max(took, time.Since(from))
				delete(open, name)
			}
		}
		return len(open) == 0
	}, patience, 5*time.Millisecond, "all shards of the server are taken over")
	return took
}

func ledBy(leaders map[shard.Name]*server, s *server) (names []shard.Name) {
	for name, l := range leaders {
		if l == s {
			names = append(names, name)
		}
	}
	return names
}

// requireHostsAtHome: every host ends up with the shard that owns its board.
func (in *installation) requireHostsAtHome(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		var away int
		require.NoError(t, in.db.SQL().QueryRow(`SELECT COUNT(*) FROM afe_hosts h JOIN afe_hosts_labels l ON l.host_id = h.id JOIN afe_labels n ON n.id = l.label_id AND n.name LIKE 'board:%'
			LEFT JOIN afe_shards_labels s ON s.label_id = l.label_id WHERE COALESCE(h.shard_id, 0) <> COALESCE(s.shard_id, 0)`).Scan(&away))
		return away == 0
	}, patience, 20*time.Millisecond, "all hosts are with the shard of their board")
}

// TestShardsUnderFaults: four shards on three real processes, under load. A
// server that leads several is killed, paused, and cut off from etcd. Each time
// all its shards have new leaders within TTL + 1.5 s, nothing is assigned twice,
// and in no shard does a former epoch write after a later one.
func TestShardsUnderFaults(t *testing.T) {
	in := newInstallation(t, failoverLab, 3, withShards(3, 3), func(_ *testing.T, in *installation) { in.links = true })
	stopSimulator := in.simulate(t, busy)
	in.spread(t, 4, shard.Bound(4, 1, 3))
	in.requireHostsAtHome(t)
	for _, fault := range []struct {
		name         string
		break_, mend func(*server, *testing.T)
	}{
		{"kill -9", (*server).kill, (*server).start},
		{"SIGSTOP", func(s *server, t *testing.T) { s.signal(t, syscall.SIGSTOP) }, func(s *server, t *testing.T) { s.signal(t, syscall.SIGCONT) }},
		{"etcd partition", func(s *server, t *testing.T) { s.link.Cut(t) }, func(s *server, t *testing.T) { s.link.Heal(t) }},
	} {
		victim, names, leaders, old := in.victim(t)
		require.GreaterOrEqual(t, len(names), 2, "%s leads several shards", victim.name)
		others := map[shard.Name]store.Fence{}
		for name, f := range old {
			if leaders[name] != victim {
				others[name] = f
			}
		}
		fault.break_(victim, t)
		took := in.allTakenOver(t, names, old, time.Now())
		t.Logf("%s of a server that leads %d shards: all taken over after %v", fault.name, len(names), took.Round(time.Millisecond))
		require.LessOrEqual(t, took, maxFailover)
		for name, f := range others {
			require.Equal(t, f.Epoch, in.epochs(t)[name].Epoch, "shard %s of another server is left alone; its terms: %s", name, in.terms(t, name))
		}
		fault.mend(victim, t)
	}
	in.followersReady(t)
	stopSimulator()
	in.requireNothingTwice(t)
	in.requireOrderedEpochs(t)
}

// TestShardsComeAndGo: shards are added, renamed and removed, and labels move,
// while three replicas run; nobody restarts anything.
func TestShardsComeAndGo(t *testing.T) {
	in := newInstallation(t, failoverLab, 3, withShards(1, 3))
	stopSimulator := in.simulate(t, busy)
	in.spread(t, 2, 2)
	in.command(t, 0, "shard", "add", "new", "--yes")
	in.spread(t, 3, 2)
	for _, board := range []string{"board:b00", "board:b05"} {
		in.command(t, 0, "shard", "assign-label", "new", board, "--reason", "test", "--yes")
	}
	in.requireHostsAtHome(t)
	_, err := in.db.SQL().Exec("UPDATE afe_shards SET hostname = 'renamed' WHERE hostname = 'new'")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		l := in.leaders()
		return l["renamed"] != nil && l["new"] == nil
	}, patience, 20*time.Millisecond, "the shard is led under its new name only")
	f, _, err := in.db.ReadFence(t.Context(), "new")
	require.NoError(t, err)
	require.Empty(t, f.Holder, "nobody can write under the old name")
	in.command(t, 0, "shard", "remove", "renamed", "--reason", "test", "--yes")
	in.requireHostsAtHome(t)
	in.spread(t, 2, 2)
	in.command(t, 2, "shard", "remove", "renamed", "--reason", "again", "--yes")
	stopSimulator()
	in.requireNothingTwice(t)
	in.requireOrderedEpochs(t)
}

// command runs a command against the installation and returns what it prints.
func (in *installation) command(t *testing.T, code int, args ...string) string {
	t.Helper()
	in.setEnvironment(t)
	return prints(t, code, args...)
}

// setEnvironment makes the commands in this process reach the installation.
func (in *installation) setEnvironment(t *testing.T) {
	t.Helper()
	t.Setenv("HOSTSCHED_DATABASE_DSN", in.dsn)
	t.Setenv("HOSTSCHED_ETCD_ENDPOINTS", in.endpoint)
	t.Setenv("HOSTSCHED_CLUSTER", testCluster)
}

// prints runs a command in this process, which has to end with a code, and returns what it
// prints. It serves those who try again, too, for whom a failure is none of the test.
func prints(t require.TestingT, code int, args ...string) string {
	var out, errs strings.Builder
	got := run(context.Background(), args, &out, &errs)
	require.Equal(t, code, got, "hostsched %v: %s%s", args, &out, &errs)
	return out.String()
}

// takeRole waits until two servers lead everything, takes the role from one of them, and returns
// how long it took until the other one had all of it, which is a hand-over.
func (in *installation) takeRole(t *testing.T, from, to *server) time.Duration {
	t.Helper()
	leaders, old := in.ledByEach(t, []*server{from, to})
	names := ledBy(leaders, from)
	began := time.Now()
	in.command(t, 0, "server", "role", from.name, "--remove", "host_scheduler", "--reason", "test", "--yes")
	took := in.allTakenOver(t, names, old, began)
	t.Logf("role taken away: %d shards handed over within %v", len(names), took.Round(time.Millisecond))
	in.ledByEach(t, []*server{to})
	for _, name := range names {
		ended := in.requireCause(t, name, old[name].Epoch, "does not have the role host_scheduler")
		require.True(t, ended.Planned, "%+v", ended)
	}
	return took
}

// TestRoles: only servers with the role lead; a role taken away is a hand-over;
// backups lead when all primaries are gone, and hand back once.
func TestRoles(t *testing.T) {
	in := newInstallation(t, failoverLab, 3, withShards(3, 3), func(t *testing.T, in *installation) {
		in.command(t, 0, "server", "add", "replica-1", "--yes")
		in.command(t, 0, "server", "add", "replica-2", "--yes")
		in.command(t, 0, "server", "add", "replica-3", "--status", "backup", "--yes")
	})
	in.simulate(t, busy)
	first, second, backup := in.replicas[0], in.replicas[1], in.replicas[2]
	// Whoever starts first leads what it finds without a leader, the backup, too;
	// the primaries get it back after the hold-off.
	best := in.takeRole(t, first, second)
	for i := 1; best >= maxHandOver && i < handOverTries; i++ {
		in.command(t, 0, "server", "role", first.name, "--add", "host_scheduler", "--yes")
		best = min(best, in.takeRole(t, first, second))
	}
	require.Less(t, best, maxHandOver)
	first.answers(t, "/readyz", http.StatusOK, "the process lives on")

	_, old := in.ledByEach(t, []*server{second})
	second.kill(t)
	took := in.allTakenOver(t, []shard.Name{"master", "shard-1", "shard-2", "shard-3"}, old, time.Now())
	t.Logf("all primaries gone: the backup leads after %v", took.Round(time.Millisecond))
	require.LessOrEqual(t, took, maxFailover)

	_, old = in.ledByEach(t, []*server{backup})
	second.start(t)
	_, back := in.ledByEach(t, []*server{second})
	for name, f := range back {
		require.Equal(t, old[name].Epoch+1, f.Epoch, "once, without flapping")
	}
	in.command(t, 0, "server", "retire", "replica-3", "--reason", "test", "--yes")
	in.printedStatusSays(t, "server replica-3 does not have the role")
	second.kill(t)
	time.Sleep(2 * testTTL) // that nothing happens is the point
	require.Empty(t, in.leaders(), "nobody who may not leads")
	in.command(t, 0, "server", "role", "replica-1", "--add", "host_scheduler", "--yes")
	in.spread(t, 4, 4)
	second.start(t)
	in.requireNothingTwice(t)
	in.requireOrderedEpochs(t)
}

// TestClusterCommands: status, switchover, pause, resume and history say what is
// so, and everything is audited.
func TestClusterCommands(t *testing.T) {
	in := newInstallation(t, failoverLab, 3, withShards(3, 3))
	in.simulate(t, busy)
	in.followersReady(t)
	leaders, _ := in.balanced(t)
	in.clusterStatus(t, 0, func(t require.TestingT, _ string, st ops.ClusterStatus) {
		require.Len(t, st.Servers, 3)
		require.Len(t, st.Shards, 4)
		for _, s := range st.Shards {
			require.Equal(t, leaders[s.Shard].name, s.Leader)
			require.Positive(t, s.Token)
			require.Positive(t, s.Term)
		}
	})
	in.command(t, 2, "shard", "switchover", "master", "--to", "nobody", "--yes")
	in.command(t, 2, "shard", "switchover", "nowhere", "--to", "replica-1", "--yes")
	in.command(t, 2, "shard", "switchover", "master", "--to", "replica-1")
	to := in.replicas[0]
	if leaders["master"] == to {
		to = in.replicas[1]
	}
	t.Log(in.command(t, 0, "shard", "switchover", "master", "--to", to.name, "--reason", "test", "--yes"))
	require.Eventually(t, func() bool { return in.leaders()["master"] == to }, patience, 5*time.Millisecond)
	time.Sleep(2 * holdOff) // that it stays there is the point
	require.Equal(t, to.name, in.leaderOf(t, "master").name)
	switchovers := func() int {
		return storetest.Count(t, in.db, "SELECT COUNT(*) FROM hostsched_audit WHERE action = 'shard switchover'")
	}
	require.Equal(t, 1, switchovers())
	require.Contains(t, in.command(t, 0, "shard", "switchover", "master", "--to", to.name, "--yes"), to.name+" leads already, as was asked for; nothing was changed")
	require.Equal(t, 1, switchovers())
	require.Contains(t, in.command(t, 0, "shard", "switchover", "master", "--to", "any", "--yes"), "any server may lead it again")
	require.Equal(t, 2, switchovers())
	require.Contains(t, in.command(t, 0, "shard", "switchover", "master", "--to", "any", "--yes"), "nothing was changed")
	require.Equal(t, 2, switchovers())
	// Without a request the server may lose the shard again, so asking for it changes something.
	leader := in.leaderOf(t, "shard-2").name
	require.Contains(t, in.command(t, 0, "shard", "switchover", "shard-2", "--to", leader, "--yes"), leader+" leads already; it keeps the shard")
	require.Equal(t, 1, storetest.Count(t, in.db, "SELECT COUNT(*) FROM hostsched_audit WHERE action = 'shard switchover' AND subject = 'shard-2' AND detail = ?", leader+" leads and is to keep it"))

	in.command(t, 2, "shard", "pause", "shard-1", "--yes")
	in.command(t, 0, "shard", "pause", "shard-1", "--reason", "power work", "--yes")
	f, _, err := in.db.ReadFence(t.Context(), "shard-1")
	require.NoError(t, err)
	ticks := in.leaderOf(t, "shard-1").Ticks
	require.Eventually(t, func() bool { return in.claims()["shard-1"].Ticks > ticks+20 }, patience, 10*time.Millisecond, "it continues to look")
	later, _, err := in.db.ReadFence(t.Context(), "shard-1")
	require.NoError(t, err)
	require.Equal(t, f.Writes, later.Writes, "but writes nothing")
	in.printedStatusSays(t, "paused: power work")
	require.Regexp(t, `(?m)^shard-1 .* paused: power work$`, in.command(t, 0, "shard", "list", "-o", "wide"))
	require.Contains(t, in.command(t, 0, "plan", "shard-1", "--shadow", "--ticks", "1"), "nothing is planned, because the shard is paused by ")
	in.command(t, 0, "shard", "resume", "shard-1", "--reason", "power is back", "--yes")
	require.Eventually(t, func() bool {
		f, _, err := in.db.ReadFence(t.Context(), "shard-1")
		require.NoError(t, err)
		return f.Writes > later.Writes
	}, patience, 10*time.Millisecond)

	history := in.command(t, 0, "cluster", "history", "master")
	require.Contains(t, history, "(not ended)")
	require.Contains(t, history, "handed over to "+to.name)
	records, err := admin.New(in.db).AuditRecords(t.Context(), 100)
	require.NoError(t, err)
	actions := map[string]bool{}
	for _, r := range records {
		require.NotEmpty(t, r.Who)
		actions[r.Action] = true
	}
	for _, a := range []string{"shard add", "shard assign-label", "shard switchover"} {
		require.True(t, actions[a], a)
	}
	audit := in.command(t, 0, "audit")
	require.Regexp(t, `pause +shard-1 +power work`, audit)
	require.Regexp(t, `resume +shard-1 +power is back`, audit)
}

// TestShardWithItsOwnDatabase: a shard on a second database server. Its database
// gets slow; the ticks of the others do not care.
func TestShardWithItsOwnDatabase(t *testing.T) {
	dsn, err := testserver.StartAnother(t).Create("west")
	require.NoError(t, err)
	west, err := store.Open(t.Context(), sqldb.Config{DSN: dsn})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, west.Close()) })
	_, err = schema.Up(t.Context(), west.DB, schema.Options{})
	require.NoError(t, err)
	westLab, err := simlab.Create(t.Context(), west.SQL(), failoverLab)
	require.NoError(t, err)
	recordFence(t, west)
	history, err := simlab.InstallHistory(t.Context(), west.SQL(), false)
	require.NoError(t, err)
	link, through := testserver.LinkDatabase(t, dsn)

	in := newInstallation(t, failoverLab, 2)
	in.simulate(t, busy)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- simlab.NewSimulator(west.SQL(), westLab, busy).Run(ctx) }()
	defer func() {
		cancel()
		require.NoError(t, <-ended)
	}()
	in.command(t, 0, "shard", "add", "west", "--dsn", through, "--yes")
	in.spread(t, 2, 2)
	in.command(t, 2, "shard", "assign-label", "west", "board:b00", "--reason", "test", "--yes")
	in.command(t, 0, "shard", "pause", "west", "--reason", "power work", "--yes")
	require.Regexp(t, `(?m)^west .* paused: power work$`, in.command(t, 0, "shard", "list"))
	in.command(t, 0, "shard", "resume", "west", "--reason", "power is back", "--yes")
	require.Eventually(t, func() bool {
		n, err := history.Count(t.Context(), simlab.Counts{})
		return err == nil && n.Assignments > termAssignments
	}, patience, 20*time.Millisecond, "the shard works in its own database")

	// A tick has several statements; together they take longer than slow.
	const slow = 500 * time.Millisecond
	link.Slow(t, slow/5)
	require.Eventually(t, func() bool {
		for _, s := range in.replicas {
			if r := s.all()["west"].Recent; len(r) > 0 && r[len(r)-1] > slow {
				return true
			}
		}
		return false
	}, patience, 20*time.Millisecond, "its ticks are slow now")
	before := in.leaderOf(t, "master")
	time.Sleep(3 * time.Second) // the length is the point
	now := in.leaderOf(t, "master")
	require.Equal(t, before.Epoch, now.Epoch, "in the same term")
	ticks := now.Ticks - before.Ticks
	require.Greater(t, ticks, int64(5))
	// One tick may be slow because the machine is, but not most of them.
	since := slices.Sorted(slices.Values(now.Recent[max(0, len(now.Recent)-int(ticks)):]))
	median := since[len(since)/2]
	t.Logf("master's ticks in 3 s while a shard's database is slow: %d, half of them within %v", ticks, median.Round(time.Millisecond))
	require.Less(t, median, slow)
	in.requireNothingTwice(t)
	twice, err := history.AssignedTwice(t.Context(), 0)
	require.NoError(t, err)
	require.Zero(t, twice)
}
