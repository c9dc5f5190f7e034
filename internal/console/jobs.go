package console

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/hostsched/hostsched/internal/labapi"
)

// jobsView is a list of jobs.
type jobsView struct {
	Jobs   []labapi.Job
	Filter struct{ State, Owner, Label, Suite string }
	States []labapi.JobState
	Next   string
}

func (p *page) jobs() error {
	p.topics = []string{"job", "entry", "run", "suite"}
	form := p.r.URL.Query()
	v := jobsView{States: []labapi.JobState{labapi.JobQueued, labapi.JobRunning, labapi.JobPassed, labapi.JobFailed, labapi.JobAborted}}
	v.Filter.State, v.Filter.Owner, v.Filter.Label, v.Filter.Suite = form.Get("state"), form.Get("owner"), form.Get("label"), form.Get("suite")
	query := chosenOf(form, "state", "owner", "label", "suite", "after")
	query.Set("limit", "50")
	var list labapi.Page[labapi.Job]
	if err := p.ask(&list, "/jobs", query); err != nil {
		return err
	}
	v.Jobs = list.Items
	if list.After != "" {
		v.Next = with(form, "after", list.After)
	}
	return p.render(http.StatusOK, "jobs", "Jobs", v)
}

// chosenOf are those values of a form that have one.
func chosenOf(form url.Values, names ...string) url.Values {
	out := url.Values{}
	for _, name := range names {
		if value := form.Get(name); value != "" {
			out.Set(name, value)
		}
	}
	return out
}

// jobView is all about one job.
type jobView struct {
	Job     labapi.Job
	Explain labapi.Explanation
	Phases  []phase
	Runs    []runView
	// Log is that of the run that began last; nil if there is none.
	Log    *logView
	Events []labapi.Event
	// Open tells whether the job can be aborted.
	Open bool
}

// runView is a run with what it left.
type runView struct {
	labapi.Run
	Logs      []labapi.Log
	Artifacts []labapi.Artifact
	Results   []labapi.TestResult
}

func (p *page) job() error {
	path := "/jobs/" + url.PathEscape(p.r.PathValue("id"))
	v := jobView{}
	if err := p.ask(&v.Job, path, nil); err != nil {
		return err
	}
	p.topics = []string{"job:" + id(v.Job.ID)}
	v.Open = v.Job.State == labapi.JobQueued || v.Job.State == labapi.JobRunning
	if err := p.ask(&v.Explain, path+"/explain", nil); err != nil {
		return err
	}
	if err := p.addRuns(&v); err != nil {
		return err
	}
	var events labapi.Page[labapi.Event]
	if err := p.ask(&events, "/events", url.Values{"job": {id(v.Job.ID)}, "limit": {"200"}, "newest": {"true"}}); err != nil {
		return err
	}
	v.Events = events.Items
	v.Phases = phasesOf(&v)
	return p.render(http.StatusOK, "job", "Job "+id(v.Job.ID), v)
}

// shownRuns is of how many runs of a job the page shows what they left.
const shownRuns = 20

func (p *page) addRuns(v *jobView) error {
	var list labapi.Page[labapi.Run]
	if err := p.ask(&list, "/runs", url.Values{"job": {id(v.Job.ID)}, "limit": {id(shownRuns)}}); err != nil {
		return err
	}
	for _, run := range list.Items {
		r := runView{Run: run}
		if err := p.addLeft(&r); err != nil {
			return err
		}
		v.Runs = append(v.Runs, r)
		if v.Log == nil && len(r.Logs) > 0 {
			shown, err := p.readLog(run.ID, r.Logs[0].Stream, logQuery{tail: tailLines})
			var refused *refusal
			if errors.As(err, &refused) {
				// All else about the job can be shown.
				shown.Refused, err = refused.Detail, nil
			}
			if err != nil {
				return err
			}
			v.Log = &shown
		}
	}
	return nil
}

// addLeft reads what a run left.
func (p *page) addLeft(r *runView) error {
	path := "/runs/" + id(r.ID)
	var logs labapi.Page[labapi.Log]
	var files labapi.Page[labapi.Artifact]
	var results labapi.Page[labapi.TestResult]
	if err := p.ask(&logs, path+"/logs", nil); err != nil {
		return err
	}
	if err := p.ask(&files, path+"/artifacts", nil); err != nil {
		return err
	}
	if err := p.ask(&results, path+"/results", url.Values{"limit": {"200"}}); err != nil {
		return err
	}
	r.Logs, r.Artifacts, r.Results = logs.Items, files.Items, results.Items
	return nil
}

// changeJob aborts a job, or submits it once more.
func (p *page) changeJob() error {
	p.r.Body = http.MaxBytesReader(p.w, p.r.Body, maxForm)
	path := "/jobs/" + url.PathEscape(p.r.PathValue("id"))
	if p.r.FormValue("action") == "requeue" {
		var made labapi.Submitted
		if err := p.do(&made, path+"/requeue", nil); err != nil {
			return err
		}
		seeOther(p.w, "./"+id(made.ID)+"?done=requeue&n=1")
		return nil
	}
	if err := p.do(nil, path+"/abort", labapi.AbortInput{Reason: p.r.FormValue("reason")}); err != nil {
		return err
	}
	p.comeBack("abort", 1)
	return nil
}
