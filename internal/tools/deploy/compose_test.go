package deploy

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"
)

// TestCompose reads the file as docker compose does: three replicas, three members of etcd
// and a database, of which each replica waits for what it needs.
func TestCompose(t *testing.T) {
	file, err := filepath.Abs("../../../deploy/compose.yaml")
	require.NoError(t, err)
	options, err := cli.NewProjectOptions([]string{file}, cli.WithWorkingDirectory(filepath.Dir(file)))
	require.NoError(t, err)
	project, err := options.LoadProject(t.Context())
	require.NoError(t, err)
	var names []string
	for name := range project.Services {
		names = append(names, name)
	}
	require.ElementsMatch(t, []string{"sched-1", "sched-2", "sched-3", "migrate", "etcd-1", "etcd-2", "etcd-3", "database"}, names)
	for _, name := range []string{"sched-1", "sched-2", "sched-3"} {
		replica := project.Services[name]
		require.Equal(t, name, replica.Hostname)
		require.Equal(t, types.ServiceConditionCompletedSuccessfully, replica.DependsOn["migrate"].Condition)
		requireConfined(t, replica)
	}
	requireConfined(t, project.Services["migrate"])
	require.Equal(t, types.ServiceConditionHealthy, project.Services["migrate"].DependsOn["database"].Condition)
	cluster := *project.Services["etcd-1"].Environment["ETCD_INITIAL_CLUSTER"]
	for _, name := range []string{"etcd-1", "etcd-2", "etcd-3"} {
		member := project.Services[name]
		require.Equal(t, name, *member.Environment["ETCD_NAME"])
		require.Contains(t, cluster, name+"="+*member.Environment["ETCD_INITIAL_ADVERTISE_PEER_URLS"])
		require.Equal(t, cluster, *member.Environment["ETCD_INITIAL_CLUSTER"])
		require.Len(t, member.Volumes, 1)
	}
}

func requireConfined(t *testing.T, s types.ServiceConfig) {
	t.Helper()
	require.True(t, s.ReadOnly)
	require.Equal(t, []string{"ALL"}, s.CapDrop)
	require.Contains(t, s.SecurityOpt, "no-new-privileges:true")
}

// TestComposeRefusesUnknownKeys: it is the specification that the test above holds the file to.
func TestComposeRefusesUnknownKeys(t *testing.T) {
	file := filepath.Join(t.TempDir(), "compose.yaml")
	require.NoError(t, os.WriteFile(file, []byte("name: x\nservices: {a: {image: a, imagee: b}}\n"), 0o600))
	options, err := cli.NewProjectOptions([]string{file})
	require.NoError(t, err)
	_, err = options.LoadProject(t.Context())
	require.ErrorContains(t, err, "imagee")
}
