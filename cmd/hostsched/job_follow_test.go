package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/labapi"
)

// TestHowAJobEnds: the exit code of whoever waits for a job.
func TestHowAJobEnds(t *testing.T) {
	for state, code := range map[labapi.JobState]int{labapi.JobPassed: exitOK, labapi.JobFailed: exitFailed, labapi.JobAborted: exitAborted} {
		over, err := endOf(labapi.Job{State: state})
		require.True(t, over, state)
		if code == exitOK {
			require.NoError(t, err, state)
			continue
		}
		require.Equal(t, code, exitCode(err), state)
	}
	for _, state := range []labapi.JobState{labapi.JobQueued, labapi.JobRunning} {
		over, err := endOf(labapi.Job{State: state})
		require.False(t, over, state)
		require.NoError(t, err, state)
	}
}
