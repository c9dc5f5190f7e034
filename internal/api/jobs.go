package api

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/jobspec"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/traceid"
)

// maxSuiteBody is for a suite of thousands of jobs.
const maxSuiteBody = 32 << 20

// SubmitInput is a job or a suite in JSON or YAML. It is exported, as the other parts of inputs
// are, because huma reads no others. The body is read by jobspec, which is
// stricter than the other routes are, and knows YAML.
type SubmitInput struct {
	ContentType string `header:"Content-Type"`
	Key         string `header:"Idempotency-Key" doc:"A text that makes repeated requests one: the first is done, the others get its answer, for 24 hours."`
	Trace       string `header:"traceparent" doc:"The span that submits, as W3C Trace Context writes it: the jobs go on with its trace."`
	RawBody     []byte
}

type created[T any] struct {
	Status   int
	Location string `header:"Location"`
	Body     T
}

// PageInput is what lists have in common.
type PageInput struct {
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	After string `query:"after" maxLength:"40" doc:"Where the page before ended: its after."`
}

type JobInput struct {
	ID int64 `path:"id" minimum:"1" maximum:"2147483647"`
}

type abortInput struct {
	JobInput
	Body *labapi.AbortInput
}

// jobRoutes are about jobs.
func (a *API) jobRoutes() {
	tags := []string{"jobs"}
	submit := a.submission(huma.Operation{OperationID: "submit-job", Path: "/jobs", Summary: "Submit a job", Tags: tags, Description: "The body is a job spec; its schema is at " + Prefix + schemaPath + "."}, reflect.TypeFor[labapi.JobSpec]())
	route(a, access.Submitting, submit, a.submitJob)
	route(a, access.Reading, huma.Operation{OperationID: "list-jobs", Method: http.MethodGet, Path: "/jobs", Summary: "Jobs, the newest first", Tags: tags},
		func(ctx context.Context, l *lab.Lab, in *struct {
			PageInput
			State string `query:"state" enum:"queued,running,passed,failed,aborted"`
			Owner string `query:"owner" maxLength:"190"`
			Label string `query:"label" maxLength:"255" doc:"A label that the jobs depend on."`
			Suite int64  `query:"suite" minimum:"1" maximum:"2147483647"`
			Selecting
		}) (*body[labapi.Page[labapi.Job]], error) {
			before, err := lab.ParseCursor(in.After)
			if err != nil {
				return nil, err
			}
			chosen, err := in.selector()
			if err != nil {
				return nil, err
			}
			if err := plainText(in.Owner, in.Label); err != nil {
				return nil, err
			}
			return answer(l.Jobs(ctx, lab.JobFilter{State: labapi.JobState(in.State), Owner: in.Owner, Label: in.Label, Selector: chosen, Suite: in.Suite, Before: before, Limit: in.Limit}))
		})
	route(a, access.Reading, huma.Operation{OperationID: "get-job", Method: http.MethodGet, Path: "/jobs/{id}", Summary: "A job with its queue entries", Tags: tags},
		func(ctx context.Context, l *lab.Lab, in *JobInput) (*body[labapi.Job], error) {
			return answer(l.Job(ctx, in.ID))
		})
	route(a, access.Reading, huma.Operation{OperationID: "explain-job", Method: http.MethodGet, Path: "/jobs/{id}/explain", Summary: "Why a job waits, or which hosts it gets", Tags: tags},
		func(ctx context.Context, l *lab.Lab, in *JobInput) (*body[labapi.Explanation], error) {
			return answer(l.ExplainJob(ctx, in.ID))
		})
	route(a, access.ChangingJobs, huma.Operation{OperationID: "abort-job", Method: http.MethodPost, Path: "/jobs/{id}/abort", DefaultStatus: http.StatusNoContent, Summary: "Ask for the end of a job and of its children", Tags: tags},
		func(ctx context.Context, l *lab.Lab, in *abortInput) (*nothing, error) {
			entries, err := l.AbortJob(ctx, callerOf(ctx), in.ID, in.reason())
			a.wakeAll(entries, err)
			return nil, err
		})
	route(a, access.ChangingJobs, huma.Operation{OperationID: "requeue-job", Method: http.MethodPost, Path: "/jobs/{id}/requeue", DefaultStatus: http.StatusCreated, Summary: "Submit a job once more", Tags: tags},
		func(ctx context.Context, l *lab.Lab, in *struct {
			JobInput
			Key string `header:"Idempotency-Key"`
		}) (*created[labapi.Submitted], error) {
			s, err := a.by(ctx, in.Key, fmt.Sprintf("requeue %d", in.ID), nil)
			if err != nil {
				return nil, err
			}
			out, entries, err := l.Requeue(ctx, s, in.ID)
			return a.submitted(out, fmt.Sprintf("%s/jobs/%d", Prefix, out.ID), entries, err)
		})
}

func (in *abortInput) reason() string {
	if in.Body == nil {
		return ""
	}
	return in.Body.Reason
}

// submission is an operation whose body is JSON or YAML of a type.
func (a *API) submission(op huma.Operation, of reflect.Type) huma.Operation {
	schema := a.api.OpenAPI().Components.Schemas.Schema(of, true, "")
	op.Method, op.DefaultStatus, op.MaxBodyBytes = http.MethodPost, http.StatusCreated, maxSuiteBody
	op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: schema}, "application/yaml": {Schema: schema}}}
	op.SkipValidateBody = true
	op.Errors = append(op.Errors, http.StatusConflict, http.StatusUnprocessableEntity)
	return op
}

func (a *API) submitJob(ctx context.Context, l *lab.Lab, in *struct {
	SubmitInput
	DryRun bool `query:"dry_run" doc:"Answer what the planner would do, and write nothing."`
}) (*created[labapi.Submitted], error) {
	spec, err := jobspec.ReadJob(in.ContentType, in.RawBody)
	if err != nil {
		return nil, err
	}
	s, err := a.by(ctx, in.Key, "jobs", spec)
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		out, err := l.DryRun(ctx, s, spec)
		return &created[labapi.Submitted]{Status: http.StatusOK, Body: out}, err
	}
	began := time.Now()
	s.Trace = a.trace(in.Trace)
	out, entries, err := l.SubmitJob(ctx, s, spec)
	a.traced(s.Trace, in.Trace, began, entries, out.ID)
	return a.submitted(out, fmt.Sprintf("%s/jobs/%d", Prefix, out.ID), entries, err)
}

// by says who submits, and under which rules.
func (a *API) by(ctx context.Context, key, route string, request any) (lab.Submission, error) {
	k, err := lab.NewKey(key, route, request)
	if k != nil {
		a.dropOldKeys(ctx)
	}
	return lab.Submission{Who: callerOf(ctx), Key: k, MaxPriority: a.cfg.MaxPriority}, err
}

// trace is what is kept with jobs of the trace that they belong to: the caller's, or one of
// their own.
func (a *API) trace(header string) string {
	caller, ok := traceid.Parse(header)
	switch {
	case ok && a.cfg.Submitted != nil:
		return caller.Child().String()
	case ok:
		return caller.String() // nobody tells of the submit, so what follows is the caller's
	case a.cfg.Submitted != nil:
		return traceid.New(rand.Float64() < a.cfg.TraceShare).String()
	}
	return ""
}

// traced tells of a submit. Without entries it failed, or was one that had been done before.
func (a *API) traced(trace, header string, began time.Time, entries lab.NewEntries, job int64) {
	if a.cfg.Submitted != nil && len(entries) > 0 {
		a.cfg.Submitted(job, trace, header, began)
	}
}

// dropEvery is how often old keys of requests are deleted, while there are new ones.
const dropEvery = time.Hour

func (a *API) dropOldKeys(ctx context.Context) {
	last, now := a.droppedKeys.Load(), time.Now().UnixNano()
	if now-last < int64(dropEvery) || !a.droppedKeys.CompareAndSwap(last, now) {
		return
	}
	if err := a.cfg.Lab().DropOldKeys(ctx); err != nil {
		a.cfg.Log.Warn("old keys of requests stay for another hour", "error", err)
	}
}

func (a *API) submitted(out labapi.Submitted, location string, entries lab.NewEntries, err error) (*created[labapi.Submitted], error) {
	a.wakeAll(entries, err)
	if err != nil {
		return nil, err
	}
	return &created[labapi.Submitted]{http.StatusCreated, location, out}, nil
}

// wakeAll wakes each shard that has something to do once, however many entries it has.
func (a *API) wakeAll(entries lab.NewEntries, err error) {
	if err != nil {
		return
	}
	for name, ids := range entries {
		a.cfg.Wake(name, ids...)
	}
}

// suiteRoutes are about suites.
func (a *API) suiteRoutes() {
	tags := []string{"suites"}
	submit := a.submission(huma.Operation{OperationID: "submit-suite", Path: "/suites", Summary: "Submit a suite with its jobs", Tags: tags}, reflect.TypeFor[labapi.SuiteInput]())
	route(a, access.Submitting, submit, func(ctx context.Context, l *lab.Lab, in *struct {
		SubmitInput
		DryRun bool `query:"dry_run" doc:"Answer what the planner would do, and write nothing."`
	}) (*created[labapi.Suite], error) {
		suite, err := jobspec.ReadSuite(in.ContentType, in.RawBody)
		if err != nil {
			return nil, err
		}
		s, err := a.by(ctx, in.Key, "suites", suite)
		if err != nil {
			return nil, err
		}
		if in.DryRun {
			out, err := l.DryRunSuite(ctx, s, suite)
			return &created[labapi.Suite]{Status: http.StatusOK, Body: out}, err
		}
		began := time.Now()
		s.Trace = a.trace(in.Trace)
		out, entries, err := l.SubmitSuite(ctx, s, suite)
		a.traced(s.Trace, in.Trace, began, entries, out.ID)
		a.wakeAll(entries, err)
		return &created[labapi.Suite]{http.StatusCreated, fmt.Sprintf("%s/suites/%d", Prefix, out.ID), out}, err
	})
	route(a, access.Reading, huma.Operation{OperationID: "list-suites", Method: http.MethodGet, Path: "/suites", Summary: "Suites, the newest first", Tags: tags},
		func(ctx context.Context, l *lab.Lab, in *PageInput) (*body[labapi.Page[labapi.Suite]], error) {
			before, err := lab.ParseCursor(in.After)
			if err != nil {
				return nil, err
			}
			return answer(l.Suites(ctx, before, in.Limit))
		})
	route(a, access.Reading, huma.Operation{OperationID: "get-suite", Method: http.MethodGet, Path: "/suites/{id}", Summary: "A suite with what it holds", Tags: tags},
		func(ctx context.Context, l *lab.Lab, in *JobInput) (*body[labapi.Suite], error) {
			return answer(l.Suite(ctx, in.ID))
		})
	route(a, access.ChangingJobs, huma.Operation{OperationID: "abort-suite", Method: http.MethodPost, Path: "/suites/{id}/abort", DefaultStatus: http.StatusNoContent, Summary: "Ask for the end of all jobs of a suite", Tags: tags},
		func(ctx context.Context, l *lab.Lab, in *abortInput) (*nothing, error) {
			entries, err := l.AbortSuite(ctx, callerOf(ctx), in.ID, in.reason())
			a.wakeAll(entries, err)
			return nil, err
		})
}
