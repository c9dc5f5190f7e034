// Package web answers HTTP: metrics for Prometheus, health and readiness for
// load balancers, and the replica's status as JSON.
package web
