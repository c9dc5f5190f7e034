package lifecycle

import (
	"maps"

	"github.com/hostsched/hostsched/scheduler"
)

// The statuses of entries that the planner does not know.
const (
	StatusRunning   scheduler.EntryStatus = "Running"
	StatusGathering scheduler.EntryStatus = "Gathering"
	StatusParsing   scheduler.EntryStatus = "Parsing"
	StatusCompleted scheduler.EntryStatus = "Completed"
	StatusFailed    scheduler.EntryStatus = "Failed"
	StatusAborted   scheduler.EntryStatus = "Aborted"
)

// Active tells whether an entry of a status, and with a host if it is Queued, uses its host:
// the column active follows the status.
func Active(s scheduler.EntryStatus) bool {
	switch s {
	case scheduler.StatusStarting, scheduler.StatusResetting, scheduler.StatusVerifying, scheduler.StatusProvisioning, scheduler.StatusCleaning,
		scheduler.StatusPending, StatusRunning, StatusGathering:
		return true
	}
	return false
}

// Complete tells whether a status is final: the column complete follows the status.
func Complete(s scheduler.EntryStatus) bool {
	switch s {
	case StatusCompleted, StatusFailed, StatusAborted, scheduler.StatusStopped:
		return true
	}
	return false
}

// preJob tells whether a special task runs for an entry of this status.
func preJob(s scheduler.EntryStatus) bool {
	switch s {
	case scheduler.StatusResetting, scheduler.StatusVerifying, scheduler.StatusProvisioning, scheduler.StatusCleaning:
		return true
	}
	return false
}

// running tells whether an entry of this status has a run that is not closed.
func running(s scheduler.EntryStatus) bool {
	return s == StatusRunning || s == StatusGathering || s == StatusParsing
}

// The statuses of hosts, beside scheduler.HostReady and HostPending.
const (
	HostRunning      = "Running"
	HostVerifying    = "Verifying"
	HostCleaning     = "Cleaning"
	HostResetting    = "Resetting"
	HostProvisioning = "Provisioning"
	HostRepairing    = "Repairing"
	HostRepairFailed = "Repair Failed"
)

// Passing tells whether a host status belongs to something that goes on: a task, or a run.
func Passing(status string) bool {
	switch status {
	case scheduler.HostPending, HostRunning, HostVerifying, HostCleaning, HostResetting, HostProvisioning, HostRepairing:
		return true
	}
	return false
}

// Kind is afe_special_tasks.task.
type Kind string

// The kinds of special tasks.
const (
	Provision Kind = "Provision"
	Reset     Kind = "Reset"
	Cleanup   Kind = "Cleanup"
	Verify    Kind = "Verify"
	Repair    Kind = "Repair"
)

// during is the status of the entry and of the host while a task of a kind runs.
var during = map[Kind]struct {
	entry scheduler.EntryStatus
	host  string
}{
	Provision: {scheduler.StatusProvisioning, HostProvisioning},
	Reset:     {scheduler.StatusResetting, HostResetting},
	Cleanup:   {scheduler.StatusCleaning, HostCleaning},
	Verify:    {scheduler.StatusVerifying, HostVerifying},
	Repair:    {"", HostRepairing},
}

// TaskID is the id of a special task. New ones have negative ids.
type TaskID int64

// Entry is what the rules look at in a row of afe_host_queue_entries.
type Entry struct {
	Job      scheduler.JobID
	Host     scheduler.HostID // 0 if it has none
	Status   scheduler.EntryStatus
	Active   bool
	Complete bool
	// Aborted means that somebody asked for its end.
	Aborted bool
	// Claimed means that a run of its job has it that is not closed. It is no column of the
	// row.
	Claimed bool
	// AnyHost is true if the entry asks for any host (meta_host), and may get another one.
	AnyHost bool
	// Started and Finished say that started_on and finished_on are set.
	Started, Finished bool
	Subdir            string
}

// hostless tells whether an entry needs no host: it is the one of a suite.
func (e Entry) hostless() bool { return e.Host == 0 && !e.AnyHost }

// preparing tells whether special tasks of an entry are to come or run.
func (e Entry) preparing() bool {
	return preJob(e.Status) || e.Status == scheduler.StatusQueued && e.Active
}

// Host is what the rules look at in a row of afe_hosts.
type Host struct {
	Hostname   string
	Status     string
	Dirty      bool
	Protection scheduler.Protection
	// Locked means that a person holds it: its tasks wait, too.
	Locked bool
	// Busy means that an active entry of another job has it.
	Busy bool
}

// RebootAfter is afe_jobs.reboot_after.
type RebootAfter int8

// The values of afe_jobs.reboot_after.
const (
	RebootAfterNever RebootAfter = iota
	RebootAfterPassed
	RebootAfterAlways
)

// Job is what the rules look at in a row of afe_jobs.
type Job struct {
	SynchCount  int
	RunVerify   bool
	RunReset    bool
	RebootAfter RebootAfter
	// Owner is the row of the owner in afe_users.
	Owner scheduler.UserID
}

// Task is a row of afe_special_tasks.
type Task struct {
	Kind        Kind
	Host        scheduler.HostID
	Entry       scheduler.EntryID // 0 if it is for nobody's run
	Active      bool
	Complete    bool
	Success     bool
	RequestedBy scheduler.UserID
}

// State is all that an event may touch: a job with all its entries, the hosts of those and the
// host of the task that the event is about, the tasks of these hosts that are not complete,
// and all tasks of the entries. Without a job it is one host with its tasks.
type State struct {
	Job     Job
	Entries map[scheduler.EntryID]Entry
	Hosts   map[scheduler.HostID]Host
	Tasks   map[TaskID]Task
	// Ineligible are the pairs of afe_ineligible_host_queues of the job.
	Ineligible map[scheduler.HostID]bool
	// System is the row of the system's user in afe_users.
	System scheduler.UserID
	Limits Limits
}

// Limits are how often something is tried.
type Limits struct {
	// ProvisionRetries is how many failed Provision tasks an entry may have and still be
	// queued again (Autotest's max_provision_retries).
	ProvisionRetries int
	// Repairs is how many Repair tasks an entry may have caused on a host (Autotest's
	// max_repair_limit).
	Repairs int
}

// DefaultLimits are those of Autotest's configuration.
func DefaultLimits() Limits { return Limits{ProvisionRetries: 0, Repairs: 2} }

// clone returns a State that can be changed.
func (s State) clone() *State {
	s.Entries = cloneMap(s.Entries)
	s.Hosts = cloneMap(s.Hosts)
	s.Tasks = cloneMap(s.Tasks)
	s.Ineligible = cloneMap(s.Ineligible)
	return &s
}

func cloneMap[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		return map[K]V{}
	}
	return maps.Clone(m)
}
