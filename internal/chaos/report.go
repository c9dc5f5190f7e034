package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/hostsched/hostsched/shard"
)

// results are what the run itself notes.
type results struct {
	byKind map[string]int
	// dead is the longest time that a shard stood still, by the kind of fault that was
	// alone in its turn.
	dead  map[string]time.Duration
	lost  []lostTerm
	spans []span

	mu    sync.Mutex // of wrong
	wrong []string

	drift, stuck, stranded int64
	drains                 int
	// ended counts replicas that ended by themselves, failed counts faults that could
	// not be made, added counts shards.
	ended, failed, added int
	// failovers are what was measured, nil if nothing was.
	failovers *Failovers
}

// lostTerm is the term of a leader that was killed.
type lostTerm struct {
	shard  shard.Name
	epoch  int64
	killed int64 // microseconds
}

// span is when a fault was at work that may cost a leader its term.
type span struct{ from, to time.Time }

func (r *results) count(b *broken) {
	if r.byKind == nil {
		r.byKind = map[string]int{}
	}
	r.byKind[b.fault.kind]++
}

func (r *results) mended(b *broken) {
	if !b.fault.light {
		r.spans = append(r.spans, span{b.began, time.Now()})
	}
}

// storms is the kind of several faults at once.
const storms = "(storms)"

// healed notes how long a shard stood still in a turn.
func (r *results) healed(struck []*broken, dead time.Duration) {
	if r.dead == nil {
		r.dead = map[string]time.Duration{}
	}
	kind := storms
	switch len(struck) {
	case 0:
		return
	case 1:
		kind = struck[0].fault.kind
	}
	r.dead[kind] = max(r.dead[kind], dead)
}

// Report is the format of -json.
type Report struct {
	Faults                int            `json:"faults"`
	ByKind                map[string]int `json:"by_kind"`
	Assignments           int64          `json:"assignments"`
	AssignedTwice         int64          `json:"assigned_twice"`
	EpochsInterleaved     int64          `json:"epochs_interleaved"`
	TakesUnderFormerEpoch int64          `json:"takes_under_former_epoch"`
	EntriesLost           int64          `json:"entries_lost"`
	HostsStranded         int64          `json:"hosts_stranded"`
	EntriesStuck          int64          `json:"entries_stuck"`
	RecorderDrift         int64          `json:"recorder_drift"`
	NeedlessTakeovers     int64          `json:"needless_takeovers"`
	DeadLongest           float64        `json:"dead_longest_s"`
	FailoverMillis50      float64        `json:"failover_ms_p50"`
	FailoverMillis99      float64        `json:"failover_ms_p99"`
	LeakedGoroutines      int            `json:"leaked_goroutines"`
	Measured              *Failovers     `json:"measured,omitempty"`
	// The figures of runs are among the others; there are none without -runs.
	*RunsReport

	failovers, hostile, drains, ended, failed int
	linear                                    porcupine.CheckResult
	deadWhere                                 string
	dead                                      map[string]time.Duration
}

// lookBack is from how long before a turn events are looked at: what a host was
// before must be among them.
const lookBack = time.Minute

// lookForDoubles looks at what was assigned lately, so that a violation is noticed
// near the fault that caused it.
func (c *chaos) lookForDoubles(ctx context.Context) error {
	twice, err := c.assignedTwice(ctx, time.Now().Add(-lookBack).UnixMicro())
	if twice > 0 {
		c.wrong("%d double assignments", twice)
	}
	return err
}

// report judges the whole run.
func (c *chaos) report(ctx context.Context) (Report, error) {
	r, err := c.judgeHistory(ctx)
	if err == nil && c.o.runs {
		r.RunsReport, err = c.reportRuns(ctx)
	}
	if err != nil {
		return r, err
	}
	if c.hostile != nil {
		r.hostile = c.hostile.actions
	}
	r.ByKind, r.HostsStranded, r.EntriesStuck, r.RecorderDrift = c.res.byKind, c.res.stranded, c.res.stuck, c.res.drift
	r.DeadLongest, r.deadWhere, r.LeakedGoroutines = c.watch.dead.Seconds(), c.watch.where, c.leaked()
	r.dead, r.Measured = c.res.dead, c.res.failovers
	r.drains, r.ended, r.failed = c.res.drains, c.res.ended, c.res.failed
	for _, n := range c.res.byKind {
		r.Faults += n
	}
	if c.o.measures() {
		return r, nil // each takeover was meant
	}
	if r.NeedlessTakeovers, err = c.needless(ctx); err != nil {
		return r, err
	}
	return r, c.failovers(ctx, &r)
}

// judgeHistory judges what the database recorded.
func (c *chaos) judgeHistory(ctx context.Context) (r Report, err error) {
	if r.AssignedTwice, err = c.assignedTwice(ctx, 0); err != nil {
		return r, err
	}
	for _, q := range []struct {
		to    *int64
		query string
	}{
		{&r.Assignments, "SELECT COUNT(*) FROM chaos_events WHERE event = 'take'"},
		{&r.TakesUnderFormerEpoch, formerQuery}, {&r.EntriesLost, lostQuery},
	} {
		if *q.to, err = c.number(ctx, q.query); err != nil {
			return r, err
		}
	}
	if r.EpochsInterleaved, err = c.interleaved(ctx); err != nil {
		return r, err
	}
	events, err := c.recorded(ctx)
	r.linear = linear(events, judgeTimeout)
	return r, err
}

// goroutinesInUse is how many goroutines a replica may have at one moment and not at another:
// those of connections and of requests.
const goroutinesInUse = 100

// leaked is by how much the goroutines of a process have grown between two moments at which
// it led equally many shards.
func (c *chaos) leaked() (most int) {
	for _, r := range c.replicas {
		first := map[int]int{}
		last := 0
		for _, count := range r.goroutines {
			if _, known := first[count.leads]; !known {
				first[count.leads] = count.n
			}
			last = count.n - first[count.leads]
		}
		if last > goroutinesInUse {
			most = max(most, last)
		}
	}
	return most
}

// aftermath is how long after its mend a fault may still cost a term.
const aftermath = leaseTTL + 3*time.Second

// needless counts terms that were lost while no fault was at work that excuses it.
func (c *chaos) needless(ctx context.Context) (int64, error) {
	var n int64
	for _, name := range shards() {
		const all = 100000
		terms, err := c.db.Terms(ctx, name, all)
		if err != nil {
			return 0, err
		}
		for _, t := range terms {
			if !t.Ended.IsZero() && !t.Planned && !c.excused(t.Ended) {
				n++
				c.journal.say("needless takeover of %s at %.1f s: %s", name, t.Ended.Sub(c.journal.began).Seconds(), t.Cause)
			}
		}
	}
	return n, nil
}

func (c *chaos) excused(at time.Time) bool {
	return slices.ContainsFunc(c.res.spans, func(s span) bool { return at.After(s.from.Add(-time.Second)) && at.Before(s.to.Add(aftermath)) })
}

// failovers measures, for each leader that was killed, the time to the first write
// of its successor.
func (c *chaos) failovers(ctx context.Context, r *Report) error {
	var took []float64
	for _, l := range c.res.lost {
		at, err := c.number(ctx, successorQuery, l.shard.String(), l.epoch, l.killed)
		if err != nil {
			return err
		}
		if at > 0 {
			took = append(took, float64(at-l.killed)/1000)
		}
	}
	slices.Sort(took)
	if r.failovers = len(took); r.failovers > 0 {
		r.FailoverMillis50, r.FailoverMillis99 = took[len(took)/2], took[len(took)*99/100]
	}
	return nil
}

// violations are what must not be.
func (c *chaos) violations(r Report) []string {
	out := append(slices.Clone(c.res.wrong), c.watch.delays...)
	zeros := map[string]int64{
		"leaked_goroutines": int64(r.LeakedGoroutines),
		"assigned_twice":    r.AssignedTwice, "epochs_interleaved": r.EpochsInterleaved, "takes_under_former_epoch": r.TakesUnderFormerEpoch,
		"entries_lost": r.EntriesLost, "hosts_stranded": r.HostsStranded, "entries_stuck": r.EntriesStuck, "recorder_drift": r.RecorderDrift,
	}
	maps.Copy(zeros, r.figures())
	for name, n := range zeros {
		if n != 0 {
			out = append(out, fmt.Sprintf("%s is %d", name, n))
		}
	}
	if c.o.calm && r.NeedlessTakeovers > 0 {
		out = append(out, fmt.Sprintf("needless_takeovers is %d", r.NeedlessTakeovers))
	}
	if r.linear != porcupine.Ok {
		out = append(out, fmt.Sprintf("the second method says %s", r.linear))
	}
	slices.Sort(out)
	return out
}

func (r Report) print(w io.Writer) {
	if r.Measured != nil {
		defer r.Measured.print(w)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "| fault\t| n\t| alone, a shard was dead for at most\t|")
	fmt.Fprintln(tw, "|---\t|---\t|---\t|")
	for _, kind := range slices.Sorted(maps.Keys(r.ByKind)) {
		fmt.Fprintf(tw, "| %s\t| %d\t| %.1f s\t|\n", kind, r.ByKind[kind], r.dead[kind].Seconds())
	}
	fmt.Fprintf(tw, "| all; several at once\t| %d\t| %.1f s\t|\n", r.Faults, r.dead[storms].Seconds())
	_ = tw.Flush()
	if r.RunsReport != nil {
		fmt.Fprintf(w, "\n%s\n", r.RunsReport)
	}
	fmt.Fprintf(w, `
%d assignments, %d actions of the hostile client, %d drains, %d faults could not be made, %d replicas ended by themselves
assigned twice %d, epochs interleaved %d, takes under a former epoch %d, entries lost %d, hosts stranded %d, entries stuck %d, recorder drift %d; the second method says %s
needless takeovers %d; a shard was dead for at most %.1f s (%s); failover after kill -9, %d times: p50 %.0f ms, p99 %.0f ms; goroutines grew by %d
`, r.Assignments, r.hostile, r.drains, r.failed, r.ended,
		r.AssignedTwice, r.EpochsInterleaved, r.TakesUnderFormerEpoch, r.EntriesLost, r.HostsStranded, r.EntriesStuck, r.RecorderDrift, r.linear,
		r.NeedlessTakeovers, r.DeadLongest, r.deadWhere, r.failovers, r.FailoverMillis50, r.FailoverMillis99, r.LeakedGoroutines)
}

// write writes the figures as JSON, if a file was asked for.
func (r Report) write(file string) error {
	if file == "" {
		return nil
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}
