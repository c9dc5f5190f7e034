// Command bench measures ticks on a private MariaDB, against the bare SQL that
// moves the same rows in the same run, and prints a table.
//
//	go run ./internal/bench -sizes 1000x2000,10000x20000 -json bench.json
//
// It is what `make bench` runs.
package main
