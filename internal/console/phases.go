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
	first := end
	out := []phase{}
	for _, r := range slices.Backward(v.Runs) {
		first = earlier(first, r.Claimed)
		ph := phase{Name: r.Kind, Class: classOf(r.Run), from: r.Claimed, to: end}
		for _, h := range r.Hosts {
			ph.Where += " " + h.Hostname
		}
		if r.Closed != nil {
			ph.to = *r.Closed
		}
		out = append(out, ph)
	}
	if v.Job.Started != nil {
		first = earlier(first, *v.Job.Started)
	}
	if len(out) == 0 {
		out = entryPhases(&v.Job, end)
	}
	out = append([]phase{{Name: "waiting", Class: "idle", from: v.Job.Created, to: first}}, out...)
	return laidOut(out)
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
