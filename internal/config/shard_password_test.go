package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/shard"
)

// TestPasswordsOfShardsByName: a shard whose name is no file's has the main database's
// password, whatever lies beside the folder.
func TestPasswordsOfShardsByName(t *testing.T) {
	dir := t.TempDir()
	c := &Config{secrets: map[string]secretSource{"database.password": {text: "main"}}}
	c.Shards.PasswordDir = filepath.Join(dir, "shards")
	require.NoError(t, os.Mkdir(c.Shards.PasswordDir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(c.Shards.PasswordDir, "b"), []byte("own\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "outside"), []byte("outside"), 0o600))
	for name, want := range map[string]string{
		"b": "own", "c": "main", ".": "main", "..": "main", "../outside": "main", strings.Repeat("ä", 190): "main",
	} {
		got, err := c.shardSecret(shard.Name(name)).Read()
		require.NoError(t, err, name)
		require.Equal(t, want, got, name)
	}
}
