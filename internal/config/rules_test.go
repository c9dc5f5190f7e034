package config

import (
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/scheduler"
)

func loaded(t *testing.T, args ...string) *Config {
	t.Helper()
	c := &Config{}
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	c.Bind(flags, AllGroups)
	require.NoError(t, flags.Parse(append([]string{"--database-dsn", "sqlite:x"}, args...)))
	require.NoError(t, c.Load())
	return c
}

// TestRulesLike: every rule of a replica comes over, but for what somebody said here.
func TestRulesLike(t *testing.T) {
	theirs := loaded(t, "--scheduler-policy", "exact", "--scheduler-aging", "2.5", "--labels-respect-static",
		"--labels-provision-keys", "b,a", "--labels-dropped-keys", "", "--labels-skip-provision", "skip")
	like, apart, err := loaded(t).RulesLike(theirs.Rules())
	require.NoError(t, err)
	require.Empty(t, apart)
	want := theirs.Scope().Rules
	want.Actions.Provision = []string{"a", "b"}
	require.Equal(t, want, like)

	ours := loaded(t, "--scheduler-aging", "3", "--labels-skip-provision", "skip")
	like, apart, err = ours.RulesLike(theirs.Rules())
	require.NoError(t, err)
	require.Equal(t, []RuleApart{{"scheduler.aging", "3", "2.5"}}, apart)
	require.InDelta(t, 3, like.Aging, 0)
	require.Equal(t, scheduler.PolicyExact, like.Policy)
	require.InDelta(t, 3, ours.Scope().Rules.Aging, 0, "the configuration stays as it is")

	_, _, err = loaded(t).RulesLike(map[string]string{PolicyRule: "best"})
	require.ErrorContains(t, err, `scheduler.policy: "best" is not exact or optimal`)
	like, _, err = loaded(t).RulesLike(nil)
	require.NoError(t, err)
	require.Equal(t, loaded(t).Scope().Rules, like, "an older replica says nothing")
}
