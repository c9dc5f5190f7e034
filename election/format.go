//go:build !hostsched_next

package election

// Format is the format of the values that this version writes to etcd.
const Format = 1

// OldestFormat is the oldest format whose replicas this version can work with.
// Values without a format are from before there was one; they are understood.
const OldestFormat = 0
