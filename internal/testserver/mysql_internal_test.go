package testserver

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMySQLIsToldFromMariaDBAndOldVersions(t *testing.T) {
	for text, want := range map[string]bool{
		"/usr/sbin/mysqld  Ver 8.0.39-0ubuntu0.22.04.1 for Linux on x86_64 ((Ubuntu))":                true,
		"/usr/sbin/mysqld  Ver 9.7.0 for debian-linux-gnu on x86_64 ((Debian))":                       true,
		"mysqld  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)":           false,
		"mysqld  Ver 5.7.42 for Linux on x86_64 (MySQL Community Server (GPL))":                       false,
		"mysqld: error while loading shared libraries: libaio.so.1: cannot open shared object file\n": false,
		"": false,
	} {
		require.Equal(t, want, isMySQLVersion(text), text)
	}
}

func TestMySQLDir(t *testing.T) {
	t.Setenv(mysqlDirEnv, "/elsewhere")
	require.Equal(t, "/elsewhere", mustMySQLDir(t))
	t.Setenv(mysqlDirEnv, "")
	t.Setenv("XDG_CACHE_HOME", "/cache")
	require.Equal(t, "/cache/hostsched/mysql", mustMySQLDir(t))
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "/home/alice")
	require.Equal(t, "/home/alice/.cache/hostsched/mysql", mustMySQLDir(t))
	require.NoError(t, os.Unsetenv("HOME")) // restored by Setenv's clean-up
	require.True(t, filepath.IsAbs(mustMySQLDir(t)), "without HOME it is the home folder in the password file")
}

func mustMySQLDir(t *testing.T) string {
	t.Helper()
	dir, err := mysqlDir()
	require.NoError(t, err)
	return dir
}

func TestChosen(t *testing.T) {
	for env, want := range map[string]Kind{"": MariaDB, "mariadb": MariaDB, "mysql": MySQL, "sqlite": SQLite} {
		t.Setenv(kindEnv, env)
		kind, err := Chosen()
		require.NoError(t, err)
		require.Equal(t, want, kind)
	}
	t.Setenv(kindEnv, "oracle")
	_, err := Chosen()
	require.ErrorContains(t, err, "oracle")
}
