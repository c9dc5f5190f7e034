package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

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
}

// TestTheConfiguredShardMustExist: whoever mistypes it would lead the whole database beside
// its leaders.
func TestTheConfiguredShardMustExist(t *testing.T) {
	lab := newShardsLab(t, testserver.Etcd(t).Endpoint)
	for _, command := range append([]string{"serve --listen 127.0.0.1:0", "check", "fence show", "cluster history", "shard list"}, commandsThatChange...) {
		code, out, errs := lab.run(t, append(strings.Fields(command), "--shard", "lab-esat")...)
		require.Equal(t, exitInput, code, "%s: %s", command, out)
		require.Contains(t, errs, "no such shard: lab-esat, which the setting 'shard' names, is not in afe_shards", command)
		require.Contains(t, errs, "there are lab-east, lab-west, master", command)
		require.Equal(t, 1, strings.Count(errs, "\n"), command)
	}
	code, _, errs := lab.run(t, "plan", "--shard", "lab-esat")
	require.Equal(t, exitPlanError, code)
	require.Contains(t, errs, "no such shard: lab-esat")
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
	require.Regexp(t, `(?m)^master +16 +0 +board:b01$`, out)
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
		require.Equal(t, 1, strings.Count(errs, "\n"), command)
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
