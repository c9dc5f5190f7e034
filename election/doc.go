// Package election decides which replica leads a shard.
//
// # What a term is
//
// A replica campaigns for a shard and blocks until it wins. What it wins is a
// [Term]: the right to lead that shard until [Term.Done] is closed. A term has
// a fencing token, a number that is higher in every later term of the same
// shard. The token, not the term, is what makes writes safe: the database
// refuses a writer whose token is no longer the latest, so a leader that was
// paused, cut off or killed does no harm, however late it learns of it.
//
// # How a term ends
//
//   - the leader resigns ([Term.Resign]): the next candidate follows at once;
//   - the lease is lost: it was revoked, or etcd received no keepalive for a TTL;
//   - trust runs out: no keepalive was answered in time. Trust is counted from
//     the moment at which the last answered keepalive was sent, less a margin, so
//     it ends before etcd can let another candidate win;
//   - the key disappears: somebody deleted it with etcdctl.
//
// Whatever the reason is, the holder has to call Resign in the end, which frees
// everything that belongs to the term.
//
// # In etcd
//
// [Etcd] keeps one key per candidate under
//
//	/hostsched/<cluster>/shards/<shard>/leader/<lease id>
//
// as concurrency.Election does: the oldest key leads. Its value is JSON that a
// person can read with `etcdctl get --prefix /hostsched/`. The token is the
// key's create revision.
//
// concurrency.Election.Campaign has a trap: it continues after its lease is lost,
// and then reports a victory although it has no key. Therefore a campaign here ends
// with its lease, and a victory counts only after the key was read back as the
// oldest.
//
// # Cluster membership
//
// A [Membership] keeps a key for this replica, which says whether it may lead, and
// watches the keys of the whole cluster. A [View] is what it sees. Placement is
// computed from views. An election does not depend on it: whoever campaigns, the
// oldest key leads.
//
// [Memory] does the same within one process, for tests of the code that uses this
// package. One conformance suite tests both implementations.
package election
