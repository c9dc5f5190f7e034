package dev

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hostsched/hostsched/internal/simlab"
)

// Summary is what a run amounts to.
type Summary struct {
	Hosts              int     `json:"hosts"`
	Replicas           int     `json:"replicas"`
	Agents             int     `json:"agents"`
	Seconds            float64 `json:"seconds"`
	Assignments        int64   `json:"assignments"`
	AssignmentsPerS    float64 `json:"assignments_per_second"`
	AssignedTwice      int64   `json:"assigned_twice"`
	Failovers          int     `json:"failovers"`
	FailoverP50        float64 `json:"failover_ms_p50"`
	FailoverMax        float64 `json:"failover_ms_max"`
	FencedWrites       int64   `json:"fenced_writes"`
	Released           int64   `json:"released"`
	SuitesBelowMinimum int     `json:"suites_below_minimum"`
	JobsPassed         int     `json:"jobs_passed"`
	JobsFailed         int     `json:"jobs_failed"`
	// JobsStopped were running when the lab ended.
	JobsStopped int     `json:"jobs_stopped"`
	Tasks       int     `json:"special_tasks"`
	Ticks       int64   `json:"ticks"`
	TickP50     float64 `json:"tick_ms_p50"`
	TickP99     float64 `json:"tick_ms_p99"`
	Errors      int64   `json:"tick_errors"`
	Terms       int64   `json:"terms"`
}

// summaryTimeout bounds the last look at the whole history.
const summaryTimeout = time.Minute

// summarise counts once more over the whole history: while the run lasted,
// events could become visible out of order.
func (d *dev) summarise() (Summary, error) {
	ctx, cancel := context.WithTimeout(context.Background(), summaryTimeout)
	defer cancel()
	if err := d.gather(ctx, time.Second); err != nil {
		return Summary{}, err
	}
	twice, err := d.history.AssignedTwice(ctx, 0)
	if err != nil {
		return Summary{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	f := &d.figures
	seconds := d.ended.Sub(d.began).Seconds()
	return Summary{
		Hosts: d.opts.Hosts, Replicas: d.opts.Replicas, Agents: d.opts.Agents, Seconds: round(seconds),
		Assignments: f.counts.Assignments, AssignmentsPerS: round(float64(f.counts.Assignments) / seconds),
		AssignedTwice: max(twice, f.twice), Failovers: len(f.failovers),
		FailoverP50: quantile(f.failovers, 0.5), FailoverMax: quantile(f.failovers, 1),
		FencedWrites: f.sum(func(c counters) int64 { return c.fenced }), Released: f.counts.Releases,
		SuitesBelowMinimum: simlab.BelowMinimum(f.suites), Ticks: f.sum(func(c counters) int64 { return c.ticks }),
		JobsPassed: f.runs.passed, JobsFailed: f.runs.failed, JobsStopped: f.runs.stopped, Tasks: f.runs.tasks,
		TickP50: quantile(f.ticks, 0.5), TickP99: quantile(f.ticks, 0.99),
		Errors: f.sum(func(c counters) int64 { return c.errors }), Terms: f.fence.Epoch,
	}, nil
}

func round(v float64) float64 { return float64(int64(v*10+0.5)) / 10 }

func (s Summary) verdict() error {
	switch {
	case s.AssignedTwice > 0:
		return fmt.Errorf("%w: %d double assignments", ErrProof, s.AssignedTwice)
	case s.Assignments == 0:
		return fmt.Errorf("%w: nothing was assigned", ErrProof)
	}
	return nil
}

func (d *dev) print(s Summary) error {
	if d.opts.JSON {
		return json.NewEncoder(d.opts.Out).Encode(s)
	}
	_, err := fmt.Fprintf(d.opts.Out, `
hosts                 %d
replicas              %d
agents                %d
seconds               %.1f
assignments           %d (%.1f per second)
assigned twice        %d
failovers             %d (p50 %.0f ms, max %.0f ms)
terms                 %d
fenced writes         %d
released              %d
suites below minimum  %d (at the end held fewer hosts than their guaranteed minimum while entries of theirs waited;
                      of the hosts that become free, such suites get theirs before others)
ticks                 %d (p50 %.1f ms, p99 %.1f ms)
tick errors           %d
jobs                  %d passed, %d failed, %d stopped at the end
special tasks         %d
`, s.Hosts, s.Replicas, s.Agents, s.Seconds, s.Assignments, s.AssignmentsPerS, s.AssignedTwice, s.Failovers, s.FailoverP50, s.FailoverMax,
		s.Terms, s.FencedWrites, s.Released, s.SuitesBelowMinimum, s.Ticks, s.TickP50, s.TickP99, s.Errors, s.JobsPassed, s.JobsFailed, s.JobsStopped, s.Tasks)
	return err
}
