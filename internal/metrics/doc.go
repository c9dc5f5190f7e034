// Package metrics turns what replicas report into Prometheus metrics. They
// carry the original scheduler's measurements under Prometheus names, and those
// of leadership besides.
package metrics
