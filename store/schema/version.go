//go:build !hostsched_next

package schema

// SchemaVersion is the version of our own tables this binary works with.
const SchemaVersion = 3

// newerSchemas are migrations after version 3.
var newerSchemas []string
