package runlog_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/runlog"
)

// TestLeave: a log that is left before its pipe was read to its end is kept whole, and goes through
// whole to who takes it.
func TestLeave(t *testing.T) {
	var said atomic.Int64
	for range 500 {
		file := filepath.Join(t.TempDir(), "log")
		from, also, err := os.Pipe()
		require.NoError(t, err)
		o, err := runlog.Open(file, "stdout", runlog.Options{Cap: 1 << 20, Also: also, Said: &said})
		require.NoError(t, err)
		pipe, err := o.Pipe()
		require.NoError(t, err)
		var want strings.Builder
		for i := range 50 {
			fmt.Fprintln(&want, i)
			_, err := fmt.Fprintln(pipe, i)
			require.NoError(t, err)
		}
		require.NoError(t, pipe.Close())
		o.Leave()
		<-o.Done()
		_, err = o.End()
		require.NoError(t, err)
		require.NoError(t, also.Close())
		kept, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, want.String(), string(kept))
		passed, err := io.ReadAll(from)
		require.NoError(t, err)
		require.Equal(t, want.String(), string(passed))
		require.NoError(t, from.Close())
	}
}
