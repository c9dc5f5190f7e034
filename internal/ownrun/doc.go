// Package ownrun runs a command under a claim of one's own: it starts the command, renews the
// claim, passes signals on, and ends the command before the claim does.
//
//   - ownrun.go has what happens from the claim to the end of the run.
//   - renew.go keeps the claim.
//   - logs.go keeps what the command writes at the servers, if that is wanted.
//   - guard.go is another process, which ends the command if this one cannot.
package ownrun
