package main

import (
	"fmt"
	"io"
	"time"

	"github.com/hostsched/hostsched/internal/paperlab"
	"github.com/hostsched/hostsched/scheduler"
)

// PlanFigures compare the policies on one plan of a lab on paper.
type PlanFigures struct {
	Lab             string  `json:"lab"`
	Hosts           int     `json:"hosts"`
	Entries         int     `json:"entries"`
	ExactPlan       float64 `json:"exact_plan_ms"`
	OptimalPlan     float64 `json:"optimal_plan_ms"`
	ExactAssigned   int     `json:"exact_assigned"`
	OptimalAssigned int     `json:"optimal_assigned"`
	// Gain is by how many percent more hosts work.
	Gain float64 `json:"gain_percent"`
}

// comparePlans measures the labs in which hosts and entries are balanced, and larger ones
// in which most entries have to wait.
func comparePlans() []PlanFigures {
	var out []PlanFigures
	for _, lab := range []struct {
		name           string
		hosts, entries int
		capabilities   []float64
	}{
		{"balanced", 1000, 1000, paperlab.Balanced}, {"balanced", 10_000, 10_000, paperlab.Balanced},
		{"balanced, capabilities of unequal rarity", 10_000, 10_000, paperlab.Unequal},
		{"overfull", 10_000, 20_000, paperlab.Balanced}, {"overfull", 100_000, 200_000, paperlab.Balanced},
	} {
		progress("both policies, %s lab: %d hosts x %d entries", lab.name, lab.hosts, lab.entries)
		s := paperlab.Spec{Hosts: lab.hosts, Entries: lab.entries, Capabilities: lab.capabilities}.Snapshot()
		f := comparePolicies(s)
		f.Lab, f.Hosts, f.Entries = lab.name, lab.hosts, lab.entries
		out = append(out, f)
	}
	return out
}

// comparePolicies plans under each policy by turns, so that what else the machine does
// slows both.
func comparePolicies(s *scheduler.Snapshot) PlanFigures {
	took := map[scheduler.Policy][]float64{}
	assigned := map[scheduler.Policy]int{}
	for range planRounds {
		for _, policy := range []scheduler.Policy{scheduler.PolicyExact, scheduler.PolicyOptimal} {
			s.Rules.Policy = policy
			began := time.Now()
			p := scheduler.MakePlan(s)
			took[policy] = append(took[policy], ms(time.Since(began)))
			assigned[policy] = len(p.Assignments)
		}
	}
	exact, optimal := assigned[scheduler.PolicyExact], assigned[scheduler.PolicyOptimal]
	return PlanFigures{
		ExactPlan: median(took[scheduler.PolicyExact]), OptimalPlan: median(took[scheduler.PolicyOptimal]),
		ExactAssigned: exact, OptimalAssigned: optimal, Gain: 100 * (float64(optimal)/float64(max(exact, 1)) - 1),
	}
}

// DayFigures are how well the jobs of simulated days were served.
type DayFigures struct {
	Load       float64                   `json:"load"`
	Rules      string                    `json:"rules"`
	AtWork     float64                   `json:"hosts_at_work_percent"`
	Served     int                       `json:"served"`
	Unserved   int                       `json:"unserved"`
	Provisions int                       `json:"provisions"`
	Waits      map[string]paperlab.Waits `json:"waits_by_priority"`
	Picky      paperlab.Waits            `json:"waits_of_picky_jobs"`
}

// The days that are compared.
const (
	dayHosts = 200
	// dayAging lets a job of the lowest priority reach the highest one in six hours.
	dayAging = 10
)

var dayLoads = []float64{0.3, 0.45, 0.6, 0.75}

// compareDays plays so many days at each load and under each kind of rules. The days
// differ in what arrives, which is the same for all rules.
func compareDays(days int) []DayFigures {
	if days == 0 {
		return nil
	}
	optimal := scheduler.Rules{Policy: scheduler.PolicyOptimal}
	var out []DayFigures
	for _, load := range dayLoads {
		for _, kind := range []struct {
			name string
			day  paperlab.Day
		}{
			{"exact", paperlab.Day{Rules: scheduler.Rules{Policy: scheduler.PolicyExact}}},
			{"optimal", paperlab.Day{Rules: optimal}},
			{"optimal, plain hosts first", paperlab.Day{Rules: optimal, PlainFirst: true}},
			{fmt.Sprintf("optimal, aging %d", dayAging), paperlab.Day{Rules: scheduler.Rules{Policy: scheduler.PolicyOptimal, Aging: dayAging}}},
		} {
			progress("%d days, load %.2f, %s", days, load, kind.name)
			kind.day.Hosts, kind.day.Load = dayHosts, load
			out = append(out, playDays(kind.name, kind.day, days))
		}
	}
	return out
}

func playDays(name string, day paperlab.Day, days int) DayFigures {
	var sum paperlab.Figures
	for n := range days {
		day.Seed = uint64(n + 1)
		sum.Add(day.Play())
	}
	f := DayFigures{
		Load: day.Load, Rules: name, AtWork: 100 * sum.AtWork(), Served: sum.Served, Unserved: sum.Unserved, Provisions: sum.Provisions,
		Waits: map[string]paperlab.Waits{}, Picky: sum.Picky(),
	}
	for _, priority := range paperlab.Priorities {
		f.Waits[fmt.Sprint(priority)] = sum.Of(priority)
	}
	return f
}

func printPlans(w io.Writer, plans []PlanFigures) {
	if len(plans) == 0 {
		return
	}
	table(w, "lab on paper, all hosts free|hosts|entries|exact ms|optimal ms|exact assigned|optimal assigned|more hosts at work|")
	for _, f := range plans {
		row(w, "%s|%d|%d|%.1f|%.1f|%d|%d|%+.1f %%|", f.Lab, f.Hosts, f.Entries, f.ExactPlan, f.OptimalPlan, f.ExactAssigned, f.OptimalAssigned, f.Gain)
	}
}

// printDays shows waits as minutes, half of the jobs and 99 of 100.
func printDays(w io.Writer, days []DayFigures) {
	if len(days) == 0 {
		return
	}
	head := "load|rules|hosts at work|served|unserved|provisions|"
	for _, priority := range paperlab.Priorities {
		head += fmt.Sprintf("priority %d: p50, p99 min|", priority)
	}
	table(w, head+"picky jobs: p50, p99, max min|")
	for _, f := range days {
		line := fmt.Sprintf("%.2f|%s|%.1f %%%%|%d|%d|%d|", f.Load, f.Rules, f.AtWork, f.Served, f.Unserved, f.Provisions)
		for _, priority := range paperlab.Priorities {
			x := f.Waits[fmt.Sprint(priority)]
			line += fmt.Sprintf("%.0f, %.0f|", x.P50, x.P99)
		}
		row(w, line+fmt.Sprintf("%.0f, %.0f, %.0f|", f.Picky.P50, f.Picky.P99, f.Picky.Max))
	}
}
