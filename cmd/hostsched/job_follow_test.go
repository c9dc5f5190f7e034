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

// TestWhatAnEntryDoes: what is said of a job that runs does not contradict itself.
func TestWhatAnEntryDoes(t *testing.T) {
	for want, e := range map[string]labapi.Entry{
		"has host h1, and waits for its first task": {Status: "Queued", Host: "h1", Active: true},
		"Running on h1":         {Status: "Running", Host: "h1", Active: true},
		"Queued on no host yet": {Status: "Queued"},
	} {
		require.Equal(t, want, entryNow(e))
	}
}
