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
//   - the lease is lost: it was revoked, or etcd did not hear from us for a TTL;
//   - trust runs out: no keepalive was answered in time. Trust is counted from
//     the moment the last answered keepalive was sent, less a margin, so it ends
//     before etcd can give the shard to somebody else;
//   - the key disappears: somebody deleted it with etcdctl.
//
// Whatever the reason, the holder calls Resign in the end; it frees everything.
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
// A trap is built around: concurrency.Election.Campaign outlives its own lease
// and then reports a victory without a key. So a campaign ends with its lease,
// and a victory counts only after the key was read back as the oldest.
//
// # Who is there
//
// A [Membership] keeps a key per replica, with what it may do, and watches the
// whole cluster; [View] is what it sees. Placement is made from views. It is no
// part of an election: whoever campaigns, the oldest key leads.
//
// [Memory] is a twin without etcd for tests of the code above it. One
// conformance suite tests both.
package election
