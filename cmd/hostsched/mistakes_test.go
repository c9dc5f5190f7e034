package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
)

// commandsThatChange are all commands that change the lab, but for those of migrate.
var commandsThatChange = []string{
	"shard add new --yes",
	"shard assign-label lab-east board:b00 --reason test --yes",
	"shard pause master --reason test --yes",
	"shard resume lab-east --reason test --yes",
	"shard switchover master --to any --yes",
	"shard remove lab-east --reason test --yes --timeout 1s",
	"server add replica-1 --yes",
	"server role replica-1 --status backup --yes",
	"server retire replica-1 --reason test --yes",
	"etcd add replica-9 http://10.0.0.9:2380 --yes",
	"etcd remove replica-9 --yes",
}

// TestTheConfiguredShardMustExist: whoever mistypes it would lead the whole database beside
// its leaders.
func TestTheConfiguredShardMustExist(t *testing.T) {
	lab := newShardsLab(t, testserver.Etcd(t).Endpoint)
	for _, command := range append([]string{"serve --listen 127.0.0.1:0", "check", "plan", "fence show", "cluster history", "shard list"}, commandsThatChange...) {
		code, out, errs := lab.run(t, append(strings.Fields(command), "--shard", "lab-esat")...)
		require.Equal(t, exitInput, code, "%s: %s", command, out)
		require.Contains(t, errs, "no such shard: lab-esat, which the setting 'shard' names, is not in afe_shards", command)
		require.Contains(t, errs, "there are lab-east, lab-west, master", command)
		require.Equal(t, 1, strings.Count("\n"+errs, "\nhostsched: "), command)
	}
}

// TestOneShardHasTheWholeDatabase: the commands know what the configuration says, and divide
// nothing that its replicas would not.
func TestOneShardHasTheWholeDatabase(t *testing.T) {
	lab := newShardsLab(t, testserver.Etcd(t).Endpoint)
	for _, command := range []string{
		"shard add new --yes", "shard assign-label master board:b01 --reason test --yes", "shard assign-label lab-east board:b00 --reason test --yes",
		"shard remove lab-east --reason test --yes", "shard pause master --reason test --yes", "fence show master", "cluster history master",
	} {
		code, out, errs := lab.run(t, append(strings.Fields(command), "--shard", "lab-east")...)
		require.Equal(t, exitInput, code, "%s: %s", command, out)
		require.Contains(t, errs, "the configuration gives the whole of", command)
	}
	code, out, errs := lab.run(t, "shard", "list", "--shard", "master")
	require.Equal(t, exitOK, code, errs)
	require.Regexp(t, `(?m)^master +16 +0 +board:b01`, out)
	require.NotContains(t, out, "lab-east")
	require.Contains(t, out, "lab-west", "it has a database of its own")
}

// TestAnotherClustersLab: nobody leads or changes it, until it is adopted.
func TestAnotherClustersLab(t *testing.T) {
	lab := newShardsLab(t, testserver.Etcd(t).Endpoint)
	require.NoError(t, admin.New(lab.main).AdoptFence(t.Context(), shard.Master, admin.Cluster{Etcd: "former", Name: "lab1"}, "test", "test"))
	before := rowsOf(t, lab.main, "hostsched_audit")
	for _, command := range append([]string{"serve --listen 127.0.0.1:0"}, commandsThatChange...) {
		code, out, errs := lab.run(t, append(strings.Fields(command), "--cluster", "lab2")...)
		require.Equal(t, exitInput, code, "%s: %s", command, out)
		require.Contains(t, errs, "belongs to cluster lab1, and the setting 'cluster' here is lab2", command)
		require.Equal(t, 1, strings.Count("\n"+errs, "\nhostsched: "), command)
	}
	require.Equal(t, before, rowsOf(t, lab.main, "hostsched_audit"))
	code, _, errs := lab.run(t, "shard", "resume", "lab-east", "--reason", "no cluster is named, and no etcd is asked", "--yes")
	require.Equal(t, exitOK, code, errs)
	code, out, errs := lab.run(t, "fence", "adopt", "master", "--cluster", "lab2", "--reason", "renamed", "--yes")
	require.Equal(t, exitOK, code, errs)
	require.Contains(t, out, "now belongs to cluster lab2 in etcd cluster ")
	require.Contains(t, out, "(before: cluster lab1 in etcd cluster former")
	code, _, errs = lab.run(t, "shard", "pause", "master", "--reason", "x", "--yes", "--cluster", "lab2")
	require.Equal(t, exitOK, code, errs)
}

// rowsOf counts the rows of a table.
func rowsOf(t *testing.T, db *store.DB, table string) (n int) {
	t.Helper()
	require.NoError(t, db.SQL().QueryRow("SELECT COUNT(*) FROM "+table).Scan(&n))
	return n
}

// TestALivingLabIsNotStopped: what would leave a lab that works without a leader is refused,
// names who runs or leads, and changes nothing; --force does it.
func TestALivingLabIsNotStopped(t *testing.T) {
	in := newInstallation(t, failoverLab, 2)
	in.settle(t)
	refused := func(command string, says ...string) {
		t.Helper()
		var out, errs strings.Builder
		t.Setenv("HOSTSCHED_DATABASE_DSN", in.dsn)
		require.Equal(t, exitInput, run(t.Context(), strings.Fields(command), &out, &errs), "%s: %s", command, &out)
		for _, text := range append(says, "--force") {
			require.Contains(t, errs.String(), text, command)
		}
		require.Equal(t, 1, strings.Count(errs.String(), "\n"), command)
		require.Zero(t, rowsOf(t, in.db, "hostsched_audit WHERE subject <> 'replica-1'"), command)
	}
	in.command(t, exitOK, "server", "list") // it sets the environment
	epoch := in.fence(t).Epoch
	refused("fence adopt master --reason x --yes", "there is nothing to adopt", "leads it there")
	refused("migrate down --yes", "leads shard master in", "stop the replicas first")
	refused("migrate down --lab --yes", "leads shard master in")
	refused("server add shced-1 --yes", "none of replica-1, replica-2 would have the role")
	refused("server add replica-1 --role drone --yes", "none of replica-1, replica-2 would have the role")
	refused("server add replica-1 --status repair_required --yes", "no replica that runs may lead")
	require.Zero(t, rowsOf(t, in.db, "servers"))
	require.Equal(t, epoch, in.fence(t).Epoch, "the leader leads on")

	in.command(t, exitOK, "server", "add", "replica-1", "--yes")
	in.command(t, exitOK, "server", "role", "replica-1", "--status", "backup", "--add", "drone", "--yes")
	refused("server role replica-1 --remove host_scheduler --yes", "none of replica-1, replica-2 would have the role")
	refused("server role replica-1 --status repair_required --yes", "no replica that runs may lead")
	refused("server retire replica-1 --reason x --yes", "no replica that runs may lead")

	// Between two leaders nobody leads.
	require.Eventually(t, func() bool { return strings.HasPrefix(in.fence(t).Holder, "replica-1/") }, patience, 10*time.Millisecond)
	in.settle(t)
	t.Setenv("HOSTSCHED_ETCD_ENDPOINTS", "http://127.0.0.1:1")
	refused("migrate down --yes", "shard master in", "etcd does not say whether it still is")
	refused("server retire replica-1 --reason x --yes", "etcd does not say which do")
	require.Equal(t, 1, rowsOf(t, in.db, "servers"))
	var out, errs strings.Builder
	require.Equal(t, exitOK, run(t.Context(), strings.Fields("server add replica-2 --yes"), &out, &errs), "it takes the role from nobody: %s", &errs)

	in.command(t, exitOK, "server", "retire", "replica-2", "--reason", "x", "--yes")
	in.command(t, exitOK, "server", "retire", "replica-1", "--reason", "x", "--yes", "--force")
	for _, s := range in.replicas {
		s.stop(t)
	}
	for range 2 {
		in.command(t, exitOK, "migrate", "down", "--lab", "--yes")
	}
}

// TestFenceRowsThatSomebodyEdited: the commands that look name them, and adopting the fence
// makes them agree, also while their leader lives.
func TestFenceRowsThatSomebodyEdited(t *testing.T) {
	in := newInstallation(t, simlab.Spec{Seed: 1, Hosts: 40, Boards: 2, Suites: 4, Entries: 50}, 1)
	in.leaderIn(t, anyPhase()...)
	require.NotContains(t, in.command(t, exitOK, "fence", "show"), "contradict")
	_, err := in.db.SQL().Exec("UPDATE hostsched_fence SET layout = layout + 7 WHERE lane = 1")
	require.NoError(t, err)
	require.Contains(t, in.command(t, exitOK, "fence", "show"), "contradict each other: layout is [")
	require.Contains(t, in.command(t, exitFailed, "check"), "run 'hostsched fence adopt master'")
	before := in.fence(t).Epoch
	in.command(t, exitOK, "fence", "adopt", "master", "--reason", "edited by hand", "--yes")
	require.NotContains(t, in.command(t, exitOK, "fence", "show"), "contradict")
	_, err = in.db.SQL().Exec("UPDATE afe_hosts SET leased = 1 WHERE leased = 0") // something to do for the leader
	require.NoError(t, err)
	require.Eventually(t, func() bool { f := in.fence(t); return f.Holder != "" && f.Epoch > before+1 }, patience, 10*time.Millisecond, "it is led again")
}

// fence reads the fence of the master.
func (in *installation) fence(t *testing.T) store.Fence {
	t.Helper()
	f, _, err := in.db.ReadFence(t.Context(), shard.Master)
	require.NoError(t, err)
	return f
}

// TestResumeOfAShardThatIsNotPaused says so, and changes and records nothing, wherever the
// shard's rows are.
func TestResumeOfAShardThatIsNotPaused(t *testing.T) {
	lab := newShardsLab(t, "http://127.0.0.1:1")
	before := []int{rowsOf(t, lab.main, "hostsched_audit"), rowsOf(t, lab.west, "hostsched_audit")}
	for _, name := range []string{"master", "lab-west"} {
		code, out, errs := lab.run(t, "shard", "resume", name, "--reason", "test", "--yes")
		require.Equal(t, exitOK, code, errs)
		require.Equal(t, "shard "+name+": is not paused; nothing was changed\n", out)
	}
	require.Equal(t, before, []int{rowsOf(t, lab.main, "hostsched_audit"), rowsOf(t, lab.west, "hostsched_audit")})
	code, out, errs := lab.run(t, "shard", "resume", "lab-east", "--reason", "test", "--yes")
	require.Equal(t, exitOK, code, errs)
	require.Equal(t, "shard lab-east: resumed\n", out)
	require.Equal(t, before[0]+1, rowsOf(t, lab.main, "hostsched_audit"))
}

// TestHistoryOfARemovedShard can be read as long as its terms are there.
func TestHistoryOfARemovedShard(t *testing.T) {
	lab := newShardsLab(t, "http://127.0.0.1:1")
	_, err := lab.main.SQL().Exec("DELETE FROM afe_shards WHERE hostname = 'lab-east'")
	require.NoError(t, err)
	code, out, errs := lab.run(t, "cluster", "history", "lab-east")
	require.Equal(t, exitOK, code, errs)
	require.Contains(t, out, "leader-of-lab-east")
	_, err = lab.main.SQL().Exec("UPDATE hostsched_terms SET cause = ?", "lease lost\nno answer")
	require.NoError(t, err)
	for _, format := range []string{"table", "json"} {
		_, out, _ = lab.run(t, "cluster", "history", "lab-east", "-o", format)
		require.Contains(t, out, "lease lost; no answer")
	}
	code, _, errs = lab.run(t, "cluster", "history", "nowhere")
	require.Equal(t, exitInput, code)
	require.Contains(t, errs, "no such shard: nowhere; there are lab-west, master")
	code, _, errs = lab.run(t, "fence", "show", "lab-east")
	require.Equal(t, exitInput, code, errs)
}

// TestShardsOwnFileIsStoredWithItsFolder: replicas run in other folders than the command.
func TestShardsOwnFileIsStoredWithItsFolder(t *testing.T) {
	lab := newShardsLab(t, "http://127.0.0.1:1")
	lab.open(t, "third.db")
	t.Chdir(lab.dir)
	code, _, errs := lab.run(t, "shard", "add", "lab-third", "--dsn", "sqlite:third.db", "--yes")
	require.Equal(t, exitOK, code, errs)
	t.Chdir("/")
	code, out, errs := lab.run(t, "shard", "list", "-o", "wide")
	require.Equal(t, exitOK, code, errs)
	require.Contains(t, out, lab.dsn("third.db"))
	code, _, errs = lab.run(t, "plan", "lab-third")
	require.Equal(t, exitOK, code, errs)
}

// TestNamesThatAServerTakesForAShard: commands take every name of a shard that the server
// takes for it, and say of others which one may be meant.
func TestNamesThatAServerTakesForAShard(t *testing.T) {
	dsn := testserver.Database(t)
	db := storetest.NewLab(t, dsn)
	for i := range 12 {
		require.NoError(t, admin.New(db).AddShard(t.Context(), shard.Name(fmt.Sprintf("rack-%02d-söuth", i)), "", "me", ""))
	}
	for arg, name := range map[string]string{"RACK-03-south": "rack-03-söuth", "Master": "master"} {
		code, out := program(t, dsn, "shard", "pause", arg, "--reason", "test", "--yes")
		require.Zero(t, code, out)
		require.Equal(t, 1, storetest.Count(t, db, "SELECT COUNT(*) FROM hostsched_audit WHERE action = 'shard pause' AND CAST(subject AS BINARY) = CAST(? AS BINARY)", name))
	}
	code, out := program(t, dsn, "shard", "pause", "rock-03-south", "--reason", "test", "--yes")
	require.Equal(t, exitInput, code)
	require.Contains(t, out, "no such shard: rock-03-south; did you mean rack-03-söuth? there are 13, which 'hostsched shard list' lists")
}
