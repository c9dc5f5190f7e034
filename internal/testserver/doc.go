// Package testserver starts real servers for tests and benchmarks: MariaDB or
// MySQL as a private process on a socket and a free port, etcd inside the test's
// process or as several members in processes of their own, and a mail server. It
// also has network links that a test can cut, disks that it can fill, and clocks that it
// can set. The servers are the same programs as
// in production; nothing here is a stand-in.
//
// The environment variable HOSTSCHED_TEST_DATABASE chooses the database that
// the tests run on (see [Chosen]); 'make test DATABASE=mysql' sets it. Where
// each kind of server is looked for is said in mariadb.go and mysql.go, and
// deploy/install-test-deps installs it there.
package testserver
