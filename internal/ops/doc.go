// Package ops is what the commands ask for, without their flags and their
// printing: what the next tick would do, what the database says of a shard, who
// leads what, and the changes that people make to shards.
//
// There is one way from the name of a shard to its database: Lab.OnShard. It
// knows whether the shard exists, whether it has a database of its own, and which
// rows a replica with the same configuration would read.
package ops
