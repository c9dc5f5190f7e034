// Package queuetimes reports how long jobs were queued, in batches, to an
// endpoint that understands Elasticsearch's _bulk requests. The queue is
// bounded; what does not fit is dropped and counted, and a tick never waits.
//
// queuetimes.go has the queue; bulk.go has one request and its answer, which says
// of each document whether it was taken.
package queuetimes
