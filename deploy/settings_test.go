package deploy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/hostsched/hostsched/internal/config"
)

// TestDeployedSettings: the configurations, flags and variables in compose.yaml and in
// kubernetes are those that there are, and each replica can be started with them.
func TestDeployedSettings(t *testing.T) {
	var compose struct {
		Services map[string]struct {
			Image, Hostname string
			Command         []string
			Environment     map[string]string
		}
		Configs map[string]struct{ Content string }
	}
	readYAML(t, "compose.yaml", &compose)
	replicas := 0
	for name, service := range compose.Services {
		if !strings.HasPrefix(service.Image, "hostsched:") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			loaded := load(t, compose.Configs["hostsched"].Content, service.Command, service.Environment)
			require.Len(t, loaded.Etcd.Endpoints, 3)
			for _, endpoint := range loaded.Etcd.Endpoints {
				require.Contains(t, compose.Services, strings.TrimSuffix(strings.TrimPrefix(endpoint, "http://"), ":2379"))
			}
		})
		if service.Command[0] == "serve" {
			replicas++
		}
	}
	require.Equal(t, 3, replicas)

	for _, pod := range []string{"kubernetes/base/replicas.yaml", "kubernetes/migrate/job.yaml"} {
		var object struct {
			Spec struct{ Template struct{ Spec podSpec } }
		}
		readYAML(t, pod, &object)
		environment := map[string]string{}
		for _, v := range object.Spec.Template.Spec.Containers[0].Env {
			environment[v.Name] = strings.NewReplacer("$(POD_NAME)", "hostsched-0", "$(POD_IP)", "10.0.0.1").Replace(v.Value)
		}
		for _, file := range []string{"kubernetes/base/hostsched.yaml", "kubernetes/example/hostsched.yaml"} {
			t.Run(pod+" "+file, func(t *testing.T) {
				text, err := os.ReadFile(file)
				require.NoError(t, err)
				loaded := load(t, string(text), object.Spec.Template.Spec.Containers[0].Args, environment)
				if strings.HasSuffix(pod, "replicas.yaml") {
					require.Equal(t, "hostsched-0", loaded.Server)
					require.Equal(t, "10.0.0.1:8470", loaded.Advertise)
				}
			})
		}
	}
}

type podSpec struct {
	Containers []struct {
		Args []string
		Env  []struct{ Name, Value string }
	}
}

func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, into))
}

// load is what the command makes of a configuration, its flags and its environment. The
// secrets are in a folder of the test.
func load(t *testing.T, text string, command []string, environment map[string]string) *config.Config {
	t.Helper()
	secrets := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(secrets, "db-password"), []byte("secret"), 0o600))
	text = strings.NewReplacer("/run/secrets/hostsched/", secrets+"/", "/run/secrets/", secrets+"/").Replace(text)
	file := filepath.Join(t.TempDir(), "hostsched.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	for name, value := range environment {
		if strings.HasPrefix(name, "HOSTSCHED_") {
			t.Setenv(name, value)
		}
	}
	var loaded config.Config
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	loaded.Bind(flags, config.AllGroups)
	require.NoError(t, flags.Parse(command))
	require.NoError(t, flags.Set("config", file))
	require.NoError(t, loaded.Load())
	require.True(t, loaded.Production)
	password, err := loaded.Secret("database.password").Read()
	require.NoError(t, err)
	require.Equal(t, "secret", password)
	return &loaded
}
