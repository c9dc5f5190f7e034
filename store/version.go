//go:build !hostsched_next

package store

// SchemaVersion is the version of our own tables this binary works with.
const SchemaVersion = 2

// newerSchemas are migrations after version 2.
var newerSchemas []string
