// Package store is the database side of a tick: it reads snapshots, and writes
// plans under the right that a term gives.
//
//   - [DB.Snapshot] reads everything that one tick needs at one point in time, and
//     [DB.Snapshots] reads one snapshot after the other at the cost of what has
//     changed. snapshot.go is the order of reading; snapshot_tables.go knows which
//     tables may have changed; snapshot_hosts.go, snapshot_holds.go, snapshot_queue.go
//     and snapshot_jobs.go read rows, compare them and derive what follows from them;
//     snapshot_newcomers.go reads new entries alone;
//     snapshot_owners.go finds out whose the jobs are; snapshot_ownership.go says
//     which rows are the shard's. Which names are the same, the database decides:
//     shard_rows.go asks about shards, names.go about all others.
//   - [DB.TakeOver] makes a replica the only writer of a shard (fence.go), and
//     disconnects a predecessor that is stopped inside a transaction
//     (fence_evict.go). [DB.Change] is the same right for administrative commands
//     (fence_change.go).
//   - [Leader.Apply] writes a plan: leader_apply.go is the order of writing,
//     leader_chunk.go has the statements (leaseHosts takes hosts), leader_locked.go
//     finds the rows that others keep locked, leader_contention.go remembers them,
//     leader_chunksizer.go says how much is written at once, leader_writers.go
//     lets several connections share a plan, leader_writer.go is one of them.
//     leader_holds.go ends holds, journal.go notes what was written.
//
// The rooms of this package are sqldb (connections and SQL text, without a
// table), schema (migrations and the check at start) and admin (what people change
// by command, the integrity check and the audit log).
//
// # The fence
//
// The table hostsched_fence says who may write to a shard. Whoever wins a
// campaign takes it over: the epoch rises by one and the holder changes, but
// only if the new fencing token is higher than the stored one. Every transaction
// that writes begins by updating the fence where epoch and holder are still its
// own. If that hits no row, the transaction is refused with [ErrFenced], and the
// replica steps down. It is a write and not a read, so that two leaders also
// collide where a cluster of database servers certifies transactions.
//
// A leader writes plans over several connections, its writers. Each has a
// row of the fence to itself (the column is called lane), so that they do not
// wait for each other. Everything else, a takeover first of all, changes the rows
// of all writers in one statement, and so waits for what every writer has begun.
// On SQLite there is one writer.
//
// A transaction checks again every row that it changes (still unleased, still
// queued), because other clients write the same tables. What another client has
// changed is left out, reported as a conflict, and planned anew in the next tick.
//
// # Shards
//
// With [Scope].Shared several shards have their rows in one database. What is
// whose is decided by shard.Layout. Moving a label, removing or pausing a shard
// raises the layout of the fences concerned, and a plan that was made before is
// refused with [ErrLayout]. Every term is noted in hostsched_terms.
package store
