// Package app puts the parts of a replica together and runs it: New checks and
// opens what must not fail later, Start begins to serve, Stop hands over, and
// Done tells when it has ended. Signals are the caller's business, so that a
// process can run several Apps.
package app
