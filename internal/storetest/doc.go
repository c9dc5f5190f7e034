// Package storetest reads scenarios recorded from the original scheduler, plays
// them against a database, and compares what our scheduler did with what the
// original did. testdata/golden/FORMAT.md describes the files.
package storetest
