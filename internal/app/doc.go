// Package app puts the parts of a replica together and runs it: New checks and
// opens what must not fail later, Start begins to serve, Stop hands over, and
// Done tells when it has ended. Signals are the caller's business, so that a
// process can run several Apps.
//
//   - app.go has the life of a replica, databases.go what it needs of the database.
//   - doors.go has the API's own address and its unix socket.
//   - member.go runs the embedded member of etcd.
//   - standalone.go has what a lab server of one process does besides: its folder, its
//     database, its first administrator.
package app
