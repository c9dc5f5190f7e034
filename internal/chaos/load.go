package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hostsched/hostsched/internal/simlab"
)

// pace is that of the client that behaves as monitor_db.
var pace = simlab.Simulation{
	Step: 50 * time.Millisecond, TaskMin: 50 * time.Millisecond, TaskMax: 300 * time.Millisecond,
	JobMin: 300 * time.Millisecond, JobMax: 2 * time.Second, Queue: 150, SuiteSize: 10, FrontendTasks: 0.2,
}

// stepTimeout bounds a step of a client, whose database may be stopped.
const stepTimeout = 5 * time.Second

// beside starts what runs beside the faults: both clients and the watch. The
// returned function waits until they have ended after ctx.
func (c *chaos) beside(ctx context.Context) (wait func() error) {
	var g errgroup.Group
	g.Go(func() error { return c.simulate(ctx) })
	if !c.o.calm && !c.o.measures() {
		g.Go(func() error { return c.hostile.run(ctx) })
	}
	g.Go(func() error { return c.watch.run(ctx) })
	g.Go(func() error { return c.route(ctx) })
	return g.Wait
}

// simulate steps until ctx ends. A step may fail as long as its database is
// disturbed; one that fails on and on is an error of this program.
func (c *chaos) simulate(ctx context.Context) error {
	worked := time.Now()
	for ctx.Err() == nil {
		sleep(ctx, pace.Step)
		bound, cancel := context.WithTimeout(ctx, stepTimeout)
		err := c.simulator.Step(bound)
		cancel()
		switch {
		case err == nil:
			worked = time.Now()
		case ctx.Err() == nil && time.Since(worked) > startPatience:
			return fmt.Errorf("simulate the lab: nothing has worked for %v: %w", startPatience, err)
		}
	}
	return nil
}

// sleep waits, but not longer than ctx.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
