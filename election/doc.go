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
// The oldest key leads. Its value is JSON that a person can read with `etcdctl get
// --prefix /hostsched/`. The token is the key's create revision. A key that has no
// lease, or whose value is no [Record], is nobody's: the election passes it over, and
// a [View] names it, because nobody but a person deletes it.
//
// concurrency.Election is not used. It waits for every older key, also for one
// that no candidate will ever delete; its session ends when one member of etcd
// hangs, although the others answer; and its Campaign continues after the lease is
// lost, and then reports a victory without a key.
//
// # Members of etcd that hang
//
// A member that hangs, or that lost its peers but not its clients, does not answer,
// and nothing tells the client so. Therefore every request that is not answered
// within a fifth of the TTL is sent again, to another member, and nothing relies on a
// watch alone: the keys are also read again and again. The same makes watches begin
// anew after etcd was restored from a backup, when a watch would wait for a revision
// that is far away.
//
// A lease that could not be given back, because etcd did not answer, is given back
// before the next one is got: else a replica would wait for its own former key.
//
// # Cluster membership
//
// A [Membership] keeps a key for this replica, which says whether it may lead, and
// watches the keys of the whole cluster. The key is written only if nobody else has
// it, so of two replicas with one server name the second learns of the first. A [View] is what it sees. Placement is
// computed from views. An election does not depend on it: whoever campaigns, the
// oldest key leads.
//
// [Memory] does the same within one process, for tests of the code that uses this
// package. One conformance suite tests both implementations.
package election
