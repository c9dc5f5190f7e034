package lab

import (
	"context"
	"fmt"
	"time"

	"github.com/hostsched/hostsched/internal/jobspec"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/scheduler"
)

// DryRun says what the planner would do with a job, and writes nothing.
func (l *Lab) DryRun(ctx context.Context, s Submission, spec labapi.JobSpec) (labapi.Submitted, error) {
	if err := jobspec.CheckJob(&spec); err != nil {
		return labapi.Submitted{}, err
	}
	began := time.Now()
	b, err := l.admit(ctx, s, &spec.Owner, spec.Priority, []labapi.JobSpec{spec})
	if err == nil {
		err = l.explain(l.requireSuite(ctx, l.db.Pool, spec.Suite), "look for the suite")
	}
	if err != nil {
		return labapi.Submitted{}, err
	}
	if !b.jobs[0].placeable() {
		return labapi.Submitted{Explain: &labapi.Explanation{Text: "can never run: " + b.jobs[0].never}}, nil
	}
	plans, err := l.planNew(ctx, began, b)
	if err != nil {
		return labapi.Submitted{}, err
	}
	return labapi.Submitted{Explain: plans[0].explanation()}, nil
}

// DryRunSuite says what the planner would do with the jobs of a suite, and writes nothing.
func (l *Lab) DryRunSuite(ctx context.Context, s Submission, in labapi.SuiteInput) (labapi.Suite, error) {
	if err := jobspec.CheckSuite(&in); err != nil {
		return labapi.Suite{}, err
	}
	began := time.Now()
	b, err := l.admitSuite(ctx, s, &in)
	if err != nil {
		return labapi.Suite{}, err
	}
	tried := *b
	tried.jobs, tried.newSuite = nil, &in
	var never []labapi.EntryExplanation
	for i := range b.jobs {
		if j := &b.jobs[i]; j.placeable() {
			tried.jobs = append(tried.jobs, *j)
		} else {
			never = append(never, labapi.EntryExplanation{Job: j.spec.Name, Reasons: []labapi.Reason{{Reason: "can never run: " + j.never}}})
		}
	}
	plans, err := l.planNew(ctx, began, &tried)
	if err != nil {
		return labapi.Suite{}, err
	}
	e := explainSuite(&tried, plans)
	if len(never) > 0 {
		e.Text += fmt.Sprintf("; %d of its jobs can never run", len(never))
		e.Entries = append(e.Entries, never...)
	}
	return labapi.Suite{Name: in.Name, Owner: b.owner.login, Priority: in.Priority, Created: began.UTC().Truncate(time.Second), Minimum: in.Minimum, Explain: e}, nil
}

// explainSuite is the explanation of all jobs of a suite together.
func explainSuite(b *batch, plans []planned) *labapi.Explanation {
	all := planned{own: scheduler.Tried}
	var names []string
	for i := range plans {
		all.paused = plans[i].paused
		for _, e := range plans[i].entries {
			all.entries = append(all.entries, e)
			names = append(names, b.jobs[i].spec.Name)
		}
	}
	if len(all.entries) == 0 {
		return &labapi.Explanation{Text: "it has no jobs that could run"}
	}
	e := all.explanation()
	for i := range e.Entries {
		e.Entries[i].Job = names[i]
	}
	return e
}
