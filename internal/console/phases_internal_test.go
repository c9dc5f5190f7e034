package console

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/labapi"
)

// TestDurations: what took less than a second is no 0.
func TestDurations(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0 s", 0: "0 s", time.Millisecond: "< 0.1 s", 100 * time.Millisecond: "0.1 s", 349 * time.Millisecond: "0.3 s",
		999 * time.Millisecond: "0.9 s", time.Second: "1 s", 59900 * time.Millisecond: "59 s", time.Minute: "1 min", 90 * time.Minute: "1 h 30 min", 49 * time.Hour: "2 d 1 h",
	} {
		require.Equal(t, want, duration(d))
	}
}

// TestAgo: a time by a clock that is a little ahead is now, and no tenths of a second away.
func TestAgo(t *testing.T) {
	for ahead, want := range map[time.Duration]string{
		-90 * time.Minute: "1 h 30 min ago", -5500 * time.Millisecond: "5 s ago", -300 * time.Millisecond: "now", 300 * time.Millisecond: "now", 5500 * time.Millisecond: "in 5 s",
	} {
		require.Equal(t, want, ago(new(time.Now().Add(ahead))))
	}
}

// TestPhasesHaveNoHoles: the time between two runs of a job is called what it is, and the waiting
// ends when the first run was claimed, although jobs know whole seconds only.
func TestPhasesHaveNoHoles(t *testing.T) {
	created := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(seconds float64) time.Time { return created.Add(time.Duration(seconds * float64(time.Second))) }
	ptr := func(seconds float64) *time.Time { return new(at(seconds)) }
	run := func(kind, result, agent string, from, to float64, hosts ...string) runView {
		r := labapi.Run{Kind: kind, Result: result, State: "done", Agent: agent, Claimed: at(from), Closed: ptr(to)}
		if to == 0 {
			r.State, r.Closed = "running", nil
		}
		for _, h := range hosts {
			r.Hosts = append(r.Hosts, labapi.RunHost{Hostname: h})
		}
		return runView{Run: r}
	}
	for name, c := range map[string]struct {
		started float64 // 0 if it was not
		ended   float64
		runs    []runView // in the order of their claims
		want    string
	}{
		"waits":                   {0, 3, nil, "waiting 3 s"},
		"a whole second":          {1, 2, []runView{run("job", "passed", "a", 1.5, 2, "h")}, "waiting 1 s, job h 0.5 s"},
		"older runs are not here": {1, 9, []runView{run("job", "passed", "a", 7.5, 9, "h")}, "waiting 1 s, job h 1 s"},
		"provision": {3, 9, []runView{run("Provision", "passed", "a", 1.2, 2, "h"), run("job", "passed", "a", 3.3, 9, "h")},
			"waiting 1 s, Provision h 0.8 s, waiting for the agent h 1 s, job h 5 s"},
		"by a person": {3, 9, []runView{run("Provision", "passed", "a", 1.2, 2, "h"), run("job", "passed", "", 2.5, 9, "h")},
			"waiting 1 s, Provision h 0.8 s, waiting for hostsched run h 0.5 s, job h 6 s"},
		"at once": {2, 9, []runView{run("Provision", "passed", "a", 1.2, 2, "h"), run("job", "passed", "a", 2.02, 9, "h")},
			"waiting 1 s, Provision h 0.8 s, job h 6 s"},
		"repaired": {8, 9, []runView{run("Reset", "failed", "a", 1, 2, "h"), run("Repair", "passed", "a", 3, 4, "h"), run("Reset", "passed", "a", 6, 7, "h"), run("job", "passed", "a", 8, 9, "h")},
			"waiting 1 s, Reset h 1 s, waiting for the agent h 1 s, Repair h 1 s, waiting h 2 s, Reset h 1 s, waiting for the agent h 1 s, job h 1 s"},
		"another host": {4, 9, []runView{run("Reset", "failed", "a", 1, 2, "h"), run("job", "passed", "a", 4, 9, "i")},
			"waiting 1 s, Reset h 1 s, waiting i 2 s, job i 5 s"},
		"side by side": {4, 9, []runView{run("job", "passed", "a", 1, 5, "h"), run("job", "passed", "a", 4, 9, "i")},
			"waiting 1 s, job h 4 s, job i 5 s"},
		"together": {6, 9, []runView{run("Reset", "passed", "a", 1, 2, "h"), run("Reset", "passed", "a", 1, 5, "i"), run("job", "passed", "a", 6, 9, "h", "i")},
			"waiting 1 s, Reset h 1 s, Reset i 4 s, waiting for the agent h i 1 s, job h i 3 s"},
		"one goes on": {6, 9, []runView{run("Reset", "", "a", 1, 0, "h"), run("job", "passed", "a", 6, 9, "i")},
			"waiting 1 s, Reset h 8 s, job i 3 s"},
	} {
		t.Run(name, func(t *testing.T) {
			v := jobView{Job: labapi.Job{Created: created, Ended: ptr(c.ended)}}
			if c.started > 0 {
				v.Job.Started = ptr(c.started)
			}
			for _, r := range c.runs {
				v.Runs = append([]runView{r}, v.Runs...)
			}
			var got []string
			for _, ph := range phasesOf(&v) {
				got = append(got, ph.Name+ph.Where+" "+ph.Took)
			}
			require.Equal(t, c.want, strings.Join(got, ", "))
		})
	}
}
