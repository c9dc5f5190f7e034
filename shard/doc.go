// Package shard says what a shard is, what belongs to it, and which server
// should lead it.
//
// A lab is divided into shards. There is one for each row of afe_shards, and the master
// shard for all that no other shard owns. Every shard has its own campaign, its own fence
// row and its own ticks, and all of them refer to it by its [Name].
//
// [Layout] holds the rules by which every label, host and queue entry belongs to
// exactly one shard. [Place] spreads the leadership of shards over servers by
// rendezvous hashing, and moves as little as possible when servers come and go.
//
// The package is pure, which means that it knows nothing of etcd, SQL or the network.
package shard
