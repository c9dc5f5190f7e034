package config

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/hostsched/hostsched/internal/spelling"
)

// Environment variables that are no settings.
const (
	configEnv   = envPrefix + "CONFIG"
	autotestEnv = envPrefix + "AUTOTEST_CONFIG"
	// testEnv begins the names of variables that only tests know.
	testEnv = envPrefix + "TEST_"
	// goldenEnv is where the test of recorded scenarios finds more of them, and
	// mysqlEnv where tests find MySQL: programs that tests start inherit them.
	goldenEnv = envPrefix + "GOLDEN_DIR"
	mysqlEnv  = envPrefix + "MYSQL_DIR"
)

// Variables of the commands that call the API. The name of a server is a setting, too; an
// address in its place is the server that those commands call.
const (
	ServerEnv  = envPrefix + "SERVER"
	TokenEnv   = envPrefix + "TOKEN"
	ContextEnv = envPrefix + "CONTEXT"
)

// ofClient tells whether a variable is for the commands that call the API.
func ofClient(name, value string) bool {
	return name == TokenEnv || name == ContextEnv || name == ServerEnv && (strings.Contains(value, "://") || strings.HasPrefix(value, "unix:"))
}

// environment returns the variables that are about hostsched.
func environment() map[string]string {
	out := map[string]string{}
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, envPrefix) && !ofClient(name, value) {
			out[name] = value
		}
	}
	return out
}

// checkEnvironment refuses variables that look like settings and are none: a
// mistyped one would be ignored.
func (c *Config) checkEnvironment(env map[string]string) error {
	known := []string{configEnv, autotestEnv}
	for _, s := range c.settings {
		known = append(known, s.envName())
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if slices.Contains(known, name) || ofTests(name) || ofKubernetes(name, env[name]) {
			continue
		}
		return fmt.Errorf("%w: environment variable %s is no setting%s", ErrConfig, name, didYouMean(name, known))
	}
	return nil
}

func ofTests(name string) bool {
	return strings.HasPrefix(name, testEnv) || name == goldenEnv || name == mysqlEnv
}

var kubernetesEnv = regexp.MustCompile(`_SERVICE_HOST$|_SERVICE_PORT(_|$)|_PORT_\d+_(TCP|UDP|SCTP)(_|$)`)

// ofKubernetes tells whether a variable comes with a Kubernetes service that is
// called hostsched: HOSTSCHED_SERVICE_HOST, HOSTSCHED_PORT=tcp://…, and so on.
func ofKubernetes(name, value string) bool {
	return kubernetesEnv.MatchString(name) || strings.HasSuffix(name, "_PORT") && strings.Contains(value, "://")
}

// didYouMean words the known name that is nearest to an unknown one.
func didYouMean(name string, known []string) string {
	if len(known) == 0 {
		return ""
	}
	slices.Sort(known)
	return fmt.Sprintf("; did you mean %s? 'hostsched serve --help' shows all settings", spelling.Nearest(name, known))
}
