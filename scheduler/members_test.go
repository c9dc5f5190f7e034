package scheduler_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/scheduler"
)

// TestMembers: an entry of a job that needs two hosts becomes Pending, or ends, while the other
// entry has each status.
func TestMembers(t *testing.T) {
	for other, want := range map[scheduler.EntryStatus]struct{ pending, ended scheduler.EntryStatus }{
		scheduler.StatusQueued:       {scheduler.StatusPending, scheduler.StatusStopped},
		scheduler.StatusVerifying:    {scheduler.StatusPending, scheduler.StatusVerifying},
		scheduler.StatusResetting:    {scheduler.StatusPending, scheduler.StatusResetting},
		scheduler.StatusProvisioning: {scheduler.StatusPending, scheduler.StatusProvisioning},
		scheduler.StatusPending:      {scheduler.StatusStarting, scheduler.StatusStopped},
		scheduler.StatusCleaning:     {scheduler.StatusStopped, scheduler.StatusCleaning},
		scheduler.StatusStarting:     {scheduler.StatusStopped, scheduler.StatusStarting},
		"Running":                    {scheduler.StatusStopped, "Running"},
		"Completed":                  {scheduler.StatusStopped, "Completed"},
	} {
		members := []scheduler.Member{{ID: 1, Host: 1, Hostname: "h1", Status: scheduler.StatusResetting}, {ID: 2, Host: 2, Hostname: "h2", Status: other}}
		require.Equal(t, want.pending, scheduler.OnPending(2, members, 1)[0].Status, "one is Pending, the other %s", other)
		members[0].Status = "Failed"
		require.Equal(t, want.ended, scheduler.StopUnreachable(2, members)[1].Status, "one failed, the other was %s", other)
	}
}
