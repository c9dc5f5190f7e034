// Package dev runs a whole installation on one machine for `hostsched dev`: an
// embedded etcd, an SQLite database in a data folder, several replicas as
// processes of their own, agents that run the jobs of a lab whose hosts are shell
// commands, and whoever submits those jobs. It shows what happens, kills leaders on
// request, and proves from the database that nothing was assigned twice.
//
// dev.go starts and stops everything; processes.go keeps the replicas and agents;
// api.go calls them as people do, and says how; agents.go enters and ends the agents,
// simulated has the commands of their hosts; failover.go kills leaders and measures;
// observe.go and runs.go gather the figures; screen.go and summary.go show them;
// control.go takes commands from other terminals.
package dev
