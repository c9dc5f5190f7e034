package simlab

import (
	"fmt"
	"maps"
	"slices"
)

// Arriving is a suite that arrives while the lab runs, as whoever submits it sees it.
type Arriving struct {
	Name, Owner       string
	Priority, Minimum int
	Jobs              []Job
}

// Job is a job of an Arriving suite, for one host that carries all labels.
type Job struct {
	Name   string
	Labels []string
	// Reset tells whether its host is reset first.
	Reset bool
}

// DrawSuite makes up a suite of n jobs, all for one board and build, each in one of the pools.
func (l *Lab) DrawSuite(n int) Arriving {
	l.suites++
	// The boards take turns, so that a lab's work is for all of its hosts.
	board := l.boards[l.suites%len(l.boards)]
	s := Arriving{
		Name: fmt.Sprintf("suite-%s-%d", board, l.suites), Owner: owners[l.rng.IntN(len(owners))],
		Priority: priorities[l.rng.IntN(len(priorities))], Minimum: l.minimum(),
	}
	version := build(board, l.rng.IntN(buildsPerBoard))
	for i := range n {
		labels := l.arrivingLabels(board, version)
		s.Jobs = append(s.Jobs, Job{Name: fmt.Sprintf("test-%d", i+1), Labels: labels, Reset: l.rng.Float64() < taskChance})
	}
	return s
}

const (
	// shownNever is how many jobs arrive that no host can ever run: some, to see what is said
	// of them, but they wait for ever, and more of them would fill the queue until nothing runs.
	shownNever = 3
	// drawTries bounds how often labels are drawn that no host has together.
	drawTries = 100
)

// arrivingLabels draws the labels of a job that arrives.
func (l *Lab) arrivingLabels(board, version string) []string {
	var labels map[string]bool
	for range drawTries {
		labels = l.ask(board, version).labels
		if l.runnable(board, version, labels) {
			break
		}
		if l.neverRun < shownNever {
			l.neverRun++
			break
		}
	}
	return slices.Sorted(maps.Keys(labels))
}

// runnable tells whether a host of the board has all labels, or all but the version, which it
// is given before the job.
func (l *Lab) runnable(board, version string, labels map[string]bool) bool {
	for host := l.firstOf(board); host <= l.spec.Hosts; host += len(l.boards) {
		missing := func(label string) bool { return label != version && !slices.Contains(l.labelsOf[host], label) }
		if !slices.ContainsFunc(slices.Collect(maps.Keys(labels)), missing) {
			return true
		}
	}
	return false
}
