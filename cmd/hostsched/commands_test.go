package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/ops"
	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/internal/testserver"
	"github.com/hostsched/hostsched/shard"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/admin"
	"github.com/hostsched/hostsched/store/schema"
	"github.com/hostsched/hostsched/store/sqldb"
)

// TestEveryCommandHasAnExample also finds commands that are neither a group nor
// do anything.
func TestEveryCommandHasAnExample(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Name() == "completion" || cmd.Name() == "help" {
			return // cobra's own
		}
		require.NotEmpty(t, cmd.Example, "%s", cmd.CommandPath())
		require.NotNil(t, cmd.RunE, "%s", cmd.CommandPath())
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot())
}

// shardsLab is a lab of three shards without replicas: the master and lab-east
// share the main database, lab-west has one of its own. All had a leader, under
// another etcd cluster. lab-east is paused, and has a host and an entry for it.
type shardsLab struct {
	main, west *store.DB
	dir        string
	endpoint   string
}

func newShardsLab(t *testing.T, endpoint string) *shardsLab {
	t.Helper()
	l := &shardsLab{dir: t.TempDir(), endpoint: endpoint}
	l.main, l.west = l.open(t, "main.db"), l.open(t, "west.db")
	ctx := t.Context()
	_, err := simlab.Create(ctx, l.west.SQL(), simlab.Spec{Seed: 1, Hosts: 4, Boards: 1, Suites: 1, Entries: 1, Runnable: true})
	require.NoError(t, err)
	_, err = simlab.Create(ctx, l.main.SQL(), simlab.Spec{Seed: 1, Hosts: 16, Boards: 2, Suites: 6, Entries: 24})
	require.NoError(t, err)
	code, _, errs := l.run(t, "shard", "add", "lab-east", "--yes")
	require.Equal(t, exitOK, code, errs)
	code, _, errs = l.run(t, "shard", "add", "lab-west", "--dsn", l.dsn("west.db"), "--yes")
	require.Equal(t, exitOK, code, errs)
	code, _, errs = l.run(t, "shard", "assign-label", "lab-east", "board:b01", "--reason", "test", "--yes")
	require.Equal(t, exitOK, code, errs)
	_, err = l.main.SQL().Exec("UPDATE afe_hosts SET shard_id = (SELECT id FROM afe_shards WHERE hostname = 'lab-east') WHERE id IN (SELECT h.host_id FROM afe_hosts_labels h JOIN afe_shards_labels s ON s.label_id = h.label_id)")
	require.NoError(t, err)
	for name, db := range map[shard.Name]*store.DB{shard.Master: l.main, "lab-east": l.main, "lab-west": l.west} {
		leader, err := db.TakeOver(ctx, store.Claim{Shard: name, Token: 1, Cluster: "former", Holder: "leader-of-" + name.String()})
		require.NoError(t, err)
		require.NoError(t, leader.Close())
	}
	code, _, errs = l.run(t, "shard", "pause", "lab-east", "--reason", "power work", "--yes")
	require.Equal(t, exitOK, code, errs)
	return l
}

func (l *shardsLab) dsn(file string) string { return "sqlite:" + filepath.Join(l.dir, file) }

func (l *shardsLab) open(t *testing.T, file string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), sqldb.Config{DSN: l.dsn(file), Create: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	_, err = schema.Up(t.Context(), db.DB, schema.Options{})
	require.NoError(t, err)
	return db
}

func (l *shardsLab) run(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	t.Setenv("HOSTSCHED_DATABASE_DSN", l.dsn("main.db"))
	t.Setenv("HOSTSCHED_ETCD_ENDPOINTS", l.endpoint)
	var stdout, stderr strings.Builder
	code = run(context.Background(), args, &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// commandsOnShards are all commands that take a shard, the one that removes it
// last. SHARD stands for its name.
var commandsOnShards = []string{
	"plan SHARD",
	"check SHARD",
	"cluster history SHARD",
	"fence show SHARD",
	"fence adopt SHARD --reason test --yes",
	"shard switchover SHARD --to any --yes",
	"shard resume SHARD --reason test --yes",
	"shard pause SHARD --reason test --yes",
	"shard assign-label SHARD board:b00 --reason test --yes",
	"shard remove SHARD --reason test --yes --timeout 1s",
}

// answer is what a command says about a shard: its exit code, and a part of what
// it prints, to either side.
type answer struct {
	code int
	says string
}

// TestEveryCommandFindsTheShard runs every command that takes a shard with every
// kind of name: all of them find the same shard in the same database, or refuse
// it in the same words.
func TestEveryCommandFindsTheShard(t *testing.T) {
	require.ElementsMatch(t, takingShards(), firstWords(commandsOnShards), "all commands that take a shard are tested")
	endpoint := testserver.Etcd(t).Endpoint
	for _, c := range []struct {
		name string
		want map[string]answer
		// every is what all commands say that are not in want.
		every answer
	}{
		{name: "nowhere", every: answer{exitInput, "no such shard: nowhere; there are lab-east, lab-west, master"}},
		{name: "lab-esat", every: answer{exitInput, "no such shard: lab-esat; did you mean lab-east? there are lab-east, lab-west, master"}},
		{name: "no/name", every: answer{exitInput, `invalid shard name "no/name"`}, want: map[string]answer{
			"plan": {exitPlanError, `invalid shard name "no/name"`},
		}},
		{name: "lab-west", every: answer{exitOK, ""}, want: map[string]answer{
			"plan":               {exitChanges, "1 to assign"},
			"cluster history":    {exitOK, "leader-of-lab-west"},
			"fence show":         {exitOK, "leader-of-lab-west"},
			"fence adopt":        {exitOK, "west.db now belongs to"},
			"shard assign-label": {exitInput, "has a database of its own"},
		}},
		{name: "lab-east", every: answer{exitOK, ""}, want: map[string]answer{
			"plan":            {exitOK, "paused   shard lab-east, by "},
			"cluster history": {exitOK, "leader-of-lab-east"},
			"fence show":      {exitOK, "leader-of-lab-east"},
			"fence adopt":     {exitOK, "main.db now belongs to"},
			"shard remove":    {exitFailed, "does somebody lead it?"},
		}},
		{name: "LAB-East", every: answer{exitOK, ""}, want: map[string]answer{
			"plan":            {exitOK, "paused   shard lab-east, by "},
			"cluster history": {exitOK, "leader-of-lab-east"},
			"fence show":      {exitOK, "leader-of-lab-east"},
			"fence adopt":     {exitOK, "main.db now belongs to"},
			"shard remove":    {exitFailed, "does somebody lead it?"},
		}},
		{name: "master", every: answer{exitOK, ""}, want: map[string]answer{
			"plan":            {exitChanges, " to assign"},
			"cluster history": {exitOK, "leader-of-master"},
			"fence show":      {exitOK, "leader-of-master"},
			"fence adopt":     {exitOK, "main.db now belongs to"},
			"shard remove":    {exitInput, "the master shard cannot be removed"},
		}},
	} {
		t.Run(strings.ReplaceAll(c.name, "/", " "), func(t *testing.T) {
			lab := newShardsLab(t, endpoint)
			for _, command := range commandsOnShards {
				words := firstWords([]string{command})[0]
				want, ok := c.want[words]
				if !ok {
					want = c.every
				}
				code, out, errs := lab.run(t, strings.Fields(strings.ReplaceAll(command, "SHARD", c.name))...)
				require.Equal(t, want.code, code, "%s: %s%s", command, out, errs)
				require.Contains(t, out+errs, want.says, "%s", command)
			}
		})
	}
}

// takingShards finds the commands that take a shard, but for the one that makes
// it.
func takingShards() (out []string) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if strings.Contains(cmd.Use, "SHARD") && cmd.CommandPath() != "hostsched shard add" {
			out = append(out, strings.TrimPrefix(cmd.CommandPath(), "hostsched "))
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot())
	return out
}

// firstWords cuts commands before the shard.
func firstWords(commands []string) []string {
	out := make([]string, len(commands))
	for i, c := range commands {
		words, _, _ := strings.Cut(c, " SHARD")
		out[i] = words
	}
	return out
}

// TestChangesInAShardsOwnDatabase: they are made there, and only there, and the
// log of the lab says so.
func TestChangesInAShardsOwnDatabase(t *testing.T) {
	lab := newShardsLab(t, testserver.Etcd(t).Endpoint)
	for _, args := range [][]string{
		{"fence", "adopt", "lab-west", "--reason", "etcd rebuilt", "--yes"},
		{"shard", "pause", "lab-west", "--reason", "flood", "--yes"},
	} {
		code, _, errs := lab.run(t, args...)
		require.Equal(t, exitOK, code, errs)
	}
	f, ok, err := lab.west.ReadFence(t.Context(), "lab-west")
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "flood", f.Paused)
	require.NotEqual(t, "former", f.Cluster)
	_, ok, err = lab.main.ReadFence(t.Context(), "lab-west")
	require.NoError(t, err)
	require.False(t, ok, "there is no fence of it in the main database")
	_, audit, _ := lab.run(t, "audit")
	require.Regexp(t, `shard pause +lab-west +in sqlite:\S+west.db: flood`, audit)
	require.Regexp(t, `fence adopt +lab-west +in sqlite:\S+west.db: cluster default in etcd cluster \w+: etcd rebuilt`, audit)
}

// TestPlanOfAPausedShard: it says who paused the shard, and everybody still waits
// for a reason; nothing would be done.
func TestPlanOfAPausedShard(t *testing.T) {
	lab := newShardsLab(t, "http://127.0.0.1:1")
	report := func(code int) (r ops.PlanReport) {
		t.Helper()
		got, out, errs := lab.run(t, "plan", "lab-east", "-o", "json")
		require.Equal(t, code, got, errs)
		require.NoError(t, json.Unmarshal([]byte(out), &r))
		return r
	}
	paused := report(exitOK)
	require.NotNil(t, paused.Paused)
	require.Equal(t, "power work", paused.Paused.Reason)
	require.Equal(t, whoami(), paused.Paused.By)
	require.False(t, paused.Paused.Since.IsZero())
	require.Empty(t, paused.Assignments)
	_, text, _ := lab.run(t, "plan", "lab-east")
	require.Contains(t, text, "paused   shard lab-east, by "+whoami()+" since 2")
	require.Contains(t, text, ": power work\n")

	code, _, errs := lab.run(t, "shard", "resume", "lab-east", "--reason", "done", "--yes")
	require.Equal(t, exitOK, code, errs)
	resumed := report(exitChanges)
	require.Nil(t, resumed.Paused)
	require.NotEmpty(t, resumed.Assignments)
	require.NotEmpty(t, resumed.Waiting)
	require.Len(t, paused.Waiting, len(resumed.Assignments)+len(resumed.Changes)+len(resumed.Waiting))
	for i, a := range resumed.Assignments {
		require.Equal(t, a.Entry, paused.Waiting[i].Entry)
		require.Equal(t, "because the shard is paused (would get host "+a.Hostname+")", paused.Waiting[i].Reason)
		require.Contains(t, text, paused.Waiting[i].Reason)
	}
	require.Equal(t, resumed.Waiting, paused.Waiting[len(paused.Waiting)-len(resumed.Waiting):], "the others have the reasons that they would have")
}

// TestShardRemoveSaysWhoHoldsItUp: hosts that only a person can free end the removal at
// once; it names them and says what to do.
func TestShardRemoveSaysWhoHoldsItUp(t *testing.T) {
	lab := newShardsLab(t, "http://127.0.0.1:1")
	for _, text := range []string{
		"UPDATE afe_host_queue_entries SET active = 0, complete = 1",
		"UPDATE afe_special_tasks SET is_active = 0, is_complete = 1",
		"UPDATE afe_hosts SET leased = 1, locked = 1, status = 'Ready' WHERE shard_id IS NOT NULL",
	} {
		_, err := lab.main.SQL().Exec(text)
		require.NoError(t, err)
	}
	code, _, errs := lab.run(t, "shard", "remove", "lab-east", "--reason", "test", "--yes", "--timeout", "10m")
	require.Equal(t, exitFailed, code, errs)
	require.Contains(t, errs, "8 hosts (")
	require.Contains(t, errs, " and 3 more) are leased for nobody")
	require.Contains(t, errs, "run the command again")
	require.NotContains(t, errs, "does somebody lead it?")
	code, out, _ := lab.run(t, "check", "lab-east")
	require.Equal(t, exitFailed, code)
	require.Contains(t, out, "carries labels that belong to shard master")
}

// TestPlanUnderAConfigurationThatNamesAShard: the whole database is that shard's,
// whatever the tables say of it.
func TestPlanUnderAConfigurationThatNamesAShard(t *testing.T) {
	lab := newShardsLab(t, "http://127.0.0.1:1")
	_, err := lab.main.SQL().Exec("UPDATE afe_hosts SET shard_id = (SELECT id FROM afe_shards WHERE hostname = 'lab-east')")
	require.NoError(t, err)
	_, out, _ := lab.run(t, "plan")
	require.Regexp(t, `(?m)^0 to assign`, out, "no host is the master's where shards share the database")
	for _, args := range [][]string{{"plan", "--shard", "master"}, {"plan", "master", "--shard", "master"}} {
		code, out, errs := lab.run(t, args...)
		require.Equal(t, exitChanges, code, "%v %s", args, errs)
		require.NotRegexp(t, `(?m)^0 to assign`, out, "%v", args)
	}
	code, out, errs := lab.run(t, "plan", "lab-west", "--shard", "master")
	require.Equal(t, exitChanges, code, errs)
	require.Contains(t, out, "1 to assign", "a database of its own is reached as ever")
	code, _, errs = lab.run(t, "plan", "lab-east", "--shard", "master")
	require.Equal(t, exitPlanError, code)
	require.Contains(t, errs, "the configuration gives the whole of")
}

// TestPlanOfAShardThatNeverHadALeader, and of a lab without hostsched's tables.
func TestPlanOfAShardThatNeverHadALeader(t *testing.T) {
	lab := newShardsLab(t, "http://127.0.0.1:1")
	code, _, errs := lab.run(t, "shard", "add", "new", "--yes")
	require.Equal(t, exitOK, code, errs)
	code, out, errs := lab.run(t, "plan", "new")
	require.Equal(t, exitOK, code, errs)
	require.Contains(t, out, "0 to assign")
	code, _, errs = lab.run(t, "migrate", "down", "--yes", "--force")
	require.Equal(t, exitOK, code, errs)
	code, out, errs = lab.run(t, "plan")
	require.Equal(t, exitChanges, code, errs)
	require.NotRegexp(t, `(?m)^0 to assign`, out)
	code, _, errs = lab.run(t, "plan", "lab-east")
	require.Equal(t, exitInput, code)
	require.Contains(t, errs, "there are master")
}

// TestCheckLooksAtAllShards: a host that is used without a lease is found in the
// database where it is, and the finding names its shard.
func TestCheckLooksAtAllShards(t *testing.T) {
	lab := newShardsLab(t, "http://127.0.0.1:1")
	for db, where := range map[*store.DB]string{lab.west: "1=1", lab.main: "shard_id IS NOT NULL"} {
		_, err := db.SQL().Exec("UPDATE afe_host_queue_entries SET active = 1, host_id = (SELECT MIN(id) FROM afe_hosts WHERE leased = 0 AND " + where + ") WHERE id = (SELECT MIN(id) FROM afe_host_queue_entries)")
		require.NoError(t, err)
	}
	check := func(args ...string) (names []shard.Name) {
		code, out, errs := lab.run(t, append([]string{"check", "-o", "json"}, args...)...)
		var f admin.Findings
		require.NoError(t, json.Unmarshal([]byte(out), &f), errs)
		require.Equal(t, f.Count() > 0, code == exitFailed, errs)
		for _, x := range f.Unleased {
			names = append(names, x.Shard)
		}
		return names
	}
	require.ElementsMatch(t, []shard.Name{"lab-east", "lab-west"}, check())
	require.Equal(t, []shard.Name{"lab-west"}, check("lab-west"))
	require.Empty(t, check("master"))
	require.Equal(t, []shard.Name{"master"}, check("--shard", "master"), "the whole database is the master's")

	// A database that does not answer does not hide what others have.
	require.NoError(t, os.Rename(filepath.Join(lab.dir, "west.db"), filepath.Join(lab.dir, "away.db")))
	code, out, errs := lab.run(t, "check")
	require.Equal(t, exitInput, code)
	require.Contains(t, out, "unleased  shard lab-east")
	require.Contains(t, errs, "the database of shard lab-west")
}

// TestNoDatabaseForTwoShards: a database is known by what it is, not by how
// somebody writes its name.
func TestNoDatabaseForTwoShards(t *testing.T) {
	lab := newShardsLab(t, "http://127.0.0.1:1")
	require.NoError(t, os.Symlink("main.db", filepath.Join(lab.dir, "alias.db")))
	require.NoError(t, os.Symlink(lab.dir, filepath.Join(lab.dir, "folder")))
	for file, says := range map[string]string{
		"main.db": "is the main database", "alias.db": "is the main database", "folder/../folder/main.db": "is the main database",
		"west.db": "is the database of shard lab-west already", "folder/west.db": "is the database of shard lab-west already",
	} {
		code, _, errs := lab.run(t, "shard", "add", "new", "--dsn", lab.dsn(file), "--yes")
		require.Equal(t, exitInput, code, file)
		require.Contains(t, errs, says, file)
	}
	lab.open(t, "third.db")
	code, _, errs := lab.run(t, "shard", "add", "new", "--dsn", lab.dsn("third.db"), "--yes")
	require.Equal(t, exitOK, code, errs)
}

// TestNoServersDatabaseForTwoShards is the same on a server, which has an address
// and a name.
func TestNoServersDatabaseForTwoShards(t *testing.T) {
	migrated := func() string {
		dsn := testserver.Database(t)
		db, err := store.Open(t.Context(), sqldb.Config{DSN: dsn})
		require.NoError(t, err)
		_, err = schema.Up(t.Context(), db.DB, schema.Options{})
		require.NoError(t, err)
		require.NoError(t, db.Close())
		return dsn
	}
	main, west := migrated(), migrated()
	t.Setenv("HOSTSCHED_DATABASE_DSN", main)
	add := func(name, dsn string) (int, string) {
		var out, errs strings.Builder
		code := run(t.Context(), []string{"shard", "add", name, "--dsn", strings.Replace(dsn, ":@", "@", 1), "--yes"}, &out, &errs)
		return code, errs.String()
	}
	byName := func(dsn string) string { return strings.Replace(dsn, "127.0.0.1", "localhost", 1) }
	require.NotEqual(t, main, byName(main))
	for _, dsn := range []string{main, byName(main)} {
		code, errs := add("west", dsn)
		require.Equal(t, exitInput, code, errs)
		require.Contains(t, errs, "is the main database")
	}
	code, errs := add("west", west)
	require.Equal(t, exitOK, code, errs)
	code, errs = add("other", byName(west))
	require.Equal(t, exitInput, code, errs)
	require.Contains(t, errs, "is the database of shard west already")
}

// TestReadersMayAsk: whatever only asks is done with a user who may only read.
func TestReadersMayAsk(t *testing.T) {
	dsn := testserver.Database(t)
	db, err := store.Open(t.Context(), sqldb.Config{DSN: dsn})
	require.NoError(t, err)
	_, err = schema.Up(t.Context(), db.DB, schema.Options{})
	require.NoError(t, err)
	require.NoError(t, admin.New(db).AddShard(t.Context(), "lab-east", "", "test", ""))
	require.NoError(t, admin.New(db).PauseShard(t.Context(), "lab-east", "test", "power work", "power work"))
	require.NoError(t, db.Close())
	t.Setenv("HOSTSCHED_DATABASE_DSN", testserver.User(t, dsn, "reader", "secret", "SELECT"))
	for _, command := range []string{"plan", "plan lab-east", "check", "check lab-east", "fence show lab-east", "cluster history lab-east", "shard list", "server list", "audit", "migrate status"} {
		var out, errs strings.Builder
		require.Equal(t, exitOK, run(t.Context(), strings.Fields(command), &out, &errs), "%s: %s", command, &errs)
	}
	var out, errs strings.Builder
	require.Equal(t, exitInput, run(t.Context(), strings.Fields("shard pause lab-east --reason x --yes"), &out, &errs))
	require.Contains(t, errs.String(), "missing privilege")
}

// TestCheckOfALeaderUnderAConfigurationThatNamesAShard: the leader's recorder is
// of the whole database there, and so is what it is compared with.
func TestCheckOfALeaderUnderAConfigurationThatNamesAShard(t *testing.T) {
	in := newInstallation(t, failoverLab, 1, withShards(1, 0), func(_ *testing.T, in *installation) { in.args = append(in.args, "--shard", "master") })
	in.settle(t)
	_, err := in.db.SQL().Exec("UPDATE afe_hosts SET shard_id = (SELECT id FROM afe_shards) WHERE leased = 1 AND id % 2 = 0")
	require.NoError(t, err)
	shared, err := in.db.Recorder(t.Context(), store.Scope{Shard: shard.Master, Shared: true})
	require.NoError(t, err)
	leader, _ := in.leaderIn(t, anyPhase()...)
	require.Greater(t, len(leader.recorder(t)), len(shared.Hosts()), "hosts of the shard run suites, too")
	out := in.command(t, 0, "check", "--leader", leader.listen, "--shard", "master")
	require.Contains(t, out, "0 findings")
}
