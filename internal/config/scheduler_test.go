package config

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/scheduler"
)

// TestPolicy: a lab of its own wastes no host unless somebody wants otherwise, and beside
// Autotest everything is as it was.
func TestPolicy(t *testing.T) {
	c, err := loadFile(t, "")
	require.NoError(t, err)
	require.Equal(t, scheduler.PolicyOptimal, c.Scope().Rules.Policy)
	require.Zero(t, c.Scope().Rules.Aging)

	c, err = loadFile(t, "scheduler: {policy: exact, aging: 2.5}\n")
	require.NoError(t, err)
	require.Equal(t, scheduler.PolicyExact, c.Scope().Rules.Policy)
	require.InDelta(t, 2.5, c.Scope().Rules.Aging, 0)

	c, err = loadFile(t, "scheduler: {aging: -0.0}\n")
	require.NoError(t, err)
	require.Equal(t, "0", c.Rules()["scheduler.aging"], "two replicas with the two zeros have the same rules")

	c, err = loadAutotest(t, webSection, "")
	require.NoError(t, err)
	require.Equal(t, scheduler.PolicyExact, c.Scope().Rules.Policy)

	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, globalConfig), []byte(webSection), 0o600))
	c, err = loadFile(t, "scheduler: {policy: optimal}\n", "--autotest-config", dir)
	require.NoError(t, err)
	require.Equal(t, scheduler.PolicyOptimal, c.Scope().Rules.Policy, "our own file wins")

	for setting, want := range map[string]string{
		"scheduler.policy=best": `"best" is not exact or optimal`,
		"scheduler.policy=":     `is not exact or optimal`,
		"scheduler.aging=-1":    "out of bounds",
		"scheduler.aging=NaN":   "out of bounds",
		"scheduler.aging=soon":  "not a number",
	} {
		err := load(t, setting)
		require.ErrorIs(t, err, ErrConfig, setting)
		require.ErrorContains(t, err, want, setting)
	}
}

// TestRulesAreAllThatDecides: whatever the planner goes by is among the settings that replicas
// compare, but for whether the shard is the master, which follows from the shard.
func TestRulesAreAllThatDecides(t *testing.T) {
	base, err := loadFile(t, "")
	require.NoError(t, err)
	settings := map[string]string{
		"scheduler.policy": "scheduler: {policy: exact}", "scheduler.aging": "scheduler: {aging: 1}", "labels.respect_static": "labels: {respect_static: true}",
		"labels.provision_keys": "labels: {provision_keys: [x]}", "labels.dropped_keys": "labels: {dropped_keys: [x]}", "labels.skip_provision": "labels: {skip_provision: x}",
	}
	require.Equal(t, slices.Sorted(maps.Keys(settings)), slices.Sorted(maps.Keys(base.Rules())))
	besides := 2 // OnShard, and Actions as a whole
	require.Len(t, settings, reflect.TypeFor[scheduler.Rules]().NumField()-besides+reflect.TypeFor[scheduler.Actions]().NumField())
	for name, text := range settings {
		c, err := loadFile(t, text+"\n")
		require.NoError(t, err)
		require.NotEqual(t, base.Scope().Rules, c.Scope().Rules, name)
		for other, value := range c.Rules() {
			require.Equal(t, other != name, value == base.Rules()[other], "%s changes %s", text, other)
		}
	}
}
