// Package runfiles takes up what a run left in its folder, once nothing of it lives: files to
// keep, and the results of single tests in some of them.
//
//   - collect.go finds the files by patterns and reads the results.
//   - send.go sends the files to the servers.
//
// The folder was written by a job, which is not trusted: no link leads out of it, nothing but
// plain files is opened, and all of it has bounds. What cannot be kept is said, and nothing of
// it fails the run.
package runfiles
