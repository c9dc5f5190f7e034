// Command bench measures hostsched on a private MariaDB or MySQL, and prints tables in
// Markdown. It is what `make bench` runs.
//
//	go run ./internal/bench -sizes 1000x2000,10000x20000 -json bench.json
//	go run ./internal/bench -sizes 10000x20000 -latency 2m -failovers 5 -database mysql
//
// Every size has labs of its own, all generated from the same seed; one of them works first
// (atwork.go):
//
//   - bare.go measures the floor: the rows of a full tick, moved by one
//     hand-written statement per table, and the tables read once;
//   - ticks.go measures ticks of each kind in this process: a full one (all
//     hosts are free), steady ones (some hosts were freed, some entries are new)
//     and idle ones (nothing to do);
//   - policies.go compares the policies exact and optimal, without a database: on one plan,
//     and over simulated days;
//   - api.go measures the latency of jobs that are submitted through the API, suites, lists
//     and watchers of the journal;
//   - runs.go measures jobs that really run, with processes of `hostsched agent` and
//     `hostsched run`, and how much memory an agent needs; simagents.go has a
//     thousand agents wait, and some work, without processes;
//   - service.go starts real `hostsched serve` processes, for their memory and
//     for what another client of the database notices (probe.go), for the latency
//     from a job to its host (latency.go) and for failovers (failover.go).
//
// -parts chooses some of it. No figure is compared with a limit here: a benchmark is no test.
package main
