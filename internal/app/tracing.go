package app

import (
	"context"
	"fmt"

	"github.com/hostsched/hostsched/internal/config"
	"github.com/hostsched/hostsched/internal/runs"
	"github.com/hostsched/hostsched/internal/tracing"
)

// openTracing makes what tells a collector of jobs, if there is one.
func (a *App) openTracing() (err error) {
	if a.cfg.Tracing.Endpoint == "" {
		return nil
	}
	a.tracer, err = tracing.New(context.Background(), tracing.Config{
		Endpoint: a.cfg.Tracing.Endpoint, Server: a.cfg.Server, Version: a.version, Traces: a.tracesOf, Runs: a.endedRuns,
		Fault: a.sayOf(workTracing, "cannot tell the collector of traces what became of jobs"),
	})
	if err != nil {
		return fmt.Errorf("%w: tracing.endpoint: %w", config.ErrConfig, err)
	}
	a.observers = append(a.observers, a.tracer)
	a.reporters = append(a.reporters, a.tracer.Run)
	return nil
}

func (a *App) tracesOf(ctx context.Context, jobs []int64) (map[int64]string, error) {
	if at := a.lab.Load(); at != nil {
		return at.Traces(ctx, jobs)
	}
	return nil, nil
}

func (a *App) endedRuns(ctx context.Context, ids []int64) (out []tracing.Run, err error) {
	r := a.runs.Load()
	if r == nil {
		return nil, nil
	}
	all, err := r.Ended(ctx, ids)
	for i := range all {
		e := &all[i]
		out = append(out, tracing.Run{ID: e.ID, Job: e.Job, Kind: e.Kind, Result: e.Result, Agent: e.Agent, Hosts: e.Hosts, Claimed: e.Claimed, Ended: e.Ended, Over: e.Close})
	}
	return out, err
}

// runClosed tells of a run that this process closed.
func (a *App) runClosed(run runs.Run, result string) {
	a.metrics.RunClosed(run.Kind, result)
	if a.tracer != nil {
		a.tracer.Over(run.ID)
	}
}
