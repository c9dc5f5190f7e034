package runs

import (
	"errors"
	"fmt"
	"time"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/lifecycle"
)

// Errors that claimants tell apart.
var (
	// ErrOfferGone means that an offer is none any more: another was faster, or somebody
	// changed what it was about.
	ErrOfferGone = fmt.Errorf("%w: the offer is gone", lab.ErrConflict)
	// ErrRunLost means that a run is closed, or was given up: whoever works at it stops.
	ErrRunLost = fmt.Errorf("%w: the run is over", lab.ErrConflict)
	// ErrPartsMissing means that a run cannot be closed yet, because parts of its logs have
	// not come.
	ErrPartsMissing = fmt.Errorf("%w: parts of the logs are missing", lab.ErrConflict)
	// ErrAutotest means that Autotest's monitor_db runs the jobs of this lab.
	ErrAutotest = fmt.Errorf("%w: Autotest runs the jobs of this lab (runner: autotest)", lab.ErrConflict)

	// errMoved ends a transaction whose rows are not those that it had locked hosts for.
	errMoved = errors.New("the hosts of the entries changed")
)

// The defaults of what a configuration may say.
const (
	DefaultLease  = 10 * time.Minute
	DefaultLogCap = 64 << 20
)

// stopGrace is how long a process has between being asked to end and being killed.
const stopGrace = 30 * time.Second

// maxTries is how often an entry is queued again whose runs were given back or lost before
// they began.
const maxTries = 3

// taskTime is how long special tasks may take.
var taskTime = map[lifecycle.Kind]time.Duration{
	lifecycle.Verify:    10 * time.Minute,
	lifecycle.Cleanup:   20 * time.Minute,
	lifecycle.Reset:     20 * time.Minute,
	lifecycle.Provision: time.Hour,
	lifecycle.Repair:    time.Hour,
}

// The kinds of runs that are no special tasks.
const (
	kindJob     = "job"
	kindReserve = "reserve"
)

// States of runs that are closed.
const (
	stateDone = "done"
	stateLost = "lost"
)

// Runs does the work of runs in the database of a lab.
type Runs struct {
	// Lease is how long a claim lasts, LogCap how many bytes of a log are kept.
	Lease  time.Duration
	LogCap int64
	// Off means that Autotest runs the jobs.
	Off bool
	// Closed hears of each run that this process closes, with its result: lost of one that was
	// given up. It may be nil.
	Closed func(run Run, result string)

	lab *lab.Lab
	// lastWhole is when Sweep last looked at all that waits.
	lastWhole time.Time
	// lastCleared is when it last deleted all that finished jobs had left.
	lastCleared time.Time
}

// New returns the runs of a lab, with the defaults of what can be configured.
func New(l *lab.Lab) *Runs { return &Runs{Lease: DefaultLease, LogCap: DefaultLogCap, lab: l} }

// Claimant is the agent that takes an offer up.
type Claimant struct {
	Agent         int64
	Name, Session string
}

// who is how the journal names an agent.
func (c Claimant) who() string { return "agent " + c.Name }

// Run is a run that a claimant speaks of, as its token tells.
type Run struct {
	ID        int64
	Kind      string
	State     string
	Job, Task int64
	Agent     int64
	// Who is how the journal names the claimant.
	Who string
	// Stop is why it is to stop, nil if it is not.
	Stop *labapi.Stop

	stopSince int64
	result    string
}

// Open tells whether the run is not closed.
func (r Run) Open() bool { return r.State != stateDone && r.State != stateLost }

func (r Run) isTask() bool { return r.Kind != kindJob && r.Kind != kindReserve }

func (r *Runs) check() error {
	if r.Off {
		return ErrAutotest
	}
	return nil
}

func (r *Runs) answer(run Run) labapi.RunAnswer {
	return labapi.RunAnswer{LeaseMillis: r.Lease.Milliseconds(), Stop: run.Stop}
}

// tell tells of a run that is closed now.
func (r *Runs) tell(run Run, result string) {
	if r.Closed != nil {
		r.Closed(run, result)
	}
}
