package tracing

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/hostsched/hostsched/internal/replica"
	"github.com/hostsched/hostsched/internal/traceid"
	"github.com/hostsched/hostsched/shard"
)

const (
	// queueLength bounds what was done and is not looked up yet.
	queueLength = 10_000
	// batch is how much is looked up at once, and pause how long it may wait for more.
	batch         = 500
	pause         = 200 * time.Millisecond
	lookUpTimeout = 10 * time.Second
	sendTimeout   = 5 * time.Second
)

// errDropped means that more was done than could be told.
var errDropped = errors.New("spans were dropped, because the collector or the database is too slow")

// Config says where spans go, and who knows what belongs to them.
type Config struct {
	// Endpoint is the URL of a collector that speaks OTLP over HTTP.
	Endpoint string
	// Server and Version are told of every span.
	Server, Version string
	// Traces are those of jobs, as Begin returned them; a job without one is left out.
	Traces func(ctx context.Context, jobs []int64) (map[int64]string, error)
	// Runs are those that are closed.
	Runs func(ctx context.Context, ids []int64) ([]Run, error)
	// Fault is told why spans are lost, and nil when they are not.
	Fault func(error)
}

// Run is a run that is closed.
type Run struct {
	ID, Job              int64
	Kind, Result, Agent  string
	Hosts                []string
	Claimed, Ended, Over time.Time
}

// Tracer implements replica.Observer.
type Tracer struct {
	replica.Silent

	cfg      Config
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	given    chan given
	closed   chan int64
}

// given is an entry that got a host.
type given struct {
	shard               shard.Name
	job, entry          int64
	host                string
	round               int
	priority            int64
	waited, began, done time.Time
}

// New returns a Tracer; Run sends.
func New(ctx context.Context, cfg Config) (*Tracer, error) {
	address, err := tracesAt(cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(address), otlptracehttp.WithTimeout(sendTimeout))
	if err != nil {
		return nil, fmt.Errorf("send traces to %s: %w", address, err)
	}
	t := &Tracer{cfg: cfg, given: make(chan given, queueLength), closed: make(chan int64, queueLength)}
	t.provider = sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(watched{exporter, cfg.Fault}, sdktrace.WithBatchTimeout(time.Second)),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())),
		sdktrace.WithIDGenerator(chosen{}),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "hostsched"), attribute.String("service.instance.id", cfg.Server), attribute.String("service.version", cfg.Version))),
	)
	t.tracer = t.provider.Tracer("github.com/hostsched/hostsched")
	return t, nil
}

// tracesAt is where a collector takes traces; the path is the usual one if none is given.
func tracesAt(endpoint string) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "", fmt.Errorf("send traces: %w", err)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/traces"
	}
	return u.String(), nil
}

// watched tells whether spans arrive.
type watched struct {
	sdktrace.SpanExporter
	fault func(error)
}

// ExportSpans implements sdktrace.SpanExporter.
func (w watched) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := w.SpanExporter.ExportSpans(ctx, spans)
	w.fault(err)
	return nil // it was told; otherwise the library prints it, too
}

// Submitted tells of a job that was entered.
func (t *Tracer) Submitted(job int64, of, caller string, began time.Time) {
	p, ok := traceid.Parse(of)
	if !ok {
		return
	}
	parent, _ := traceid.Parse(caller)
	if parent.Trace != p.Trace {
		parent = traceid.Parent{}
	}
	t.span(p, parent, "submit", began, time.Now(), attribute.Int64("hostsched.job", job))
}

// Ticked implements replica.Observer.
func (t *Tracer) Ticked(name shard.Name, r replica.Report) {
	for i := range r.Result.Applied.Assignments {
		a := &r.Result.Applied.Assignments[i]
		g := given{shard: name, job: int64(a.Job), entry: int64(a.Entry), host: a.Hostname, round: int(a.Round), priority: a.Priority, waited: r.Began, began: r.Began, done: r.Began.Add(r.Total)}
		if a.QueuedSeconds > 0 {
			g.waited = r.Began.Add(-time.Duration(a.QueuedSeconds) * time.Second)
		}
		keep(t, t.given, g)
	}
}

// Over tells of a run that this process closed.
func (t *Tracer) Over(run int64) { keep(t, t.closed, run) }

func keep[T any](t *Tracer, queue chan T, what T) {
	select {
	case queue <- what:
	default:
		t.cfg.Fault(errDropped)
	}
}

// Run looks up what belongs to the spans and sends them, until ctx ends, and then what is left.
func (t *Tracer) Run(ctx context.Context) {
	again := time.NewTicker(pause)
	defer again.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-again.C:
		}
		t.tell(context.WithoutCancel(ctx))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		t.cfg.Fault(err)
	}
}

// tell tells of what is in the queues.
func (t *Tracer) tell(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookUpTimeout)
	defer cancel()
	for ctx.Err() == nil && len(t.given)+len(t.closed) > 0 {
		if err := errors.Join(t.tellGiven(ctx, take(t.given)), t.tellClosed(ctx, take(t.closed))); err != nil {
			t.cfg.Fault(err)
			return
		}
	}
}

func take[T any](queue chan T) (out []T) {
	for len(queue) > 0 && len(out) < batch {
		out = append(out, <-queue)
	}
	return out
}

func (t *Tracer) tellGiven(ctx context.Context, all []given) error {
	jobs := make([]int64, len(all))
	for i := range all {
		jobs[i] = all[i].job
	}
	traces, err := t.traces(ctx, jobs)
	for i := range all {
		g := &all[i]
		p, ok := traces[g.job]
		if !ok {
			continue
		}
		entry := []attribute.KeyValue{attribute.Int64("hostsched.job", g.job), attribute.Int64("hostsched.entry", g.entry), attribute.Int64("hostsched.priority", g.priority), attribute.String("hostsched.shard", g.shard.String())}
		t.span(p.Child(), p, "waiting", g.waited, g.began, entry...)
		t.span(p.Child(), p, "assignment", g.began, g.done, append(entry, attribute.String("hostsched.host", g.host), attribute.Int("hostsched.round", g.round))...)
	}
	return err
}

func (t *Tracer) tellClosed(ctx context.Context, ids []int64) error {
	if len(ids) == 0 {
		return nil
	}
	all, err := t.cfg.Runs(ctx, ids)
	if err != nil {
		return err
	}
	jobs := make([]int64, len(all))
	for i := range all {
		jobs[i] = all[i].Job
	}
	traces, err := t.traces(ctx, jobs)
	for i := range all {
		r := &all[i]
		p, ok := traces[r.Job]
		if !ok {
			continue
		}
		run := p.Run(r.ID)
		t.span(run, p, "run", r.Claimed, r.Ended, attribute.Int64("hostsched.job", r.Job), attribute.Int64("hostsched.run", r.ID), attribute.String("hostsched.kind", r.Kind),
			attribute.String("hostsched.result", r.Result), attribute.String("hostsched.agent", r.Agent), attribute.StringSlice("hostsched.hosts", r.Hosts))
		t.span(p.Child(), run, "finish", r.Ended, r.Over, attribute.Int64("hostsched.job", r.Job), attribute.Int64("hostsched.run", r.ID))
	}
	return err
}

// traces are those of jobs that have one that is told.
func (t *Tracer) traces(ctx context.Context, jobs []int64) (map[int64]traceid.Parent, error) {
	out := map[int64]traceid.Parent{}
	if len(jobs) == 0 {
		return out, nil
	}
	texts, err := t.cfg.Traces(ctx, jobs)
	for job, text := range texts {
		if p, ok := traceid.Parse(text); ok && p.Sampled {
			out[job] = p
		}
	}
	return out, err
}

// span tells of a span that is over, with the id that it has.
func (t *Tracer) span(id, parent traceid.Parent, name string, began, ended time.Time, attributes ...attribute.KeyValue) {
	if !id.Sampled {
		return
	}
	ctx := context.WithValue(context.Background(), chosenID{}, id)
	if parent != (traceid.Parent{}) {
		ctx = trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: parent.Trace, SpanID: parent.Span, TraceFlags: trace.FlagsSampled, Remote: true,
		}))
	}
	_, span := t.tracer.Start(ctx, name, trace.WithTimestamp(began), trace.WithAttributes(attributes...))
	span.End(trace.WithTimestamp(ended))
}

// chosen gives spans the ids that they have.
type (
	chosen   struct{}
	chosenID struct{}
)

// NewIDs implements sdktrace.IDGenerator.
func (chosen) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	id, _ := ctx.Value(chosenID{}).(traceid.Parent)
	return id.Trace, id.Span
}

// NewSpanID implements sdktrace.IDGenerator.
func (chosen) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	id, _ := ctx.Value(chosenID{}).(traceid.Parent)
	return id.Span
}
