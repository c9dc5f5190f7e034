// Package shard says what a shard is.
//
// A lab is divided into shards: one per row of afe_shards, and the master shard
// for all the rest. Every shard has its own campaign, its own fence row and its
// own tick loop, and they all refer to it by its [Name].
//
// The package is pure: it knows nothing of etcd, SQL or the network.
package shard
