// Package agentclient is the claimants' half of the protocol under /agent/v1: agents and those
// who run jobs themselves call the servers with it.
//
//   - agentclient.go has the calls of an agent, with its token.
//   - run.go has the calls of a run, with the run's token; they are the same for all claimants.
//   - errors.go says which answers mean what, and Keep repeats what may be repeated.
//
// Twice is the same as once for every call, so each may be repeated until it is answered. A
// lease counts from before its call was sent: whoever calls takes the time before, by a clock
// that goes on while the machine sleeps.
package agentclient
