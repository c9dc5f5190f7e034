//go:build !hostsched_next

package schema

import "embed"

// SchemaVersion is the version of our own tables this binary works with: the
// number of the last file of the own tables that is embedded.
const SchemaVersion = 6

//go:embed */lab/*.sql */own/0000[1-6]_*.sql
var files embed.FS
