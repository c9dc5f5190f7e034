// Package traceid knows which trace a job belongs to: the text of W3C Trace Context, and the
// spans of a job that several processes must name alike. Nothing is remembered: the text is a
// keyval of the job, and the spans follow from it, so a trace goes on after a failover.
package traceid
