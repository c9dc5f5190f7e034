// Package embedetcd runs an etcd server inside this process, for `hostsched dev`
// and for tests. It is the same server as in production, with one member and
// timings for one machine.
package embedetcd
