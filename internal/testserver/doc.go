// Package testserver starts real servers for tests: MariaDB as a private
// process on a socket and a free port, and etcd inside the test's process. They
// are the same programs as in production; nothing here is a stand-in.
package testserver
