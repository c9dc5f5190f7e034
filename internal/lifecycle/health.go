package lifecycle

import (
	"fmt"

	"github.com/hostsched/hostsched/scheduler"
)

// BadAfter is how many failures in a row make a host bad.
const BadAfter = 3

// Failure is what counts against a host.
type Failure struct {
	// What it was, for people: a failed repair, or a lost run.
	What string
	// Job is the job of a lost run. It is 0 for a repair.
	Job scheduler.JobID
}

// Health is what the lab remembers of a host's failures in a row. A bad host is not given
// out until a person unlocks it, which resets its Health.
type Health struct {
	Failures int
	// LastJob is the job of the last failure, 0 if that was a repair.
	LastJob scheduler.JobID
	Bad     bool
	Reason  string
}

// Worked is the Health after a task of a host succeeded, or a run on it ended and was heard
// of: whether the job passed says nothing of the host. A host that is bad remains so, because
// only a person can tell what was wrong.
func (h Health) Worked() Health {
	if h.Bad {
		return h
	}
	return Health{}
}

// Failed is the Health after a failure. A job that is lost again and again counts once: it,
// not the host, may be the cause.
func (h Health) Failed(f Failure) Health {
	if h.Bad || f.Job != 0 && f.Job == h.LastJob {
		return h
	}
	h.Failures++
	h.LastJob = f.Job
	if h.Failures >= BadAfter {
		h.Bad, h.Reason = true, fmt.Sprintf("%d failed repairs or lost runs in a row, the last: %s", h.Failures, f.What)
	}
	return h
}
