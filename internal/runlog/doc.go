// Package runlog keeps what the command of a run writes, and sends it to the servers.
//
//   - output.go keeps it in a file, under a cap, and without secrets (mask.go).
//   - send.go knows how much of the file the servers have: they say where a log goes on, also
//     after an answer was lost.
package runlog
