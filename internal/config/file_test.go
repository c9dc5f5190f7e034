package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDefaultFile: it is read if nobody says where the configuration comes from.
func TestDefaultFile(t *testing.T) {
	former := defaultFile
	t.Cleanup(func() { defaultFile = former })
	load := func(args ...string) (*Config, error) {
		c, flags := bound(t)
		require.NoError(t, flags.Parse(args))
		return c, c.Load()
	}
	defaultFile = writeFile(t, "server: from-default\ndatabase: {dsn: 'sqlite:y.db'}\n")
	c, err := load()
	require.NoError(t, err)
	require.Equal(t, "from-default", c.Server)
	other := writeFile(t, "server: from-other\ndatabase: {dsn: 'sqlite:y.db'}\n")
	for _, args := range [][]string{{"--config", other}, {"--database-dsn", dsn}, {"--standalone", "--data-dir", t.TempDir()}} {
		c, err := load(args...)
		require.NoError(t, err, args)
		require.NotEqual(t, "from-default", c.Server, args)
	}
	t.Setenv("HOSTSCHED_CONFIG", other)
	c, err = load()
	require.NoError(t, err)
	require.Equal(t, "from-other", c.Server)
	t.Setenv("HOSTSCHED_CONFIG", "")
	defaultFile = writeFile(t, "nonsense: 1\n")
	_, err = load()
	require.ErrorIs(t, err, ErrConfig)
	require.ErrorContains(t, err, defaultFile)
	defaultFile = "/nowhere/hostsched.yaml"
	_, err = load()
	require.ErrorContains(t, err, "no database")
}

// TestLoadNear: the folder of a standalone server that was found counts if nobody says where the
// lab is, and only then.
func TestLoadNear(t *testing.T) {
	former := defaultFile
	t.Cleanup(func() { defaultFile = former })
	defaultFile = "/nowhere/hostsched.yaml"
	folder := t.TempDir()
	load := func(folder string, args ...string) (*Config, error) {
		c, flags := bound(t)
		require.NoError(t, flags.Parse(args))
		return c, c.LoadNear(folder)
	}
	c, err := load(folder)
	require.NoError(t, err)
	require.True(t, c.Standalone)
	require.Equal(t, "sqlite:"+folder+"/lab.db", c.Database.DSN)
	_, err = load("")
	require.ErrorContains(t, err, "no database")
	other := t.TempDir()
	for _, args := range [][]string{{"--database-dsn", dsn}, {"--data-dir", other}, {"--config", writeFile(t, "database: {dsn: '"+dsn+"'}\n")}} {
		c, err := load(folder, args...)
		require.NoError(t, err, args)
		require.NotContains(t, c.Database.DSN, folder, args)
	}
	for _, args := range [][]string{{"--etcd-endpoints", "http://127.0.0.1:1"}, {"--standalone=false"}, {"--config", writeFile(t, "server: a\n")}} {
		_, err := load(folder, args...)
		require.ErrorContains(t, err, "no database", args)
	}
	t.Setenv("HOSTSCHED_DATABASE_DSN", dsn)
	c, err = load(folder)
	require.NoError(t, err)
	require.False(t, c.Standalone)
}
