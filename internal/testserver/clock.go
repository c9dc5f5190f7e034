package testserver

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Clock is the wall clock of a server, as libfaketime lets the server see it.
type Clock struct{ file string }

// StartWithClock is [StartAnother] with a clock that the test can set.
func StartWithClock(t testing.TB, options ...string) (*Server, *Clock) {
	t.Helper()
	libraries, err := filepath.Glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
	require.NoError(t, err)
	require.NotEmpty(t, libraries, "libfaketime is missing; 'deploy/install-test-deps' installs it, and 'make test' calls that")
	c := &Clock{filepath.Join(t.TempDir(), "ahead")}
	c.Set(t, 0)
	return startAnother(t, func(kind Kind, dir string) (*Server, error) {
		s, err := prepare(kind, dir, options...)
		if err != nil {
			return nil, err
		}
		s.env = append(os.Environ(), "LD_PRELOAD="+libraries[0], "FAKETIME_TIMESTAMP_FILE="+c.file, "FAKETIME_CACHE_DURATION=1", "FAKETIME_DONT_FAKE_MONOTONIC=1", "FAKETIME_FORCE_MONOTONIC_FIX=0")
		return s, s.run()
	}), c
}

// Set sets how far the clock is ahead of this machine's. Monotonic clocks are not changed.
func (c *Clock) Set(t testing.TB, ahead time.Duration) {
	t.Helper()
	next := c.file + ".next" // the server may read at any moment
	require.NoError(t, os.WriteFile(next, fmt.Appendf(nil, "%+f\n", ahead.Seconds()), 0o600))
	require.NoError(t, os.Rename(next, c.file))
}
