// Package app puts the parts together: the order in which things start and
// stop, and what a process does from its first line to its exit.
package app
