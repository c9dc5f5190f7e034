//go:build hostsched_next

package election

// Format of the binary that stands for the next version in the test of rolling
// upgrades.
const Format = 2

// OldestFormat still includes the present version.
const OldestFormat = 1
