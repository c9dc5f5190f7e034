// Package agent takes runs up on a machine of the lab, for the hosts that an administrator
// gave it, and has a shim run each.
//
//   - config.go reads the agent's file; driver.go makes commands of it, for a run's hosts.
//   - agent.go is its life, sync.go the call that tells the servers all, and what they answer.
//   - claim.go takes an offer up; run.go follows a run from its claim until the servers have
//     all of it; logs.go sends its logs, result.go what else it left.
//   - spool.go has the folders of runs, by which an agent that was started again goes on.
//   - token.go keeps the agent's token; memory.go gives back what an idle agent does not need.
//
// Nothing of a run is only in memory: an agent that is killed at any moment, and started
// again, finds its runs in the spool, and those whose shims live go on meanwhile.
package agent
