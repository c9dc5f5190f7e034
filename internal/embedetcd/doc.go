// Package embedetcd runs etcd inside this process, the same as in production elsewhere.
//
//   - member.go runs a member whose data lasts: of a cluster of several servers, or the
//     only one of a standalone server.
//   - etcd.go runs a server for `hostsched dev` and for tests, with one member, timings
//     for one machine, and data that is thrown away.
//   - log.go writes what etcd logs to our log.
package embedetcd
