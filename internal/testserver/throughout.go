package testserver

import (
	"testing"
	"time"
)

// Throughout requires that a condition holds as long as that, and looks so often. It asks in the
// test's own goroutine, so nothing of it is at work when the test goes on.
func Throughout(t testing.TB, condition func() bool, length, every time.Duration) {
	t.Helper()
	for over := time.Now().Add(length); time.Now().Before(over); time.Sleep(every) {
		if !condition() {
			t.Fatal("what has to hold all the time does not hold any more")
		}
	}
}
