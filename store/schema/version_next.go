//go:build hostsched_next

package schema

import "embed"

// SchemaVersion of the binary that stands for the next version in the test of
// rolling upgrades.
const SchemaVersion = 7

//go:embed */lab/*.sql */own/0000[1-7]_*.sql
var files embed.FS
