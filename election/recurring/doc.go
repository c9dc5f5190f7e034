// Package recurring keeps faults that last from filling the log: each is said at
// once, and then at most once a minute, with how often it happened since.
package recurring
