// Package storetest is what the tests of store and of the packages around it have
// in common.
//
// Databases: [OnEachDatabase] and [OnEachLab] run a conformance test on every kind
// of database of this run (databases.go). Labs with the rows that tests begin with,
// what leaders do with them, and what is in them afterwards are in labs.go and
// leaders.go.
//
// Recorded scenarios: format.go reads the scenarios that were recorded from the
// original scheduler, world.go plays them against a database, and compare.go
// compares what our scheduler did with what the original did.
// testdata/golden/FORMAT.md describes the files.
package storetest
