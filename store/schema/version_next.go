//go:build hostsched_next

package schema

import "embed"

// SchemaVersion of the binary that stands for the next version in the test of
// rolling upgrades.
const SchemaVersion = 4

//go:embed */lab/*.sql */own/0000[1-4]_*.sql
var files embed.FS
