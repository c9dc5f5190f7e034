// Package peers keeps a connection from every replica to every other one, so that a
// replica which dies or falls silent is noticed long before its lease expires.
//
// [Heartbeats] is the handler that each replica serves at [Path]: it names the process and
// then sends a line every [Interval]. A [Watcher] listens to the handlers of the
// others and reports its contacts; package suspicion decides what they mean.
//
// A [Waker] tells the leader of a shard that there is something to do, at [WakePath], so
// that it need not wait for its next tick. Nothing depends on it: a wake that is lost costs
// time only.
package peers
