package main

import (
	"fmt"
	"io"
	"math"
	"strings"
)

// slopes are the slope of a line through the logarithms of size and time: 1
// means that a lab ten times as large takes ten times as long, 0 that size does
// not matter.
type slopes struct {
	Hosts float64 `json:"log_log_slope"`
}

// slopesOf fits a line for each kind of tick.
func slopesOf(all []Figures) map[string]slopes {
	if len(all) < 2 {
		return nil
	}
	out := make(map[string]slopes)
	for name, of := range map[string]func(Figures) float64{
		"bare_sql": func(f Figures) float64 { return f.BareSQL }, "full_tick": func(f Figures) float64 { return f.FullTick },
		"steady_tick": func(f Figures) float64 { return f.Steady }, "idle_tick": func(f Figures) float64 { return f.Idle },
		"quiet_tick": func(f Figures) float64 { return f.Quiet }, "plan": func(f Figures) float64 { return f.Plan },
	} {
		out[name] = slopes{slope(all, of)}
	}
	return out
}

// slope is that of the least squares.
func slope(all []Figures, of func(Figures) float64) float64 {
	var n, sx, sy, sxx, sxy float64
	for _, f := range all {
		x, y := math.Log(float64(f.Hosts)), math.Log(max(of(f), 1e-3))
		n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	return (n*sxy - sx*sy) / (n*sxx - sx*sx)
}

// print writes all tables.
func (r *results) print(w io.Writer) {
	if r.Server != "" { // the plans need none
		fmt.Fprintf(w, "\nMeasured on %s.\n", r.Server)
	}
	r.printTicks(w)
	printPlans(w, r.Plans)
	printDays(w, r.Days)
	r.printService(w)
	if r.APIFigures != nil {
		r.APIFigures.print(w)
	}
	if r.RunFigures != nil {
		r.RunFigures.print(w)
	}
}

func (r *results) printTicks(w io.Writer) {
	if len(r.Sizes) == 0 {
		return
	}
	table(w, "hosts|entries|assigned|bare SQL ms|full tick ms|ratio|with journal|snapshot ms|apply ms|plan alone ms: exact, optimal|steady ms|at work: full, steady|idle ms|quiet ms|statements: full, idle, quiet|longest tx ms|RSS MiB|")
	for _, f := range r.Sizes {
		row(w, "%d|%d|%d|%.0f|%.0f|%.2f|%.2f|%.0f|%.0f|%.1f, %.1f|%.0f|%.0f, %.0f|%.1f|%.1f|%d, %d, %d|%.0f|%.0f|", f.Hosts, f.Entries, f.Assigned, f.BareSQL, f.FullTick, f.Ratio, f.JournalRatio,
			f.Snapshot, f.Apply, f.Plan, f.OptimalPlan, f.Steady, f.WorkedFullTick, f.WorkedSteady, f.Idle, f.Quiet, f.Statements, f.IdleStatements, f.QuietStatements, f.LongestTx, f.RSS)
	}
	if r.Slopes != nil {
		table(w, "kind of tick|log-log slope over hosts|")
		for _, kind := range []string{"bare_sql", "full_tick", "plan", "steady_tick", "idle_tick", "quiet_tick"} {
			row(w, "%s|%.2f|", strings.ReplaceAll(kind, "_", " "), r.Slopes[kind].Hosts)
		}
	}
	table(w, "another client of the database|p50 ms|p99 ms|max ms|")
	for _, f := range r.Sizes {
		row(w, "%d x %d, alone|%.1f|%.1f|%.1f|", f.Hosts, f.Entries, f.Probe.Without50, f.Probe.Without99, f.Probe.WithoutMax)
		row(w, "%d x %d, beside the leader|%.1f|%.1f|%.1f|", f.Hosts, f.Entries, f.Probe.With50, f.Probe.With99, f.Probe.WithMax)
	}
}

func (r *results) printService(w io.Writer) {
	for _, l := range []struct {
		of  string
		lat *Latency
	}{{"by SQL", r.Latency}, {"through the API", r.API}} {
		if l.lat == nil {
			continue
		}
		table(w, l.of+"|hosts|queued|jobs per second|jobs|ticks|job to host p50 ms|p99 ms|max ms|")
		row(w, "|%d|%d|%.1f|%d|%d|%.0f|%.0f|%.0f|", l.lat.Hosts, l.lat.Queued, l.lat.PerSec, l.lat.Jobs, l.lat.Ticks, l.lat.P50, l.lat.P99, l.lat.Max)
	}
	if f := r.Failover; f != nil {
		table(w, "TTL ms|rounds|crash to first host p50 ms|max ms|hand-over to takeover p50 ms|max ms|to first host p50 ms|max ms|")
		row(w, "%.0f|%d|%.0f|%.0f|%.0f|%.0f|%.0f|%.0f|", f.TTL, f.Count, f.Crash50, f.CrashMax, f.TakeOver50, f.TakeOverMax, f.HandOver50, f.HandOverMax)
	}
}

func table(w io.Writer, head string) {
	fmt.Fprintf(w, "\n| %s\n|%s\n", strings.TrimSpace(strings.ReplaceAll(head, "|", " | ")), strings.Repeat("---|", strings.Count(head, "|")))
}

func row(w io.Writer, format string, args ...any) {
	fmt.Fprintf(w, "| "+strings.TrimSpace(strings.ReplaceAll(format, "|", " | "))+"\n", args...)
}
