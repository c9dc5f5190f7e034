// Package runs is the work in the database for whoever runs something on hosts: agents, and
// people or CI systems that run their own jobs. What becomes of entries, tasks and hosts,
// internal/lifecycle decides; here its State is read and its difference written, in one
// transaction a call.
//
//   - runs.go has the errors and what a run is.
//   - change.go is the transaction: it loads a State (load.go), lets events be applied, and
//     writes what is different (write.go).
//   - offers.go finds what agents could take up; claim.go takes it up.
//   - sweep.go does what nobody reports, as internal/lifecycle finds it due in what picture.go
//     reads; agentless.go ends the special tasks of hosts that no agent serves, and clear.go
//     deletes what finished jobs left.
//   - read.go shows runs to people.
//   - report.go is what claimants tell of their runs, and renewing; finish.go ends them.
//
// The rows of hostsched_host_epochs are the mutex of hosts: whoever begins or ends something
// on a host locks them first, then the job, the entries, and the host. So two claimants of a
// host see each other, whatever they claim.
//
// A run of which its agent never said that it is running counts as not begun: it is made
// again. Agents therefore say so, and wait for the answer, before a job's process begins.
package runs
