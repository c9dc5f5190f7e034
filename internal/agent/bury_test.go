package agent

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/command"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/shim"
)

// TestWhyARunWasEnded: what was over when a run was ended stays the reason, although an answer
// that comes late renews the lease while that goes on.
func TestWhyARunWasEnded(t *testing.T) {
	a := New(&Config{})
	rec := record{Claimed: labapi.Claimed{Run: 1, LeaseMillis: 1000}, Sent: command.Now().Add(-time.Hour)}
	folder, err := shim.Create(filepath.Join(t.TempDir(), "1"), shim.Spec{}, a.control(rec.lease(), rec, nil))
	require.NoError(t, err)
	r := &run{agent: a, folder: folder, rec: rec, lease: rec.lease(), news: make(chan struct{}, 1), began: make(chan struct{}), over: make(chan struct{})}
	reason := r.overdue()
	require.Equal(t, shim.StopLease, reason)
	r.renewed(command.Now(), time.Hour)
	require.Empty(t, r.overdue())
	require.True(t, r.bury("it did not end", reason))
	require.Equal(t, labapi.RunFinish{Result: labapi.ResultInfra, Detail: "it did not end", StopReason: shim.StopLease, NotRunReason: shim.NotStarted}, r.finish)
}
