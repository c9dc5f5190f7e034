package lifecycle

import (
	"slices"

	"github.com/hostsched/hostsched/scheduler"
)

// Times are milliseconds since 1970 by the database's clock, durations milliseconds.
const (
	// MostLossGrace bounds LossGrace.
	MostLossGrace = 30_000
	// UnknownAfter is how long an agent may call without naming a run until the run is given
	// up. It is longer than a call may wait and be on its way: one that was sent before the
	// claim was answered cannot name its run.
	UnknownAfter = 45_000
	// HardGrace is how long a claimant has to enforce a time limit itself, before the
	// servers ask for it.
	HardGrace = 30_000
	// StopPatience is how long a run that was asked to stop may renew its lease. It is longer
	// than the longest time that a job may take to end.
	StopPatience = 11 * 60_000
	// OwnPatience is for how long a job that its submitter wants to run waits for somebody
	// who asks for it.
	OwnPatience = 60_000
	// RecheckEvery is how often hosts that could not be repaired are verified again, and
	// RecheckHosts how many at once.
	RecheckEvery = 30 * 60_000
	RecheckHosts = 30
)

// LossGrace is how long after the end of a lease of some length a run is given up. By then its
// claimant has stopped whatever there was: it counts from the sending of its last call.
func LossGrace(lease int64) int64 { return min(lease, MostLossGrace) }

// RunID is the id of a run.
type RunID int64

// RunState is hostsched_runs.state of a run that is not closed.
type RunState string

// The states of runs that are not closed.
const (
	StateClaimed   RunState = "claimed"
	StateRunning   RunState = "running"
	StateFinishing RunState = "finishing" // its process ended, and parts of its logs are missing
)

// Reason is why a run is to stop.
type Reason string

// Why runs stop.
const (
	StopAborted   Reason = "aborted"
	StopTimeout   Reason = "timeout"
	StopAgentStop Reason = "agent-stop"
)

// Run is what the sweeps look at in a run that is not closed.
type Run struct {
	ID    RunID
	State RunState
	// Repair means that it is the run of a Repair task: the end of an entry does not end it.
	Repair bool
	// LeaseUntil is when its lease of the length Lease ends.
	LeaseUntil, Lease int64
	// AgentSeen is when the process of the agent that has it called last, 0 if that process
	// is not there any more.
	AgentSeen int64
	// Claimed and Started are times. Started is 0 if its process has not begun.
	Claimed, Started int64
	// Hard is how long it may take, 0 for any time.
	Hard int64
	// Until is when a reservation ends, 0 for other runs.
	Until int64
	// EntryAborted means that somebody asked for the end of one of its entries, or of the
	// entry of its task; TaskAborted, of the task itself.
	EntryAborted, TaskAborted bool
	// AgentStops means that an administrator wants its agent to stop.
	AgentStops bool
	// StopSince is when it was asked to stop, 0 if it was not.
	StopSince int64
}

// MayRenew tells whether a call of a run renews its lease. One that does not stop when it is
// asked to loses its lease, because nothing else that the servers can do ends it.
func (r Run) MayRenew(now int64) bool {
	return r.State == StateFinishing || r.StopSince == 0 || now < r.StopSince+StopPatience
}

// Waiting is what the sweeps look at in an entry that is not complete.
type Waiting struct {
	ID    scheduler.EntryID
	Job   scheduler.JobID
	Entry Entry
	// Tasks is the number of its open special tasks on its host, Repair apart, Working how
	// many of these are active.
	Tasks, Working int
	// Deadline is when its job ends at the latest (afe_jobs.timeout_mins), 0 for never.
	Deadline int64
	// OwnSeen is when somebody last asked for a job that its submitter runs, 0 for others.
	OwnSeen int64
	// Children is how many entries the children of its job have, Open how many of these are
	// not complete, Failed how many did not pass. They count for entries without host.
	Children, Open, Failed int
}

// SweptTask is a special task that is active.
type SweptTask struct {
	ID   TaskID
	Job  scheduler.JobID // that of its entry, 0 if it has none
	Host scheduler.HostID
	// Claimed means that a run that is not closed has it.
	Claimed bool
}

// SweptJob is a job with entries that are Pending.
type SweptJob struct {
	ID         scheduler.JobID
	SynchCount int
	// Statuses are those of all its entries.
	Statuses []scheduler.EntryStatus
}

// SweptHost is what the sweeps look at in a host.
type SweptHost struct {
	ID     scheduler.HostID
	Status string
	// Used means that an active entry has it; Tasks is the number of its open special tasks.
	Used   bool
	Tasks  int
	Locked bool
}

// Picture is what the sweeps look at. What is left out is left alone.
type Picture struct {
	Now int64
	// NoLossBefore is before when no run is given up, because the servers were away.
	NoLossBefore int64
	Runs         []Run
	Entries      []Waiting
	Tasks        []SweptTask
	Jobs         []SweptJob
	Hosts        []SweptHost
	// Rechecked is when hosts that could not be repaired were last verified again.
	Rechecked int64
}

// RunStop asks a run to stop.
type RunStop struct {
	Run    RunID
	Reason Reason
}

// Step is an event that is due, with the job or the host whose State it changes.
type Step struct {
	Job   scheduler.JobID  // 0 if it concerns a host alone
	Host  scheduler.HostID // 0 if it concerns a job alone
	Event Event
}

// Decisions are what is due. Each is looked at again under the locks of its rows: what has
// changed meanwhile is left to the next sweep.
type Decisions struct {
	// Lose are the runs that are given up because their leases have ended, Unknown those of
	// which their agents do not know.
	Lose, Unknown []RunID
	// Stop are the runs that are asked to stop.
	Stop []RunStop
	// TimedOut are the entries whose end is asked for because their job's time is over,
	// Deserted those of jobs for which their submitter does not ask any more.
	TimedOut, Deserted []scheduler.EntryID
	Steps              []Step
	// Recheck means that hosts that could not be repaired are verified again now.
	Recheck bool
}

// Due returns what is due.
func Due(p Picture) Decisions {
	var d Decisions
	for _, r := range p.Runs {
		reason, stops := r.stops(p.Now)
		switch {
		case r.lost(p.Now, p.NoLossBefore):
			d.Lose = append(d.Lose, r.ID)
		case r.unknown(p.Now):
			d.Unknown = append(d.Unknown, r.ID)
		case stops:
			d.Stop = append(d.Stop, RunStop{Run: r.ID, Reason: reason})
		}
	}
	for _, w := range p.Entries {
		d.waiting(w, p.Now)
	}
	for _, t := range p.Tasks {
		if !t.Claimed {
			d.Steps = append(d.Steps, Step{Job: t.Job, Host: t.Host, Event: TaskEnded{Task: t.ID, Lost: true}})
		}
	}
	for _, j := range p.Jobs {
		if j.unsettled() {
			d.Steps = append(d.Steps, Step{Job: j.ID, Event: Settle{}})
		}
	}
	for _, h := range p.Hosts {
		if Passing(h.Status) && !h.Used && h.Tasks == 0 {
			d.Steps = append(d.Steps, Step{Host: h.ID, Event: Sweep{Host: h.ID}})
		}
	}
	d.recheck(p)
	return d
}

// recheck verifies some hosts again that could not be repaired, others each time.
func (d *Decisions) recheck(p Picture) {
	d.Recheck = p.Now >= p.Rechecked+RecheckEvery
	if !d.Recheck {
		return
	}
	var broken []scheduler.HostID
	for _, h := range p.Hosts {
		if h.Status == HostRepairFailed && !h.Locked && h.Tasks == 0 && !h.Used {
			broken = append(broken, h.ID)
		}
	}
	for i := range min(len(broken), RecheckHosts) {
		first := int(p.Now / RecheckEvery * RecheckHosts % int64(len(broken)))
		host := broken[(first+i)%len(broken)]
		d.Steps = append(d.Steps, Step{Host: host, Event: Recheck{Host: host}})
	}
}

func (r Run) lost(now, noLossBefore int64) bool {
	return now > r.LeaseUntil+LossGrace(r.Lease) && now >= noLossBefore
}

// unknown tells whether the agent calls and does not name the run, or its lease would have been
// renewed: nothing works at it, and nothing will.
func (r Run) unknown(now int64) bool {
	renewed := r.LeaseUntil - r.Lease
	return r.AgentSeen > renewed+UnknownAfter && r.MayRenew(now)
}

// stops tells whether to ask a run to stop, and why. The process of one that is finishing has
// ended, and one that was asked is not asked again.
func (r Run) stops(now int64) (Reason, bool) {
	began := max(r.Claimed, r.Started)
	switch {
	case r.State == StateFinishing, r.StopSince != 0:
		return "", false
	case r.TaskAborted, r.EntryAborted && !r.Repair:
		return StopAborted, true
	case r.Hard > 0 && now > began+r.Hard+HardGrace, r.Until > 0 && now >= r.Until:
		return StopTimeout, true
	case r.AgentStops:
		return StopAgentStop, true
	}
	return "", false
}

func (d *Decisions) waiting(w Waiting, now int64) {
	e := w.Entry
	if e.Complete {
		return
	}
	step := func(ev Event) { d.Steps = append(d.Steps, Step{Job: w.Job, Event: ev}) }
	switch {
	case e.Aborted && !running(e.Status) && w.Working == 0 && !e.Claimed:
		step(Abort{Entry: w.ID})
	case w.stranded():
		step(Stranded{Entry: w.ID})
	case e.Aborted: // its run stops first
	case w.Deadline > 0 && now > w.Deadline:
		d.TimedOut = append(d.TimedOut, w.ID)
	case w.OwnSeen > 0 && !e.Claimed && now > w.OwnSeen+OwnPatience:
		d.Deserted = append(d.Deserted, w.ID)
	case e.hostless() && w.Open == 0:
		step(HostlessEnded{Entry: w.ID, OK: w.Children > 0 && w.Failed == 0})
	}
}

// stranded tells whether an entry is in a status that something going on must end, and
// nothing goes on.
func (w Waiting) stranded() bool {
	return !w.Entry.Claimed && (running(w.Entry.Status) || w.Entry.preparing() && w.Tasks == 0)
}

// unsettled tells whether a job has Pending entries that can start, or never will: two of
// them became Pending at once, or others were aborted.
func (j SweptJob) unsettled() bool {
	members := make([]scheduler.Member, len(j.Statuses))
	first := -1
	for i, status := range j.Statuses {
		members[i] = scheduler.Member{ID: scheduler.EntryID(i), Status: status}
		if first < 0 && status == scheduler.StatusPending {
			first = i
		}
	}
	if first < 0 {
		return false
	}
	return !slices.Equal(members, scheduler.OnPending(j.SynchCount, members, members[first].ID))
}
