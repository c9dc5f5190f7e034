// Package replica is the loop of one replica for one shard:
//
//	campaign → take over the fence → rebuild the recorder → tick … → resign
//
// and a tick is: snapshot → plan → apply. While it campaigns, the replica already
// reads the lab, so that the first tick only has to read what has changed since.
//
// The loop ends a term when etcd does (Term.Done), when the database refuses a
// write (store.ErrFenced), or when ticks keep failing; then it campaigns again.
// After a takeover or a term that failed it waits longer and longer, and campaigns only
// if a rehearsal of the takeover succeeds.
//
// When its context ends it finishes the running apply and resigns, so that the
// next candidate follows at once.
//
// A running apply is not interrupted when the term ends. Each chunk is a fenced
// transaction: the database refuses every chunk that comes too late, and the replica
// counts such refusals.
package replica
