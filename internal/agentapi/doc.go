// Package agentapi serves agents, and whoever else runs jobs, under /agent/v1: huma makes the
// OpenAPI document from the Go types, internal/lab knows the agents, internal/runs does the work.
//
//   - agentapi.go registers routes. There is no way to register one without a rule.
//   - auth.go finds out which agent calls, or of which run a call is.
//   - agents.go has the calls of agents, sync.go the one that waits.
//   - runs.go has the calls of runs, which are the same for all claimants.
//   - hub.go finds what there is to do once for all agents that wait.
//
// openapi.json in this folder is the contract; a test compares it with what the code serves.
// 'go generate ./internal/agentapi' writes it anew.
package agentapi

//go:generate go run ./openapi
