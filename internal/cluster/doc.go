// Package cluster decides which shards one replica campaigns for, so that every
// shard is led by the server that should lead it.
//
// A [Controller] compares what is with what should be. It reads the shards and the
// roles of the servers from the database, the memberships and the campaigns from
// etcd, and the state of its own replicas, of which it has one per shard. From
// this [shard.Place] computes which server should lead which shard, with the same
// result on every server. The controller campaigns for the shards that its server
// should lead. If it leads a shard that another server should lead, it hands the
// shard over as soon as that server is the next candidate.
//
// Safety does not depend on this package: whoever campaigns, etcd elects one
// candidate, and the fence in the database refuses every other writer.
package cluster
