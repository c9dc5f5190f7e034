package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestHugeFilesAreRefused: whichever file is named, only its beginning is read.
func TestHugeFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	huge := filepath.Join(dir, globalConfig)
	f, err := os.Create(huge)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(1<<40), "the file has no blocks")
	require.NoError(t, f.Close())
	for _, args := range [][]string{
		{"--config", huge}, {"--autotest-config", dir}, {"--config", "/dev/zero"},
		{"--database-dsn", "sqlite:lab.db", "--database-password-file", huge},
		{"--database-dsn", "sqlite:lab.db", "--etcd-password-file", "/dev/zero"},
	} {
		c, flags := bound(t)
		require.NoError(t, flags.Parse(args))
		err := c.Load()
		require.ErrorIs(t, err, ErrConfig, "%v", args)
		require.ErrorContains(t, err, "more than 1048576 bytes; is it the right file?", "%v", args)
		require.NotContains(t, err.Error(), "\n")
	}
}

// TestLongLinesAreRead: only the file has a bound.
func TestLongLinesAreRead(t *testing.T) {
	c, err := loadAutotest(t, webSection+"[SERVER]\nsmtp_user: "+strings.Repeat("u", 200_000)+"\n", "")
	require.NoError(t, err)
	require.Len(t, c.Notify.SMTPUser, 200_000)
}
