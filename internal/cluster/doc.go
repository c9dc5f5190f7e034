// Package cluster makes one replica a member of a cluster: it leads the shards
// that it should, and no others.
//
// A [Controller] looks at three things: the shards and the server roles in the
// database, who is there and who leads what in etcd, and its own replicas, one
// per shard. From the first two [shard.Place] says which server should lead
// which shard; all members come to the same result. A member campaigns for the
// shards that are its own by that. A leader hands its shard over when the server
// that should lead it stands in the queue.
//
// Nothing here is needed for safety: whoever campaigns, etcd elects one, and the
// fence refuses everybody else.
package cluster
