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
		labels := slices.Sorted(maps.Keys(l.ask(board, version).labels))
		s.Jobs = append(s.Jobs, Job{Name: fmt.Sprintf("test-%d", i+1), Labels: labels, Reset: l.rng.Float64() < taskChance})
	}
	return s
}
