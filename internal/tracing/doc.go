// Package tracing tells an OpenTelemetry collector what became of jobs: a trace from the
// submit to the end, whose spans come from whoever does the work.
//
//	submit      the replica that took the request
//	waiting     the leader: from the submit to the tick that gave the entry a host
//	assignment  the leader: that tick
//	run         the replica that closed the run: from its claim to the end of the command
//	finish      the same: from then until the hosts were given back
//
// Which trace a job belongs to is kept with the job (internal/traceid), so replicas share it
// without knowing of each other. Nobody waits for a collector: what cannot be kept or sent is
// dropped, which is said.
package tracing
