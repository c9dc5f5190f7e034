package lifecycle

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hostsched/hostsched/scheduler"
)

// ErrNotNow means that the rows do not allow an event: somebody else was faster, or the
// caller is mistaken. Nothing is to be written.
var ErrNotNow = errors.New("not possible in this state")

// Event is something that happened.
type Event interface {
	// apply changes the state, or fails with ErrNotNow.
	apply(s *State) error
}

// Next returns the state after an event. The state before is not changed.
func Next(before State, e Event) (after State, err error) {
	s := before.clone()
	if err := e.apply(s); err != nil {
		return before, err
	}
	return *s, nil
}

// TaskStarted: a claimant took a special task up.
type TaskStarted struct{ Task TaskID }

func (ev TaskStarted) apply(s *State) error {
	t, ok := s.Tasks[ev.Task]
	if !ok || t.Active || t.Complete {
		return fmt.Errorf("%w: task %d does not wait", ErrNotNow, ev.Task)
	}
	if e, ok := s.Entries[t.Entry]; ok && t.Kind != Repair && e.Aborted {
		return fmt.Errorf("%w: entry %d is aborted", ErrNotNow, t.Entry)
	}
	if err := s.mayUse(t.Host, t.Entry); err != nil {
		return err
	}
	t.Active = true
	s.Tasks[ev.Task] = t
	status := during[t.Kind]
	if t.Entry != 0 && t.Kind != Repair {
		s.setEntry(t.Entry, status.entry)
	}
	s.setHost(t.Host, status.host)
	switch t.Kind {
	case Reset:
		s.drop(t.Host, Cleanup, Verify, Reset)
	case Verify:
		s.drop(t.Host, Verify)
	}
	return nil
}

// TaskEnded: a special task came to its end, or its claimant was lost (not OK then).
type TaskEnded struct {
	Task TaskID
	OK   bool
	// Lost means that nobody knows what the host does: then the task counts as failed also on
	// a host whose failures count for nothing.
	Lost bool
}

func (ev TaskEnded) apply(s *State) error {
	t, ok := s.Tasks[ev.Task]
	if !ok || !t.Active || t.Complete {
		return fmt.Errorf("%w: task %d does not run", ErrNotNow, ev.Task)
	}
	t.Active, t.Complete, t.Success = false, true, ev.OK
	s.Tasks[ev.Task] = t
	if t.Kind == Repair {
		s.repaired(t, ev.OK || s.excused(t.Host) && !ev.Lost)
		return nil
	}
	if e, ok := s.Entries[t.Entry]; ok && e.Aborted {
		return Abort{Entry: t.Entry, Killed: true}.apply(s)
	}
	if !ev.OK && (ev.Lost || !s.excused(t.Host)) {
		s.failed(t)
		return nil
	}
	s.succeeded(t)
	return nil
}

// excused tells whether tasks that fail on a host count as done.
func (s *State) excused(host scheduler.HostID) bool {
	return s.Hosts[host].Protection == scheduler.DoNotVerify
}

func (s *State) repaired(t Task, ok bool) {
	if ok {
		s.setHost(t.Host, scheduler.HostReady)
		return
	}
	s.setHost(t.Host, HostRepairFailed)
	s.failUnlessElsewhere(t.Entry)
}

// succeeded is the end of a task that counts as done.
func (s *State) succeeded(t Task) {
	if t.Kind == Reset || t.Kind == Cleanup {
		s.setDirty(t.Host, false)
	}
	if t.Kind != Provision || t.Entry == 0 {
		s.setHost(t.Host, scheduler.HostReady)
	}
	if t.Entry == 0 || !preJob(s.Entries[t.Entry].Status) {
		return
	}
	open := s.openOf(t.Entry, t.Host)
	if t.Kind == Cleanup && s.Job.RunVerify && !s.excused(t.Host) && len(open) == 0 {
		s.queue(Verify, t.Host, t.Entry, t.RequestedBy)
		return
	}
	if len(open) == 0 {
		s.onPending(t.Entry)
	}
}

// mayUse tells why no task can start on a host, for an entry or for none: a person holds it,
// or something goes on there.
func (s *State) mayUse(host scheduler.HostID, entry scheduler.EntryID) error {
	h := s.Hosts[host]
	if h.Locked {
		return fmt.Errorf("%w: host %d is locked", ErrNotNow, host)
	}
	if h.Busy {
		return fmt.Errorf("%w: an entry of another job has host %d", ErrNotNow, host)
	}
	for id, e := range s.Entries {
		if e.Host == host && e.Active && id != entry {
			return fmt.Errorf("%w: entry %d has host %d", ErrNotNow, id, host)
		}
	}
	if active := s.tasks(func(t Task) bool { return t.Active && t.Host == host }); len(active) > 0 {
		return fmt.Errorf("%w: task %d runs on host %d", ErrNotNow, active[0], host)
	}
	return nil
}

// RunClaimed: a claimant took a job up, for these entries.
type RunClaimed struct{ Entries []scheduler.EntryID }

func (ev RunClaimed) apply(s *State) error {
	if err := s.starting(ev.Entries, false); err != nil {
		return err
	}
	s.claim(ev.Entries, true)
	return nil
}

// starting fails unless entries may begin to run on their hosts, and are claimed or not.
func (s *State) starting(ids []scheduler.EntryID, claimed bool) error {
	for _, id := range ids {
		e := s.Entries[id]
		if e.Status != scheduler.StatusStarting || e.Aborted || e.Claimed != claimed {
			return fmt.Errorf("%w: entry %d is %s, not Starting, or aborted, or claimed by another run", ErrNotNow, id, e.Status)
		}
		if h := s.Hosts[e.Host].Status; e.Host != 0 && h != scheduler.HostPending {
			return fmt.Errorf("%w: host %d of entry %d is %s, not Pending", ErrNotNow, e.Host, id, h)
		}
	}
	return nil
}

func (s *State) claim(ids []scheduler.EntryID, claimed bool) {
	for _, id := range ids {
		e := s.Entries[id]
		e.Claimed = claimed
		s.Entries[id] = e
	}
}

// RunStarted: the process of a job began on the hosts of these entries.
type RunStarted struct{ Entries []scheduler.EntryID }

func (ev RunStarted) apply(s *State) error {
	if err := s.starting(ev.Entries, true); err != nil {
		return err
	}
	for _, id := range ev.Entries {
		e := s.Entries[id]
		e.Started = true
		s.Entries[id] = e
		s.setEntry(id, StatusRunning)
		s.setHost(e.Host, HostRunning)
		s.setDirty(e.Host, true)
	}
	return nil
}

// RunEnded: the process ended by itself, was killed, or never came to be.
type RunEnded struct{ Entries []scheduler.EntryID }

func (ev RunEnded) apply(s *State) error {
	return s.step(ev.Entries, StatusGathering, StatusRunning, scheduler.StatusStarting)
}

// step moves entries from one status to the next.
func (s *State) step(ids []scheduler.EntryID, to scheduler.EntryStatus, from ...scheduler.EntryStatus) error {
	for _, id := range ids {
		if status := s.Entries[id].Status; !slices.Contains(from, status) {
			return fmt.Errorf("%w: entry %d is %s, not %s", ErrNotNow, id, status, from[0])
		}
	}
	for _, id := range ids {
		s.setEntry(id, to)
	}
	return nil
}

// Gathered: what the run left on the hosts was collected; they are free for what comes next.
type Gathered struct {
	Entries []scheduler.EntryID
	// OK means that the process ended with 0.
	OK          bool
	TestsFailed int
	// Lost means that nobody knows what the hosts do: they are reset first. Unusable means
	// that the run found that they need repair.
	Lost, Unusable bool
}

func (ev Gathered) apply(s *State) error {
	if err := s.step(ev.Entries, StatusParsing, StatusGathering); err != nil {
		return err
	}
	for _, id := range ev.Entries {
		e := s.Entries[id]
		switch {
		case e.Host == 0:
		case ev.Lost:
			s.queue(Reset, e.Host, 0, s.System)
		case ev.Unusable:
			s.queue(Repair, e.Host, 0, s.Job.Owner)
		default:
			s.afterRun(e.Host, e.Aborted, ev.OK, ev.TestsFailed)
		}
	}
	return nil
}

// Parsed: the results are known, and the entries end.
type Parsed struct {
	Entries []scheduler.EntryID
	OK      bool
}

func (ev Parsed) apply(s *State) error {
	if err := s.step(ev.Entries, StatusParsing, StatusParsing); err != nil {
		return err
	}
	s.claim(ev.Entries, false)
	for _, id := range ev.Entries {
		switch {
		case s.Entries[id].Aborted:
			s.end(id, StatusAborted)
		case ev.OK:
			s.end(id, StatusCompleted)
		default:
			s.end(id, StatusFailed)
		}
	}
	return nil
}

// Requeued: a claimant gave a run back, or was lost, before anything had begun, or the job
// may be run again after the run itself failed. The hosts are reset, whatever is true.
type Requeued struct{ Entries []scheduler.EntryID }

func (ev Requeued) apply(s *State) error {
	for _, id := range ev.Entries {
		e := s.Entries[id]
		if !e.Claimed || e.Status != scheduler.StatusStarting && e.Status != StatusGathering {
			return fmt.Errorf("%w: entry %d is %s, or no run has it", ErrNotNow, id, e.Status)
		}
	}
	s.claim(ev.Entries, false)
	for _, id := range ev.Entries {
		s.giveBack(id)
	}
	return nil
}

// giveBack lets an entry wait again whose host is in a state that nobody knows. One whose end
// was asked for ends.
func (s *State) giveBack(id scheduler.EntryID) {
	host := s.Entries[id].Host
	s.queue(Reset, host, 0, s.System)
	if s.Entries[id].Aborted {
		s.end(id, StatusAborted)
		return
	}
	s.requeue(id)
}

// Stranded: nothing goes on for an entry whose status says that something does, as after
// somebody deleted rows. What had begun is lost, what had not is done again.
type Stranded struct{ Entry scheduler.EntryID }

func (ev Stranded) apply(s *State) error {
	e := s.Entries[ev.Entry]
	one := []scheduler.EntryID{ev.Entry}
	switch {
	case e.Claimed:
	case e.preparing() && len(s.preJobTasks(ev.Entry)) == 0:
		s.setDirty(e.Host, true)
		s.giveBack(ev.Entry)
		return nil
	case e.Status == StatusRunning, e.Status == StatusGathering:
		s.setEntry(ev.Entry, StatusGathering)
		if err := (Gathered{Entries: one, Lost: true}).apply(s); err != nil {
			return err
		}
		return Parsed{Entries: one}.apply(s)
	case e.Status == StatusParsing:
		return Parsed{Entries: one}.apply(s)
	}
	return fmt.Errorf("%w: entry %d is %s, and something goes on for it", ErrNotNow, ev.Entry, e.Status)
}

// Settle: a job has entries that are Pending, and should start or stop. Two that became
// Pending at once, the planner's and another one, each saw one only; and those that were
// aborted leave others behind.
type Settle struct{}

func (Settle) apply(s *State) error {
	for _, m := range s.members() {
		if m.Status != scheduler.StatusPending {
			continue
		}
		after := scheduler.OnPending(s.Job.SynchCount, s.members(), m.ID)
		if slices.Equal(after, s.members()) {
			break
		}
		s.take(after)
		return nil
	}
	return fmt.Errorf("%w: no entry of the job is to start or to stop", ErrNotNow)
}

// Abort: somebody asked for the end of an entry, and it can end now. As long as a task or a
// run goes on for it, its claimant must be told to stop first; the end of that aborts it.
type Abort struct {
	Entry scheduler.EntryID
	// Killed means that what went on for the entry was stopped.
	Killed bool
}

func (ev Abort) apply(s *State) error {
	e, ok := s.Entries[ev.Entry]
	if !ok || !e.Aborted {
		return fmt.Errorf("%w: nobody asked for the end of entry %d", ErrNotNow, ev.Entry)
	}
	tasks := s.preJobTasks(ev.Entry)
	goesOn := slices.DeleteFunc(slices.Clone(tasks), func(id TaskID) bool { return !s.Tasks[id].Active })
	s.close(slices.DeleteFunc(tasks, func(id TaskID) bool { return s.Tasks[id].Active }))
	switch {
	case e.Complete, e.Status == StatusGathering, e.Status == StatusParsing:
		return nil // it ends by itself, as Aborted
	case len(goesOn) > 0 && !ev.Killed:
		return nil
	case e.Status == StatusRunning, e.Status == scheduler.StatusStarting && e.Claimed:
		return nil // RunEnded comes
	case e.Status == scheduler.StatusPending, e.Status == scheduler.StatusStarting:
		s.setHost(e.Host, scheduler.HostReady)
	case e.Status == scheduler.StatusProvisioning:
		s.queue(Repair, e.Host, 0, s.Job.Owner)
	case preJob(e.Status):
		s.queue(Cleanup, e.Host, 0, s.Job.Owner)
	}
	s.end(ev.Entry, StatusAborted)
	return nil
}

// HostlessEnded: an entry without host is done. A suite ends so when its jobs have.
type HostlessEnded struct {
	Entry scheduler.EntryID
	OK    bool
}

func (ev HostlessEnded) apply(s *State) error {
	e := s.Entries[ev.Entry]
	if e.Complete || !e.hostless() {
		return fmt.Errorf("%w: entry %d is %s, or needs a host", ErrNotNow, ev.Entry, e.Status)
	}
	e.Subdir, e.Started = "hostless", true
	s.Entries[ev.Entry] = e
	s.setEntry(ev.Entry, StatusParsing)
	return Parsed{Entries: []scheduler.EntryID{ev.Entry}, OK: ev.OK}.apply(s)
}

// Sweep: a host was found in a passing status, and nothing goes on there.
type Sweep struct{ Host scheduler.HostID }

func (ev Sweep) apply(s *State) error {
	if !Passing(s.Hosts[ev.Host].Status) {
		return fmt.Errorf("%w: host %d is %s", ErrNotNow, ev.Host, s.Hosts[ev.Host].Status)
	}
	return s.queueAlone(Reset, ev.Host)
}

// Recheck: a host that could not be repaired is verified again, because people repair hosts.
type Recheck struct{ Host scheduler.HostID }

func (ev Recheck) apply(s *State) error {
	if h := s.Hosts[ev.Host]; h.Status != HostRepairFailed || h.Locked {
		return fmt.Errorf("%w: host %d is %s, or locked", ErrNotNow, ev.Host, h.Status)
	}
	return s.queueAlone(Verify, ev.Host)
}

// queueAlone adds a task by the system, if nobody uses the host and no other task is open.
func (s *State) queueAlone(kind Kind, host scheduler.HostID) error {
	used := s.Hosts[host].Busy
	for _, e := range s.Entries {
		used = used || e.Host == host && e.Active
	}
	if used || len(s.tasks(func(t Task) bool { return t.open() && t.Host == host })) > 0 {
		return fmt.Errorf("%w: host %d is used, or has a task", ErrNotNow, host)
	}
	s.queue(kind, host, 0, s.System)
	return nil
}
