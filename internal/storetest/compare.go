package storetest

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/hostsched/hostsched/internal/simlab"
	"github.com/hostsched/hostsched/scheduler"
)

// Tick is what our scheduler did in one tick.
type Tick struct {
	Plan   scheduler.Plan
	Suites map[scheduler.JobID]int
}

// Compare returns one line for each difference that FORMAT.md does not allow.
func (w *World) Compare(ctx context.Context, got Tick, want Expected) ([]string, error) {
	st, err := w.state(ctx)
	if err != nil {
		return nil, err
	}
	c := &comparison{w: w, got: got, want: want, state: st}
	c.acquired()
	c.groups()
	c.suites()
	c.entries()
	c.hosts()
	c.tasks()
	c.validity()
	return c.diffs, nil
}

type comparison struct {
	w     *World
	got   Tick
	want  Expected
	state state
	diffs []string
}

func (c *comparison) diff(format string, args ...any) {
	c.diffs = append(c.diffs, fmt.Sprintf(format, args...))
}

func equal[T any](c *comparison, what string, got, want T) {
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		c.diff("%s: %s, original %s", what, g, w)
	}
}

// acquired compares which entries got a host; of jobs with several entries only
// how many.
func (c *comparison) acquired() {
	perJob := map[int64]int{}
	for _, q := range c.w.entries {
		perJob[q.Job]++
	}
	single := []int64{}
	byJob := map[string]int{}
	for _, a := range c.got.Plan.Assignments {
		if perJob[int64(a.Job)] == 1 {
			single = append(single, int64(a.Entry))
		} else {
			byJob[strconv.FormatInt(int64(a.Job), 10)]++
		}
	}
	slices.Sort(single)
	want := slices.Sorted(slices.Values(c.want.Acquired))
	equal(c, "acquired", single, want)
	equal(c, "acquired by job", byJob, c.want.AcquiredByJob)
}

func (c *comparison) groups() {
	hosts := map[int64]string{}
	for _, a := range c.got.Plan.Assignments {
		hosts[int64(a.Entry)] = a.Hostname
	}
	for _, g := range c.want.Groups {
		n := 0
		hits := []int{}
		for _, id := range g.HQEs {
			name, ok := hosts[id]
			if !ok {
				continue
			}
			n++
			hits = append(hits, countIn(g.Request.Preferred, c.w.hostRows[name].Labels))
		}
		slices.Sort(hits)
		slices.Reverse(hits)
		equal(c, fmt.Sprintf("acquired by the request of entries %v", g.HQEs), n, g.Acquired)
		if c.want.Strict.Preferred {
			equal(c, fmt.Sprintf("preferred labels of entries %v", g.HQEs), hits, g.PreferredHits)
		}
	}
}

func countIn(wanted, have []string) int {
	n := 0
	for _, l := range wanted {
		if slices.Contains(have, l) {
			n++
		}
	}
	return n
}

func (c *comparison) suites() {
	got := map[string]int{}
	for suite, n := range c.got.Suites {
		got[strconv.FormatInt(int64(suite), 10)] = n
	}
	want := maps.Clone(c.want.SuiteHostNum)
	maps.DeleteFunc(want, func(_ string, n int) bool { return n == 0 })
	equal(c, "hosts held by suite", got, want)
}

// entries compares every entry as far as it is determined, and per job the
// multiset of flags in any case.
func (c *comparison) entries() {
	got, want := map[int64][]string{}, map[int64][]string{}
	for id, q := range c.state.entries {
		exp, ok := c.want.State.HQEs[id]
		if !ok {
			c.diff("entry %s is not known to the original", id)
			continue
		}
		job := c.w.entries[mustInt(id)].Job
		got[job] = append(got[job], fmt.Sprint(q.active, q.complete, q.aborted))
		want[job] = append(want[job], fmt.Sprint(exp[1], exp[2], exp[3]))
		if !c.want.Varies.HQEHost[id] {
			equal(c, "host of entry "+id, q.host, text(exp[0]))
		}
		if !c.want.Varies.HQEState[id] {
			equal(c, "state of entry "+id, fmt.Sprint(q.active, q.complete, q.aborted, q.status), fmt.Sprint(exp[1], exp[2], exp[3], exp[4]))
		}
	}
	for job := range want {
		slices.Sort(got[job])
		slices.Sort(want[job])
		equal(c, fmt.Sprintf("flags of the entries of job %d", job), got[job], want[job])
	}
}

func (c *comparison) hosts() {
	leased := 0
	for name, h := range c.state.hosts {
		leased += h.leased
		exp, ok := c.want.State.Hosts[name]
		if !ok || c.want.Varies.HostState[name] {
			continue
		}
		equal(c, "state of host "+name, fmt.Sprint(h.leased, h.status), fmt.Sprint(exp[0], text(exp[1])))
	}
	equal(c, "leased hosts", leased, c.want.LeasedCount)
}

// tasks compares the special tasks of each job where they are determined, and
// that those of different entries come in queue order.
func (c *comparison) tasks() {
	if !c.want.Strict.TasksByJob {
		return
	}
	got, want := map[string][]string{}, map[string][]string{}
	for _, t := range c.state.tasks {
		key := c.taskKey(t.entry)
		got[key] = append(got[key], fmt.Sprint(t.task, " by ", t.by, " ", t.active, t.complete))
	}
	for _, t := range c.want.State.SpecialTasks {
		key := c.taskKey(text(t[2]))
		want[key] = append(want[key], fmt.Sprint(t[1], " by ", t[3], " ", t[4], t[5]))
	}
	for key := range want {
		slices.Sort(got[key])
		slices.Sort(want[key])
	}
	equal(c, "special tasks by job", got, want)
	c.taskOrder()
}

// taskOrder checks that tasks queued in this tick for different entries come in
// the order of the queue.
func (c *comparison) taskOrder() {
	order := map[string]int{}
	assigned := slices.Clone(c.got.Plan.Assignments)
	slices.SortStableFunc(assigned, c.queueOrder)
	for i, a := range assigned {
		order[strconv.FormatInt(int64(a.Entry), 10)] = i
	}
	lastRow := map[string]int{} // an entry that was requeued has older rows, too
	for i, t := range c.state.tasks {
		lastRow[t.entry] = i
	}
	last := -1
	for i, t := range c.state.tasks {
		at, ok := order[t.entry]
		if !ok || lastRow[t.entry] != i {
			continue
		}
		if at < last {
			c.diff("the tasks of entry %s are not in queue order", t.entry)
		}
		last = max(last, at)
	}
}

func (c *comparison) queueOrder(a, b scheduler.Assignment) int {
	meta := func(a scheduler.Assignment) int { return rank(c.w.entries[int64(a.Entry)].MetaHost == nil) }
	return cmp.Or(
		cmp.Compare(b.Priority, a.Priority),
		cmp.Compare(rank(!a.Named), rank(!b.Named)),
		cmp.Compare(meta(a), meta(b)),
		cmp.Compare(a.Suite, b.Suite),
		cmp.Compare(a.Job, b.Job),
	)
}

func rank(last bool) int {
	if last {
		return 1
	}
	return 0
}

func (c *comparison) taskKey(entry string) string {
	if entry == "" {
		return "frontend"
	}
	return "job " + strconv.FormatInt(c.w.entries[mustInt(entry)].Job, 10)
}

// validity checks every assignment against the rules: labels, a common ACL
// group, and no host twice. Labels that a special task handles are the
// scheduler's own affair: the original's request says which were required.
func (c *comparison) validity() {
	required := map[int64][]string{}
	for _, g := range c.want.Groups {
		for _, id := range g.HQEs {
			required[id] = g.Request.Deps
		}
	}
	seen := map[scheduler.HostID]bool{}
	for _, a := range c.got.Plan.Assignments {
		if seen[a.Host] {
			c.diff("host %s was assigned twice", a.Hostname)
		}
		seen[a.Host] = true
		h := c.w.hostRows[a.Hostname]
		if missing := len(required[int64(a.Entry)]) - countIn(required[int64(a.Entry)], append(slices.Clone(h.Labels), h.StaticLabels...)); missing > 0 {
			c.diff("host %s lacks %d labels of entry %d", a.Hostname, missing, a.Entry)
		}
		if !c.shareACL(a.Job, h) && (!h.Invalid || !a.Named) {
			c.diff("host %s shares no ACL group with the owner of entry %d", a.Hostname, a.Entry)
		}
	}
}

func (c *comparison) shareACL(job scheduler.JobID, h Host) bool {
	return slices.ContainsFunc(h.ACLs, func(a string) bool { return slices.Contains(c.state.groups[int64(job)], a) })
}

func mustInt(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// text writes a JSON value as a string: null is empty.
func text(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// state is the part of the database that scenarios describe.
type state struct {
	entries map[string]entryState
	hosts   map[string]hostState
	tasks   []taskState
	groups  map[int64][]string // ACL groups of the owner of each job
}

type entryState struct {
	host                      string
	active, complete, aborted int
	status                    string
}

type hostState struct {
	leased int
	status string
}

type taskState struct {
	host, task, entry, by string
	active, complete      int
}

func (w *World) state(ctx context.Context) (state, error) {
	st := state{entries: map[string]entryState{}, hosts: map[string]hostState{}, groups: map[int64][]string{}}
	err := errors.Join(
		simlab.Each(ctx, w.db, "SELECT j.id, g.name FROM afe_jobs j JOIN afe_users u ON u.login = j.owner JOIN afe_acl_groups_users m ON m.user_id = u.id JOIN afe_acl_groups g ON g.id = m.aclgroup_id", func(rows *sql.Rows) error {
			var job int64
			var group string
			err := rows.Scan(&job, &group)
			st.groups[job] = append(st.groups[job], group)
			return err
		}),
		simlab.Each(ctx, w.db, "SELECT id, host_id, active, complete, aborted, status FROM afe_host_queue_entries", func(rows *sql.Rows) error {
			var id string
			var host sql.NullInt64
			var e entryState
			err := rows.Scan(&id, &host, &e.active, &e.complete, &e.aborted, &e.status)
			e.host = w.hostname[host.Int64]
			st.entries[id] = e
			return err
		}),
		simlab.Each(ctx, w.db, "SELECT hostname, leased, status FROM afe_hosts", func(rows *sql.Rows) error {
			var name string
			var status sql.NullString
			var h hostState
			err := rows.Scan(&name, &h.leased, &status)
			h.status = status.String
			st.hosts[name] = h
			return err
		}),
		simlab.Each(ctx, w.db, "SELECT host_id, task, queue_entry_id, requested_by_id, is_active, is_complete FROM afe_special_tasks ORDER BY id", func(rows *sql.Rows) error {
			var host, by int64
			var entry sql.NullString
			var t taskState
			err := rows.Scan(&host, &t.task, &entry, &by, &t.active, &t.complete)
			t.host, t.entry, t.by = w.hostname[host], entry.String, w.login[by]
			st.tasks = append(st.tasks, t)
			return err
		}))
	return st, err
}
