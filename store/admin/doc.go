// Package admin is what people do to a lab by command, and what they ask about it:
// shards and their labels (shards.go, shard_remove.go), rows that no replica can lead
// (unserved.go), pausing a shard and adopting its fence
// (fence.go), servers and their roles (servers.go), the log of what was changed
// (audit.go), and the integrity check (check.go).
//
// A change is one transaction under the fences of the shards concerned, which
// store.DB.Change locks. So a plan that was made before the change is refused, and
// a change that is interrupted leaves nothing behind. Each is recorded in
// hostsched_audit: who, when, what, why.
package admin
