//go:build hostsched_next

package schema

// SchemaVersion of the binary that stands for the next version in the test of
// rolling upgrades.
const SchemaVersion = 4

// newerSchemas add a column that only the next version knows.
var newerSchemas = []string{"ALTER TABLE hostsched_terms ADD COLUMN binary_version VARCHAR(64) NOT NULL DEFAULT ''"}
