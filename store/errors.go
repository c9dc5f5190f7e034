package store

import "errors"

// Errors that callers tell apart. Each message that wraps one says what was
// tried, on what, and what to do.
var (
	// ErrFenced means that another replica has taken the shard over. The term
	// is over; nothing of the refused transaction was written.
	ErrFenced = errors.New("fenced")
	// ErrOvertaken means that a takeover came too late: the fence already holds
	// an equal or higher token.
	ErrOvertaken = errors.New("overtaken")
	// ErrForeignCluster means that the fence was last held under another etcd
	// cluster, so tokens cannot be compared.
	ErrForeignCluster = errors.New("fence belongs to another etcd cluster")
	// ErrOtherCluster means that the database belongs to another installation, by the
	// setting cluster.
	ErrOtherCluster = errors.New("another cluster's database")
	// ErrLayout means that hosts or labels of the shard were given to another
	// one, or the shard was paused, after the snapshot. Nothing of the refused
	// transaction was written; the term continues.
	ErrLayout = errors.New("the shard changed since the snapshot")
	// ErrWentBack means that the database lost what this leader had committed, because
	// it was restored, or failed over to a server that was behind.
	ErrWentBack = errors.New("the database lost commits")
	// ErrNoShard means that there is no row of afe_shards with this name (any
	// more).
	ErrNoShard = errors.New("no such shard")
)
