// Package lifecycle says what becomes of queue entries, special tasks and hosts when
// something happens to them: a task ends, a run begins or ends, somebody aborts, a claimant
// is lost. It is pure: [Next] turns one [State] and an [Event] into the next State, and
// [Diff] says which rows differ. Whoever applies it reads a State in a transaction, and
// writes the difference in the same one.
//
//   - state.go has the rows, as far as the rules look at them.
//   - events.go has the events, each with what it does.
//   - rules.go has what several events have in common: requeueing, repairing, the end of an
//     entry, the host afterwards.
//   - diff.go compares.
//   - due.go decides what the sweeps do: [Due] says which runs are given up or asked to stop,
//     and which events are due that nobody reports.
//   - health.go counts the failures of a host.
//
// The rules are those of Autotest's monitor_db; so an Autotest lab that moves over finds
// its rows as it knows them. Where that leaves a host or an entry hanging, we depart:
//
//   - A repair counts against the limit of the entry that asked for it also after the entry
//     was requeued and has no host any more.
//   - Aborting an entry leaves the Repair task alone that it queued: the host needs it.
//   - Aborting an entry while its host is cleaned makes the host Ready through a Cleanup
//     task of its own; in Autotest it stays Cleaning for good.
//   - An entry that is Starting and that nobody has taken up is aborted like a Pending one.
//   - A host in a passing status without run and without open task gets a Reset ([Sweep]).
//   - An entry whose status says that something goes on, while nothing does, is not begun
//     again: what may have run is lost, what had not begun waits again ([Stranded]).
//   - A job whose Pending entries can start, or never will, is looked at again ([Settle]). In
//     Autotest it holds its hosts until its time is over.
//   - The maximum run time of a job ends its run, which counts as failed, not as aborted.
package lifecycle
