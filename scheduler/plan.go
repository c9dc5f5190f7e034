package scheduler

import (
	"fmt"
	"strings"
)

// Plan is what one tick will do. It is a value that can be printed, compared and applied.
type Plan struct {
	// Leases are hosts of frontend tasks that become leased.
	Leases []Lease
	// Assignments assign hosts to entries, in the order of the queue.
	Assignments []Assignment
	// Changes are status changes of entries that get no host in this plan. They belong to
	// synchronous jobs that start or stop now.
	Changes []Change
	// Releases release unused hosts.
	Releases []Release
	// Unlocks end locks whose time is over. Drained hosts become locked, and Aborts end
	// what uses a draining host after its deadline.
	Unlocks []Unlock
	Drained []Drained
	Aborts  []Abort
	// Moves hand unused hosts over to the shard they belong to.
	Moves []Move
	// Waiting are the entries that got no host, each with its reason. Entries with the
	// same request share a reason.
	Waiting []Waiting
	// Problems are malformed rows that were reported and skipped.
	Problems []Problem
	// Basis is what the plan depends on.
	Basis Basis
}

// Lease is a host leased for a frontend task.
type Lease struct {
	Host     HostID
	Hostname string
}

// Release is a host that is released.
type Release struct {
	Host     HostID
	Hostname string
}

// Move hands a host over to another shard, or to the master if To is 0.
type Move struct {
	Host     HostID
	Hostname string
	To       ShardID
}

// Round tells in which round of a tick an entry got its host.
type Round int8

// The rounds of a tick.
const (
	RoundNamed   Round = 0 // the entry names the host
	RoundMinimum Round = 1 // the suite's guaranteed minimum
	RoundRest    Round = 2 // all other requests
)

// Tasks is the set of special tasks queued for an assignment.
type Tasks uint8

// The pre-job tasks, in the order in which they are queued.
const (
	Provision Tasks = 1 << iota
	Reset
	Cleanup
	Verify
)

// Names returns the values of afe_special_tasks.task, in queueing order.
func (t Tasks) Names() []string {
	var names []string
	for _, n := range [...]struct {
		task Tasks
		name string
	}{{Provision, "Provision"}, {Reset, "Reset"}, {Cleanup, "Cleanup"}, {Verify, "Verify"}} {
		if t&n.task != 0 {
			names = append(names, n.name)
		}
	}
	return names
}

// Assignment assigns a host to an entry.
type Assignment struct {
	Entry    EntryID
	Job      JobID
	Suite    JobID // 0 if the job has no parent
	Host     HostID
	Hostname string
	Round    Round
	// Named is true when the entry already carried the host's id.
	Named bool
	// Tasks are the pre-job tasks, which are requested in the name of the job's owner.
	Tasks       Tasks
	RequestedBy UserID
	// Status is the status of the entry after this plan. It is Queued if the entry waits
	// for pre-job tasks, and otherwise Pending, Starting or Stopped.
	Status EntryStatus
	// Subdir is the execution_subdir of an entry that starts. It is empty for others.
	Subdir string
	// Synch is true for jobs whose entries start together. Their assignments and changes
	// must be written in one transaction.
	Synch    bool
	Priority int64
	// QueuedSeconds is how long the job has been waiting. It is negative if unknown.
	QueuedSeconds int64
}

// Change changes the status of an entry that gets no host in this plan.
type Change struct {
	Entry  EntryID
	Job    JobID
	Host   HostID // 0 if it has none
	From   EntryStatus
	Status EntryStatus
	Subdir string
}

// Waiting is an entry that got no host.
type Waiting struct {
	Entry  EntryID
	Job    JobID
	Reason *Reason
}

// Problem is a malformed row. Entry is 0 if the row is no queue entry.
type Problem struct {
	Entry EntryID
	Text  string
}

// Empty tells whether applying the plan would change nothing.
func (p Plan) Empty() bool {
	return len(p.Leases) == 0 && len(p.Assignments) == 0 && len(p.Changes) == 0 && len(p.Releases) == 0 && len(p.Moves) == 0 &&
		len(p.Unlocks) == 0 && len(p.Drained) == 0 && len(p.Aborts) == 0
}

// String prints the plan, with one line for each change.
func (p Plan) String() string {
	var b strings.Builder
	for _, l := range p.Leases {
		fmt.Fprintf(&b, "lease    host %s (%d) for a frontend task\n", l.Hostname, l.Host)
	}
	for _, a := range p.Assignments {
		fmt.Fprintf(&b, "assign   entry %d of job %d (suite %d) -> host %s (%d), round %d, %s", a.Entry, a.Job, a.Suite, a.Hostname, a.Host, a.Round, a.Status)
		if a.Tasks != 0 {
			fmt.Fprintf(&b, " after %s", strings.Join(a.Tasks.Names(), ", "))
		}
		b.WriteByte('\n')
	}
	for _, c := range p.Changes {
		fmt.Fprintf(&b, "change   entry %d of job %d: %s -> %s\n", c.Entry, c.Job, c.From, c.Status)
	}
	for _, r := range p.Releases {
		fmt.Fprintf(&b, "release  host %s (%d)\n", r.Hostname, r.Host)
	}
	for _, u := range p.Unlocks {
		fmt.Fprintf(&b, "unlock   host %s (%d): its lock is over\n", u.Hostname, u.Host)
	}
	for _, d := range p.Drained {
		fmt.Fprintf(&b, "lock     host %s (%d): drained for %s\n", d.Hostname, d.Host, d.By)
	}
	for _, a := range p.Aborts {
		fmt.Fprintf(&b, "abort    entry %d of job %d: host %d drains and its deadline is past\n", a.Entry, a.Job, a.Host)
	}
	for _, m := range p.Moves {
		fmt.Fprintf(&b, "move     host %s (%d) to shard %d\n", m.Hostname, m.Host, m.To)
	}
	for _, w := range p.Waiting {
		fmt.Fprintf(&b, "wait     entry %d of job %d: %s\n", w.Entry, w.Job, w.Reason)
	}
	for _, pr := range p.Problems {
		fmt.Fprintf(&b, "problem  %s\n", pr.Text)
	}
	return b.String()
}
