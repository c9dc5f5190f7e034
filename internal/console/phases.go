package console

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/hostsched/hostsched/internal/labapi"
)

// phase is a part of the life of a job, with its place on the line of time in percent.
type phase struct {
	Name, Where, Class string
	Took               string
	Begin, Wide        string
	from, to           time.Time
}

// phasesOf are the waiting of a job and its runs.
func phasesOf(v *jobView) []phase {
	end := time.Now()
	if v.Job.Ended != nil {
		end = *v.Job.Ended
	}
	out := runPhases(v.Runs, end)
	if len(out) == 0 {
		out = entryPhases(&v.Job, end)
	}
	return laidOut(append([]phase{{Name: "waiting", Class: "idle", from: v.Job.Created, to: firstWork(&v.Job, out, end)}}, out...))
}

// firstWork is when a job began to be worked on. Times of a job are whole seconds, and such of
// its runs are not: that it started says nothing within the second in which the first one began.
func firstWork(job *labapi.Job, work []phase, end time.Time) time.Time {
	if len(work) == 0 {
		return end
	}
	first := work[0].from
	if job.Started != nil && job.Started.Before(first.Truncate(time.Second)) {
		return *job.Started
	}
	return first
}

// runPhases are the runs of a job, of which the newest comes first, and what it waited for
// between them.
func runPhases(runs []runView, end time.Time) (out []phase) {
	for i, r := range slices.Backward(runs) {
		ph := phase{Name: r.Kind, Class: classOf(r.Run), from: r.Claimed, to: end}
		for _, h := range r.Hosts {
			ph.Where += " " + h.Hostname
		}
		if r.Closed != nil {
			ph.to = *r.Closed
		}
		if gap, ok := gapBefore(&r.Run, runs[i+1:]); ok {
			gap.Where = ph.Where
			out = append(out, gap)
		}
		out = append(out, ph)
	}
	return out
}

// shownGap is the least time that is called waiting.
const shownGap = 100 * time.Millisecond

// gapBefore is the time before a run in which nothing was done for it: since the run before on
// one of its hosts, or, if there was none, since anything was done for the job.
func gapBefore(r *labapi.Run, older []runView) (gap phase, ok bool) {
	before := latest(older, func(e *labapi.Run) bool { return shareHost(e, r) })
	name := "waiting"
	if before == nil {
		before = latest(older, func(*labapi.Run) bool { return true })
	} else if keepsHost(before, r) {
		name = "waiting for " + claimantOf(r)
	}
	if before == nil || before.Closed == nil || r.Claimed.Sub(*before.Closed) < shownGap {
		return gap, false
	}
	return phase{Name: name, Class: "idle", from: *before.Closed, to: r.Claimed}, true
}

// latest is the run that was closed last, or is not, among those that fit; nil if none does.
func latest(runs []runView, fits func(*labapi.Run) bool) (last *labapi.Run) {
	for i := range runs {
		switch r := &runs[i].Run; {
		case !fits(r):
		case r.Closed == nil:
			return r
		case last == nil || r.Closed.After(*last.Closed):
			last = r
		}
	}
	return last
}

func shareHost(a, b *labapi.Run) bool {
	return slices.ContainsFunc(a.Hosts, func(h labapi.RunHost) bool {
		return slices.ContainsFunc(b.Hosts, func(other labapi.RunHost) bool { return other.Hostname == h.Hostname })
	})
}

// keepsHost tells whether the job had the host between two runs. After a task that failed, and
// after a repair, its entry waits for a host anew; only the repair itself comes before that.
func keepsHost(before, r *labapi.Run) bool {
	const repair = "Repair"
	return r.Kind == repair || before.Result == labapi.ResultPassed && before.Kind != repair
}

// claimantOf is who takes a run up.
func claimantOf(r *labapi.Run) string {
	if r.Agent == "" {
		return "hostsched run"
	}
	return "the agent"
}

// entryPhases are those of a lab whose runs we do not know.
func entryPhases(job *labapi.Job, end time.Time) (out []phase) {
	for i := range job.Entries {
		e := &job.Entries[i]
		if e.Started == nil {
			continue
		}
		ph := phase{Name: "job", Where: " " + e.Host, Class: badgeOf(e.Status).Class, from: *e.Started, to: end}
		if e.Ended != nil {
			ph.to = *e.Ended
		}
		out = append(out, ph)
	}
	return out
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// classOf colours a run by its result, or by its state until it has one.
func classOf(r labapi.Run) string { return badgeOf(cmp.Or(r.Result, r.State)).Class }

// laidOut gives phases their places between the first beginning and the last end.
func laidOut(all []phase) []phase {
	from, to := all[0].from, all[0].to
	for i := range all {
		from = earlier(from, all[i].from)
		if all[i].to.After(to) {
			to = all[i].to
		}
	}
	total := max(to.Sub(from), time.Second)
	for i := range all {
		ph := &all[i]
		took := max(0, ph.to.Sub(ph.from))
		ph.Took = duration(took)
		ph.Begin = fmt.Sprintf("%.2f%%", 100*float64(ph.from.Sub(from))/float64(total))
		ph.Wide = fmt.Sprintf("%.2f%%", max(0.5, 100*float64(took)/float64(total)))
	}
	return all
}
