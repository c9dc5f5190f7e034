package lifecycle

import (
	"errors"
	"fmt"

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
}

func (ev TaskEnded) apply(s *State) error {
	t, ok := s.Tasks[ev.Task]
	if !ok || !t.Active || t.Complete {
		return fmt.Errorf("%w: task %d does not run", ErrNotNow, ev.Task)
	}
	t.Active, t.Complete, t.Success = false, true, ev.OK
	s.Tasks[ev.Task] = t
	if t.Kind == Repair {
		s.repaired(t)
		return nil
	}
	if e, ok := s.Entries[t.Entry]; ok && e.Aborted {
		return Abort{Entry: t.Entry, Killed: true}.apply(s)
	}
	if !ev.OK && s.Hosts[t.Host].Protection != scheduler.DoNotVerify {
		s.failed(t)
		return nil
	}
	s.succeeded(t)
	return nil
}

func (s *State) repaired(t Task) {
	if t.Success || s.Hosts[t.Host].Protection == scheduler.DoNotVerify {
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
	if t.Kind == Cleanup && s.Job.RunVerify && s.Hosts[t.Host].Protection != scheduler.DoNotVerify && len(open) == 0 {
		s.queue(Verify, t.Host, t.Entry, t.RequestedBy)
		return
	}
	if len(open) == 0 {
		s.onPending(t.Entry)
	}
}

// RunStarted: the process of a job began on the hosts of these entries.
type RunStarted struct{ Entries []scheduler.EntryID }

func (ev RunStarted) apply(s *State) error {
	for _, id := range ev.Entries {
		e := s.Entries[id]
		if e.Status != scheduler.StatusStarting || e.Aborted {
			return fmt.Errorf("%w: entry %d is %s, not Starting, or aborted", ErrNotNow, id, e.Status)
		}
		if h := s.Hosts[e.Host].Status; e.Host != 0 && h != scheduler.HostPending {
			return fmt.Errorf("%w: host %d of entry %d is %s, not Pending", ErrNotNow, e.Host, id, h)
		}
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
		if status := s.Entries[id].Status; !contains(from, status) {
			return fmt.Errorf("%w: entry %d is %s, not %s", ErrNotNow, id, status, from[0])
		}
	}
	for _, id := range ids {
		s.setEntry(id, to)
	}
	return nil
}

func contains(all []scheduler.EntryStatus, one scheduler.EntryStatus) bool {
	for _, s := range all {
		if s == one {
			return true
		}
	}
	return false
}

// Gathered: what the run left on the hosts was collected; they are free for what comes next.
type Gathered struct {
	Entries []scheduler.EntryID
	// OK means that the process ended with 0.
	OK          bool
	TestsFailed int
	// Lost means that nobody knows what the hosts do: they are reset first.
	Lost bool
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

// Requeued: a claimant gave a run back, or was lost, before anything had begun; it is safe to
// run the entries elsewhere.
type Requeued struct{ Entries []scheduler.EntryID }

func (ev Requeued) apply(s *State) error {
	if err := s.step(ev.Entries, scheduler.StatusStarting, scheduler.StatusStarting); err != nil {
		return err
	}
	for _, id := range ev.Entries {
		host := s.Entries[id].Host
		s.requeue(id)
		s.queue(Reset, host, 0, s.System)
	}
	return nil
}

// Abort: somebody asked for the end of an entry, and it can end now. As long as a task or a
// run goes on for it, its claimant must be told to stop first; the end of that aborts it.
type Abort struct {
	Entry scheduler.EntryID
	// Killed means that what went on for the entry was stopped.
	Killed bool
	// Claimed means that somebody has taken its run up.
	Claimed bool
}

func (ev Abort) apply(s *State) error {
	e, ok := s.Entries[ev.Entry]
	if !ok || !e.Aborted {
		return fmt.Errorf("%w: nobody asked for the end of entry %d", ErrNotNow, ev.Entry)
	}
	s.close(s.tasks(func(t Task) bool { return t.open() && !t.Active && t.Entry == ev.Entry && t.Kind != Repair }))
	goesOn := len(s.tasks(func(t Task) bool { return t.Active && t.Entry == ev.Entry && t.Kind != Repair })) > 0
	switch {
	case e.Complete, e.Status == StatusGathering, e.Status == StatusParsing:
		return nil // it ends by itself, as Aborted
	case goesOn && !ev.Killed:
		return nil
	case e.Status == StatusRunning, e.Status == scheduler.StatusStarting && ev.Claimed:
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
	if e.Complete || e.Host != 0 || e.AnyHost {
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
	for _, e := range s.Entries {
		if e.Host == ev.Host && e.Active {
			return fmt.Errorf("%w: host %d is used", ErrNotNow, ev.Host)
		}
	}
	if !Passing(s.Hosts[ev.Host].Status) || len(s.tasks(func(t Task) bool { return t.open() && t.Host == ev.Host })) > 0 {
		return fmt.Errorf("%w: host %d is %s, or has a task", ErrNotNow, ev.Host, s.Hosts[ev.Host].Status)
	}
	s.queue(Reset, ev.Host, 0, s.System)
	return nil
}
