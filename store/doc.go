// Package store reads the lab from a database and writes plans to it.
//
// Three things happen here:
//
//   - [DB.Snapshot] reads everything one tick needs at one point in time, and
//     [DB.Snapshots] reads one snapshot after the other at the cost of what has
//     changed (snapshot.go begins; tables.go knows what may have changed,
//     hosts.go, queue.go and jobs.go read it);
//   - [DB.TakeOver] makes a replica the only writer of a shard, and
//     [Leader.Apply] writes a plan under that right;
//   - [Migrate] creates the tables, for labs that have no Autotest, and our own
//     few tables beside Autotest's for those that do.
//
// # The fence
//
// The table hostsched_fence says who may write to a shard. Whoever wins a
// campaign takes it over: the epoch rises by one and the holder changes, but
// only if the new fencing token is higher than the stored one. Every transaction
// that writes begins by updating the fence where epoch and holder are still its
// own. If that hits no row the transaction is refused with [ErrFenced], and the
// replica steps down. It is a write, not a read, so two writers also collide
// where a cluster certifies transactions.
//
// A leader writes large plans by two connections, its writers (writer.go, writers.go).
// Each has a row of the fence to itself, so that they do not wait for each other.
// All else, a takeover first of all, changes the rows of all writers in one
// statement, and so waits for what every writer has begun. On SQLite there is one
// writer.
//
// A transaction re-checks every row it changes (still unleased, still queued),
// because other clients write the same tables. What somebody else overtook is
// left out and planned anew in the next tick.
//
// # Shards
//
// With [Scope].Shared several shards have their rows in one database. What is
// whose is decided by shard.Layout, read in ownership.go; [DB.AssignLabel], [DB.RemoveShard] and
// [DB.PauseShard] change it under the fences of the shards concerned and raise
// their layout, and a plan that was made before is refused with [ErrLayout].
// Every term is noted in hostsched_terms, every change by command in
// hostsched_audit.
//
// # Servers
//
// MySQL 8, MariaDB 10.6+ and SQLite run the same statements, written by hand;
// what differs is collected in dialect. One conformance suite tests both
// drivers on real servers.
package store
