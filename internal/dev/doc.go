// Package dev runs a whole installation on one machine for `hostsched dev`: an
// embedded etcd, an SQLite database in a data folder, several replicas as
// processes of their own, and a simulated lab. It shows what happens, kills
// leaders on request, and proves from the database that nothing was assigned
// twice.
//
// dev.go starts and stops everything; processes.go keeps the replicas;
// failover.go kills leaders and measures; observe.go gathers the figures;
// screen.go and summary.go show them; control.go takes commands from other
// terminals.
package dev
