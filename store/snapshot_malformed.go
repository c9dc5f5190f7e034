package store

import (
	"fmt"

	"github.com/hostsched/hostsched/scheduler"
)

func malformed(entry scheduler.EntryID, format string, args ...any) scheduler.Problem {
	return scheduler.Problem{Entry: entry, Text: fmt.Sprintf(format, args...)}
}

func malformedEntry(e *scheduler.Entry) scheduler.Problem {
	return malformed(e.ID, "entry %d, or its job %d, has a value that is no integer", e.ID, e.Job)
}

// rebootBefore treats values that Autotest does not know like Never, as it does.
func rebootBefore(n int64) scheduler.RebootBefore {
	if n == int64(scheduler.RebootIfDirty) || n == int64(scheduler.RebootAlways) {
		return scheduler.RebootBefore(n)
	}
	return scheduler.RebootNever
}
