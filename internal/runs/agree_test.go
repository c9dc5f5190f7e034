package runs_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/lifecycle"
	"github.com/hostsched/hostsched/internal/runs"
	"github.com/hostsched/hostsched/internal/storetest"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store"
	"github.com/hostsched/hostsched/store/sqldb"
)

// picture is all that the rules look at, in all of a lab.
type picture struct {
	Jobs       map[scheduler.JobID]lifecycle.Job
	Entries    map[scheduler.EntryID]lifecycle.Entry
	Hosts      map[scheduler.HostID]lifecycle.Host
	Tasks      map[lifecycle.TaskID]lifecycle.Task
	Ineligible map[pair]bool
}

type pair struct {
	job  scheduler.JobID
	host scheduler.HostID
}

// look reads the rows as they are, without the help of the code under test.
func (w *world) look() picture {
	w.t.Helper()
	p := picture{map[scheduler.JobID]lifecycle.Job{}, map[scheduler.EntryID]lifecycle.Entry{}, map[scheduler.HostID]lifecycle.Host{}, map[lifecycle.TaskID]lifecycle.Task{}, map[pair]bool{}}
	each := func(query string, row func(sqldb.Scanner) error) {
		w.t.Helper()
		require.NoError(w.t, sqldb.EachRow(w.ctx, w.db.SQL(), query, nil, row))
	}
	each("SELECT j.id, j.synch_count, j.run_verify, j.run_reset, j.reboot_after, u.id FROM afe_jobs j JOIN afe_users u ON u.login = j.owner", func(scan sqldb.Scanner) error {
		var id scheduler.JobID
		var j lifecycle.Job
		err := scan(&id, &j.SynchCount, &j.RunVerify, &j.RunReset, &j.RebootAfter, &j.Owner)
		p.Jobs[id] = j
		return err
	})
	each("SELECT q.id, q.job_id, COALESCE(q.host_id, 0), q.status, q.active, q.complete, q.aborted, q.meta_host IS NOT NULL, q.started_on IS NOT NULL, q.finished_on IS NOT NULL, q.execution_subdir,"+
		" EXISTS (SELECT 1 FROM hostsched_run_hosts x JOIN hostsched_runs r ON r.id = x.run_id WHERE x.entry_id = q.id AND r.closed IS NULL) FROM afe_host_queue_entries q", func(scan sqldb.Scanner) error {
		var id scheduler.EntryID
		var e lifecycle.Entry
		err := scan(&id, &e.Job, &e.Host, &e.Status, &e.Active, &e.Complete, &e.Aborted, &e.AnyHost, &e.Started, &e.Finished, &e.Subdir, &e.Claimed)
		p.Entries[id] = e
		return err
	})
	each("SELECT id, hostname, status, dirty, protection, locked FROM afe_hosts", func(scan sqldb.Scanner) error {
		var id scheduler.HostID
		var h lifecycle.Host
		err := scan(&id, &h.Hostname, &h.Status, &h.Dirty, &h.Protection, &h.Locked)
		p.Hosts[id] = h
		return err
	})
	each("SELECT id, task, host_id, COALESCE(queue_entry_id, 0), is_active, is_complete, success, requested_by_id FROM afe_special_tasks", func(scan sqldb.Scanner) error {
		var id lifecycle.TaskID
		var t lifecycle.Task
		err := scan(&id, &t.Kind, &t.Host, &t.Entry, &t.Active, &t.Complete, &t.Success, &t.RequestedBy)
		p.Tasks[id] = t
		return err
	})
	each("SELECT job_id, host_id FROM afe_ineligible_host_queues", func(scan sqldb.Scanner) error {
		var at pair
		err := scan(&at.job, &at.host)
		p.Ineligible[at] = true
		return err
	})
	return p
}

// state is the part of it that is about a job, a host, or both.
func (p picture) state(system scheduler.UserID, job scheduler.JobID, host scheduler.HostID) lifecycle.State {
	s := lifecycle.State{
		Job: p.Jobs[job], System: system, Limits: lifecycle.DefaultLimits(), Ineligible: map[scheduler.HostID]bool{},
		Entries: map[scheduler.EntryID]lifecycle.Entry{}, Hosts: map[scheduler.HostID]lifecycle.Host{}, Tasks: map[lifecycle.TaskID]lifecycle.Task{},
	}
	hosts := map[scheduler.HostID]bool{host: host != 0}
	for id, e := range p.Entries {
		if job != 0 && e.Job == job {
			s.Entries[id] = e
			hosts[e.Host] = e.Host != 0
		}
	}
	for id, used := range hosts {
		if !used {
			continue
		}
		h := p.Hosts[id]
		for _, e := range p.Entries {
			h.Busy = h.Busy || e.Host == id && e.Active && e.Job != job
		}
		s.Hosts[id] = h
		s.Ineligible[id] = p.Ineligible[pair{job, id}]
	}
	for id, t := range p.Tasks {
		_, ours := s.Entries[t.Entry]
		if _, here := s.Hosts[t.Host]; ours || here && !t.Complete {
			s.Tasks[id] = t
		}
	}
	return s
}

// after is what becomes of it when events happen, as the rules have it. Fresh are the tasks that
// they queue, in that order.
func (p picture) after(before lifecycle.State, job scheduler.JobID, events ...lifecycle.Event) (out picture, fresh []lifecycle.Task, err error) {
	after := before
	for _, e := range events {
		if after, err = lifecycle.Next(after, e); err != nil {
			return p, nil, err
		}
	}
	out = picture{p.Jobs, maps.Clone(p.Entries), maps.Clone(p.Hosts), maps.Clone(p.Tasks), maps.Clone(p.Ineligible)}
	maps.Copy(out.Entries, after.Entries)
	for id, h := range after.Hosts {
		h.Busy = false
		out.Hosts[id] = h
	}
	for id := range before.Tasks {
		delete(out.Tasks, id)
	}
	for _, id := range slices.Backward(slices.Sorted(maps.Keys(after.Tasks))) { // new ones have falling ids
		if id < 0 {
			fresh = append(fresh, after.Tasks[id])
		} else {
			out.Tasks[id] = after.Tasks[id]
		}
	}
	for host := range before.Ineligible {
		if !after.Ineligible[host] {
			delete(out.Ineligible, pair{job, host})
		}
	}
	return out, fresh, nil
}

// walk lets things happen in a lab by chance, and compares what the rules make of the rows with
// what became of them.
type walk struct {
	*world
	rand   *rand.Rand
	agent  runs.Claimant
	system scheduler.UserID
	open   []labapi.Claimed
	// givenUp are the entries of runs that were lost before they began.
	givenUp [][]scheduler.EntryID
	// happened counts events of each kind, refused those that were not possible.
	happened map[string]int
	refused  int
}

// agree does something, which must do to the rows what the events do by the rules: nothing if
// they are not possible.
func (w *walk) agree(what string, job scheduler.JobID, host scheduler.HostID, do func() (bool, error), events ...lifecycle.Event) {
	w.t.Helper()
	before := w.look()
	want, fresh, impossible := before.after(before.state(w.system, job, host), job, events...)
	done, err := do()
	got := w.look()
	require.NoError(w.t, err, what)
	require.Equal(w.t, impossible == nil, done, "%s: %v", what, impossible)
	var queued []lifecycle.Task
	for _, id := range slices.Sorted(maps.Keys(got.Tasks)) {
		if _, old := before.Tasks[id]; !old {
			queued = append(queued, got.Tasks[id])
			delete(got.Tasks, id)
		}
	}
	require.Equal(w.t, fresh, queued, "the tasks that are queued by: %s", what)
	require.Equal(w.t, want, got, what)
	if !done {
		w.refused++
		return
	}
	for _, e := range events {
		w.happened[fmt.Sprintf("%T", e)]++
	}
}

func pick[T any](w *walk, from []T) (one T, ok bool) {
	if len(from) == 0 {
		return one, false
	}
	return from[w.rand.IntN(len(from))], true
}

func (w *walk) submits() {
	if len(w.look().going()) > 5 {
		return
	}
	count := 1 + w.rand.IntN(2)
	spec := labapi.JobSpec{Count: count, Synch: count}
	if w.rand.IntN(3) == 0 {
		spec = labapi.JobSpec{Hosts: []string{"h1"}}
	}
	out := w.job(spec)
	storetest.Exec(w.t, w.db, "UPDATE afe_jobs SET run_verify = ?, run_reset = ?, reboot_after = ? WHERE id = ?", w.rand.IntN(2), w.rand.IntN(2), w.rand.IntN(3), out.ID)
}

// gives is the planner.
func (w *walk) gives() {
	p := w.look()
	for _, id := range slices.Sorted(maps.Keys(p.Entries)) {
		e := p.Entries[id]
		if e.Status != scheduler.StatusQueued || e.Active || e.Aborted {
			continue
		}
		for _, host := range slices.Sorted(maps.Keys(p.Hosts)) {
			if p.free(host) && (e.Host == host || e.Host == 0 && e.AnyHost && !p.Ineligible[pair{e.Job, host}]) {
				kinds := [][]string{{"Reset"}, {"Cleanup"}, {"Verify"}, {"Cleanup", "Verify"}, {"Provision"}}
				if p.Jobs[e.Job].SynchCount == 1 {
					kinds = append(kinds, nil, nil, nil, nil) // it starts at once
				}
				tasks, _ := pick(w, kinds)
				w.give(int64(id), int64(host), tasks...)
				return
			}
		}
	}
}

// going are the entries that have not ended.
func (p picture) going() (out []scheduler.EntryID) {
	for _, id := range slices.Sorted(maps.Keys(p.Entries)) {
		if !p.Entries[id].Complete {
			out = append(out, id)
		}
	}
	return out
}

func (p picture) free(host scheduler.HostID) bool {
	for _, e := range p.Entries {
		if e.Host == host && e.Active {
			return false
		}
	}
	for _, t := range p.Tasks {
		if t.Host == host && !t.Complete {
			return false
		}
	}
	return p.Hosts[host].Status == scheduler.HostReady && !p.Hosts[host].Locked
}

func (w *walk) claims() {
	o, ok := pick(w, w.offers(w.agent))
	if !ok {
		return
	}
	job, events := scheduler.JobID(o.Job), []lifecycle.Event{lifecycle.TaskStarted{Task: lifecycle.TaskID(o.Task)}}
	var host scheduler.HostID
	if o.Kind == "job" {
		events[0] = lifecycle.RunClaimed{Entries: ids(o.Entries)}
	} else {
		p := w.look()
		t := p.Tasks[lifecycle.TaskID(o.Task)]
		job, host = p.Entries[t.Entry].Job, t.Host
	}
	w.agree(fmt.Sprintf("claim of %+v", o), job, host, func() (bool, error) {
		claimed, err := w.Claim(w.ctx, w.agent, labapi.ClaimInput{Session: w.agent.Session, ClaimKey: w.key(), Offer: o})
		if err == nil {
			w.open = append(w.open, claimed)
		}
		return err == nil, except(err, runs.ErrOfferGone)
	}, events...)
}

func except(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}

func ids(of []int64) (out []scheduler.EntryID) {
	for _, id := range of {
		out = append(out, scheduler.EntryID(id))
	}
	return out
}

// entriesOf are those of a run of a job.
func (w *walk) entriesOf(run runs.Run) (out []scheduler.EntryID) {
	in, err := sqldb.SelectIDs(w.ctx, w.db.Pool, "SELECT entry_id FROM hostsched_run_hosts WHERE run_id = ? AND entry_id IS NOT NULL ORDER BY entry_id", run.ID)
	require.NoError(w.t, err)
	return ids(in)
}

func (w *walk) reports(verb string) {
	claimed, ok := pick(w, w.open)
	if !ok {
		return
	}
	run, err := w.ByToken(w.ctx, claimed.Token)
	require.NoError(w.t, err)
	p := w.look()
	t := p.Tasks[lifecycle.TaskID(run.Task)]
	job, host, entries := scheduler.JobID(run.Job), t.Host, w.entriesOf(run)
	if run.Task != 0 {
		job = p.Entries[t.Entry].Job
	}
	what := fmt.Sprintf("%s of run %d, %s %s, of job %d", verb, run.ID, run.Kind, run.State, job)
	var events []lifecycle.Event
	switch {
	case run.Task != 0:
	case verb == "begin" && run.State == "claimed":
		events = append(events, lifecycle.RunStarted{Entries: entries})
	case verb != "begin" && run.State != "finishing":
		events = append(events, lifecycle.RunEnded{Entries: entries})
	}
	if phase := map[string]string{"begin": "running", "end": "finishing"}[verb]; phase != "" {
		w.agree(what, job, host, func() (bool, error) {
			_, err := w.State(w.ctx, run, labapi.RunState{Phase: phase})
			return err == nil, except(err, runs.ErrRunLost)
		}, events...)
		return
	}
	w.open = slices.DeleteFunc(w.open, func(c labapi.Claimed) bool { return c.Run == claimed.Run })
	if verb == "loss" {
		w.agree(what, job, host, func() (bool, error) { return true, w.Lose(w.ctx, run) }, append(events, w.loss(run, entries)...)...)
		return
	}
	in := labapi.RunFinish{TestsFailed: w.rand.IntN(2)}
	in.Result, _ = pick(w, []string{"passed", "passed", "passed", "passed", "failed", "unusable"})
	if run.Task != 0 {
		events = []lifecycle.Event{lifecycle.TaskEnded{Task: lifecycle.TaskID(run.Task), OK: in.Result == "passed"}}
	} else {
		passed := in.Result == "passed"
		events = append(events, lifecycle.Gathered{Entries: entries, OK: passed, TestsFailed: in.TestsFailed, Unusable: in.Result == "unusable"}, lifecycle.Parsed{Entries: entries, OK: passed})
	}
	w.agree(what+" with "+in.Result, job, host, func() (bool, error) {
		_, err := w.Finish(w.ctx, run, in)
		return err == nil, err
	}, events...)
}

// loss is what the loss of a run means. What had not begun is made again three times.
func (w *walk) loss(run runs.Run, entries []scheduler.EntryID) []lifecycle.Event {
	if run.Task != 0 {
		return []lifecycle.Event{lifecycle.TaskEnded{Task: lifecycle.TaskID(run.Task), Lost: true}}
	}
	if run.State == "claimed" {
		before := 0
		for _, other := range w.givenUp {
			if slices.ContainsFunc(other, func(id scheduler.EntryID) bool { return slices.Contains(entries, id) }) {
				before++
			}
		}
		w.givenUp = append(w.givenUp, entries)
		if before < 3 {
			return []lifecycle.Event{lifecycle.Requeued{Entries: entries}}
		}
	}
	return []lifecycle.Event{lifecycle.Gathered{Entries: entries, Lost: true}, lifecycle.Parsed{Entries: entries}}
}

// aborts is a person.
func (w *walk) aborts() {
	p := w.look()
	id, ok := pick(w, p.going())
	if ok {
		_, err := w.lab.AbortJob(w.ctx, root, int64(p.Entries[id].Job), "test")
		require.NoError(w.t, err)
	}
}

// disturbs is a person, too, who knows what the rows mean.
func (w *walk) disturbs() {
	p := w.look()
	host, _ := pick(w, slices.Sorted(maps.Keys(p.Hosts)))
	switch w.rand.IntN(9) {
	case 0:
		storetest.Exec(w.t, w.db, "UPDATE afe_hosts SET locked = 1 WHERE id = ?", host)
	case 1:
		storetest.Exec(w.t, w.db, "UPDATE afe_hosts SET protection = ? WHERE id = ?", w.rand.IntN(2)*int(scheduler.DoNotVerify), host)
	case 2, 3:
		for _, host := range slices.Sorted(maps.Keys(p.Hosts)) {
			if p.free(host) {
				storetest.Exec(w.t, w.db, "UPDATE afe_hosts SET status = ? WHERE id = ?", []string{"Verifying", "Pending"}[w.rand.IntN(2)], host)
			}
		}
	default:
		storetest.Exec(w.t, w.db, "UPDATE afe_hosts SET locked = 0")
	}
}

// sweeps does one of the things that a sweep may find due, wherever that is possible.
func (w *walk) sweeps() {
	p := w.look()
	var steps []lifecycle.Step
	kind := w.rand.IntN(5)
	for _, host := range slices.Sorted(maps.Keys(p.Hosts)) {
		switch kind {
		case 0:
			steps = append(steps, lifecycle.Step{Host: host, Event: lifecycle.Sweep{Host: host}})
		case 1:
			steps = append(steps, lifecycle.Step{Host: host, Event: lifecycle.Recheck{Host: host}})
		}
	}
	for _, id := range p.going() {
		job := p.Entries[id].Job
		switch kind {
		case 2:
			steps = append(steps, lifecycle.Step{Job: job, Event: lifecycle.Settle{}})
		case 3:
			steps = append(steps, lifecycle.Step{Job: job, Event: lifecycle.Abort{Entry: id}})
		case 4:
			steps = append(steps, lifecycle.Step{Job: job, Event: lifecycle.Stranded{Entry: id}})
		}
	}
	for _, step := range steps {
		w.agree(fmt.Sprintf("%T%+v", step.Event, step.Event), step.Job, step.Host, func() (bool, error) { return w.Step(w.ctx, step) }, step.Event)
	}
}

// TestTheRowsAgreeWithTheRules: whatever happens to a lab, the rows become what the pure rules
// make of them, and what the rules refuse changes none.
func TestTheRowsAgreeWithTheRules(t *testing.T) {
	const steps = 600
	hosts := []string{"h1", "h2", "h3"}
	kinds := []string{"TaskStarted", "TaskEnded", "RunClaimed", "RunStarted", "RunEnded", "Gathered", "Parsed", "Requeued", "Abort", "Sweep", "Recheck"}
	storetest.OnEachLab(t, func(t *testing.T, db *store.DB) {
		w := &walk{world: newWorld(t, db), happened: map[string]int{}, rand: rand.New(rand.NewPCG(15, 4))} //nolint:gosec // chance that repeats itself
		for _, name := range hosts {
			w.host(name)
		}
		// The planner gives hosts to the tasks that are queued for them.
		storetest.Exec(t, db, "UPDATE afe_hosts SET leased = 1")
		w.agent = w.world.agent("a1", hosts...)
		system, err := w.lab.SystemUser(w.ctx)
		require.NoError(t, err)
		w.system = scheduler.UserID(system)
		report := func(verb string) func() { return func() { w.reports(verb) } }
		often := []func(){w.gives, w.gives, w.claims, w.claims, w.claims, report("begin"), report("begin"), report("end"), report("finish")}
		seldom := []func(){w.submits, w.submits, w.aborts, w.disturbs, w.sweeps, w.sweeps, w.sweeps, report("loss")}
		everything := func() bool {
			return !slices.ContainsFunc(kinds, func(kind string) bool { return w.happened["lifecycle."+kind] == 0 })
		}
		for i := 0; i < steps || i < 3*steps && !everything(); i++ {
			from := often
			if w.rand.IntN(3) == 0 {
				from = seldom
			}
			happens, _ := pick(w, from)
			happens()
		}
		t.Logf("%v happened, %d were refused", w.happened, w.refused)
		require.True(t, everything(), "each kind of event: %v", kinds)
		require.Positive(t, w.refused)
	})
}
