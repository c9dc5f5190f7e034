// Package simlab makes and simulates hardware test labs: it fills a database with
// hosts, suites, jobs and queue entries from a seed, plays the services around
// the scheduler (special tasks finish, jobs run and end, new suites arrive), and
// keeps a history inside the database from which double assignments can be
// proved or ruled out.
//
// `hostsched dev`, the failover test and the benchmarks all use the same labs.
package simlab
