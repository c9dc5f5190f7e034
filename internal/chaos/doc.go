// Command chaos runs a real cluster under random faults and judges it by what the
// database recorded. It is what `make chaos` runs.
//
//	go run ./internal/chaos -minutes 2 -seed 1
//	go run ./internal/chaos -minutes 30 -seed 7 -database mysql -json chaos.json
//
// The cluster: an etcd of three members, each a process, with links between them;
// three `hostsched serve` processes, each with a link of its own to each member and
// to the database; MariaDB or MySQL; the master and three shards (cluster.go,
// replica.go). The guard index is dropped, so that what keeps leaders apart is the
// fence alone.
//
// The load: a client that behaves as Autotest's monitor_db and keeps the queue
// filled with jobs that can all run, and a hostile one that changes under the
// scheduler's hands whatever clients of the database can change (load.go,
// hostile.go).
//
// The faults: fault.go chooses them, by the seed, one every three seconds and
// sometimes several at once; fault_*.go are the kinds. A fault is mended after its
// time, and then every shard has to tick again (watch.go).
//
// Two other things can be done with the same cluster and load, without the hostile client:
// with -kills and -stops leaders are ended one after the other, to measure how long their
// shards wait for the next host (measure.go); with -calm nothing happens but stalls of a
// second and a slow network, for which no shard may change its leader (fault_calm.go).
//
// With -runs the lab is one of its own instead, without monitor_db and hostile client: people
// run commands with `hostsched run`, and agents serve hosts (runs.go, runs_claimant.go,
// runs_agent.go); faults happen to them and to what they start, too (fault_claimant.go,
// fault_agent.go). What runs on hosts is this program anew, which sees whoever else works on its
// host (runs_witness.go); triggers record claims, epochs and entries (runs_history.go).
//
// The judges: triggers record every assignment with the epoch under which it was
// written, and every fenced write (history.go); linear.go gives the same history
// to porcupine as a second method. Now and then everything is mended and the lab
// runs empty, and what is left over is counted (drain.go). The seed decides the
// faults, but not what the processes do meanwhile: a run can be repeated, and need
// not end alike.
package main
