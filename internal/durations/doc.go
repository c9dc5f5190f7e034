// Package durations reads durations as people write them, in flags, settings, specs and
// forms. durations.go has all of it.
package durations
