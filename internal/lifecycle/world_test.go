package lifecycle_test

import (
	"maps"
	"slices"

	"github.com/hostsched/hostsched/internal/lifecycle"
	"github.com/hostsched/hostsched/scheduler"
)

// machine is the package, or a mutant of it.
type machine struct {
	next func(lifecycle.State, lifecycle.Event) (lifecycle.State, error)
	due  func(lifecycle.Picture) lifecycle.Decisions
}

var original = machine{lifecycle.Next, lifecycle.Due}

// aRun is a run with what its claimant does about it.
type aRun struct {
	id      lifecycle.RunID
	task    lifecycle.TaskID    // 0 for the run of a job
	entries []scheduler.EntryID // of the job's run
	hosts   []scheduler.HostID
	state   lifecycle.RunState
	// claimant is who has it. Runs of one that is dead are neither renewed nor reported.
	claimant         int
	lease            int64
	claimed, started int64
	stop             int64
}

type aJob struct {
	lifecycle.Job
	deadline int64
	entries  []scheduler.EntryID
	// ineligible are the hosts that the job may not get (again).
	ineligible map[scheduler.HostID]bool
	hard       int64
}

// world is a lab in memory: what the database is to the servers. Its claimants and its
// planner do what the real ones do.
type world struct {
	machine
	now, away int64
	rechecked int64
	jobs      map[scheduler.JobID]*aJob
	entries   map[scheduler.EntryID]lifecycle.Entry
	hosts     map[scheduler.HostID]lifecycle.Host
	tasks     map[lifecycle.TaskID]lifecycle.Task
	runs      map[lifecycle.RunID]*aRun
	lastRun   lifecycle.RunID
	lastTask  lifecycle.TaskID
	dead      map[int]bool
	// unsure are hosts where a lost run may still be at work.
	unsure map[scheduler.HostID]bool
	// wrong is the first thing that should not have happened.
	wrong error
}

func newWorld(m machine, hosts int) *world {
	w := &world{
		machine: m, now: now, rechecked: now,
		jobs: map[scheduler.JobID]*aJob{}, entries: map[scheduler.EntryID]lifecycle.Entry{}, hosts: map[scheduler.HostID]lifecycle.Host{},
		tasks: map[lifecycle.TaskID]lifecycle.Task{}, runs: map[lifecycle.RunID]*aRun{}, dead: map[int]bool{}, unsure: map[scheduler.HostID]bool{},
	}
	for id := range scheduler.HostID(hosts) {
		w.hosts[id+1] = lifecycle.Host{Hostname: "host" + string(rune('1'+id)), Status: scheduler.HostReady}
	}
	return w
}

// state is what the database gives to a transaction about a job, a host, or both.
func (w *world) state(job scheduler.JobID, host scheduler.HostID) lifecycle.State {
	s := lifecycle.State{
		System: system, Limits: lifecycle.DefaultLimits(),
		Entries: map[scheduler.EntryID]lifecycle.Entry{}, Hosts: map[scheduler.HostID]lifecycle.Host{}, Tasks: map[lifecycle.TaskID]lifecycle.Task{},
	}
	if host != 0 {
		s.Hosts[host] = w.hosts[host]
	}
	if j := w.jobs[job]; j != nil {
		s.Job, s.Ineligible = j.Job, maps.Clone(j.ineligible)
		for _, id := range j.entries {
			e := w.entries[id]
			e.Claimed = w.claimedBy(id) != nil
			s.Entries[id] = e
			if e.Host != 0 {
				s.Hosts[e.Host] = w.hosts[e.Host]
			}
		}
	}
	for id, t := range w.tasks {
		_, ours := s.Entries[t.Entry]
		if _, here := s.Hosts[t.Host]; ours || here && !t.Complete {
			s.Tasks[id] = t
		}
	}
	for id, h := range s.Hosts {
		h.Busy = slices.ContainsFunc(w.activeOn(id), func(e scheduler.EntryID) bool { return w.entries[e].Job != job })
		s.Hosts[id] = h
	}
	return s
}

func (w *world) activeOn(host scheduler.HostID) (ids []scheduler.EntryID) {
	for _, id := range slices.Sorted(maps.Keys(w.entries)) {
		if e := w.entries[id]; e.Host == host && e.Active {
			ids = append(ids, id)
		}
	}
	return ids
}

func (w *world) claimedBy(entry scheduler.EntryID) *aRun {
	for _, r := range w.runs {
		if slices.Contains(r.entries, entry) {
			return r
		}
	}
	return nil
}

func (w *world) runOf(task lifecycle.TaskID) *aRun {
	for _, r := range w.runs {
		if r.task == task {
			return r
		}
	}
	return nil
}

// happens applies events in one transaction. It tells whether all of them were possible.
func (w *world) happens(job scheduler.JobID, host scheduler.HostID, events ...lifecycle.Event) bool {
	before := w.state(job, host)
	after := before
	for _, ev := range events {
		var err error
		if after, err = w.next(after, ev); err != nil {
			return false
		}
	}
	w.write(job, lifecycle.Diff(before, after))
	return true
}

func (w *world) write(job scheduler.JobID, writes lifecycle.Writes) {
	for _, c := range writes.Entries {
		if c.Before.Complete {
			w.fail("entry %d was %s, and becomes %+v", c.ID, c.Before.Status, *c.After)
		}
		w.entries[c.ID] = *c.After
	}
	for _, c := range writes.Hosts {
		h := *c.After
		h.Busy = false
		w.hosts[c.ID] = h
	}
	for _, c := range slices.Backward(writes.Tasks) { // new ones in the order of falling ids
		switch {
		case c.After == nil:
			delete(w.tasks, c.ID)
		case c.Before == nil:
			w.addTask(*c.After)
		default:
			if c.Before.Complete {
				w.fail("task %d was complete, and becomes %+v", c.ID, *c.After)
			}
			w.tasks[c.ID] = *c.After
		}
	}
	for _, host := range writes.Eligible {
		delete(w.jobs[job].ineligible, host)
	}
}

func (w *world) addTask(t lifecycle.Task) {
	w.lastTask++
	w.tasks[w.lastTask] = t
}

func (w *world) openTasks(host scheduler.HostID) (ids []lifecycle.TaskID) {
	for _, id := range slices.Sorted(maps.Keys(w.tasks)) {
		if t := w.tasks[id]; t.Host == host && !t.Complete {
			ids = append(ids, id)
		}
	}
	return ids
}

// give is the planner: it gives a free host to an entry that waits, with the tasks that come
// before its run.
func (w *world) give(id scheduler.EntryID, host scheduler.HostID, kinds ...lifecycle.Kind) {
	e := w.entries[id]
	j := w.jobs[e.Job]
	if e.Host == 0 {
		j.ineligible[host] = true
	}
	e.Host, e.Active = host, true
	w.entries[id] = e
	for _, kind := range kinds {
		w.addTask(lifecycle.Task{Kind: kind, Host: host, Entry: id, RequestedBy: j.Owner})
	}
	if len(kinds) > 0 {
		return
	}
	// The planner's own rule, for an entry that needs no task.
	h := w.hosts[host]
	h.Status = scheduler.HostPending
	w.hosts[host] = h
	e.Status = scheduler.StatusPending
	w.entries[id] = e
	w.happens(e.Job, 0, lifecycle.Settle{})
}

// free tells whether the planner may give a host to an entry.
func (w *world) free(id scheduler.EntryID, host scheduler.HostID) bool {
	e, h := w.entries[id], w.hosts[host]
	if e.Status != scheduler.StatusQueued || e.Active || e.Aborted || e.Host == 0 && (!e.AnyHost || w.jobs[e.Job].ineligible[host]) || e.Host != 0 && e.Host != host {
		return false
	}
	for _, other := range w.jobs[e.Job].entries {
		if o := w.entries[other]; other != id && o.Host == host {
			return false // as the database: one entry of a job for each host
		}
	}
	return h.Status == scheduler.HostReady && !h.Locked && len(w.activeOn(host)) == 0 && len(w.openTasks(host)) == 0
}

// nextTask is the task that is offered for a host.
func (w *world) nextTask(host scheduler.HostID) (lifecycle.TaskID, bool) {
	for _, kind := range []lifecycle.Kind{lifecycle.Repair, lifecycle.Cleanup, lifecycle.Verify, lifecycle.Reset, lifecycle.Provision} {
		for _, id := range w.openTasks(host) {
			if t := w.tasks[id]; t.Kind == kind && !t.Active {
				if _, err := lifecycle.Next(w.state(w.entries[t.Entry].Job, host), lifecycle.TaskStarted{Task: id}); err == nil {
					return id, true
				}
			}
		}
	}
	return 0, false
}

func (w *world) open(r aRun) *aRun {
	w.lastRun++
	r.id, r.state, r.claimed, r.lease = w.lastRun, lifecycle.StateClaimed, w.now, w.now+lease
	w.runs[r.id] = &r
	for _, h := range r.hosts {
		if r.task == 0 && w.unsure[h] {
			w.fail("job %d runs on host %d, where a lost run may still be at work", w.entries[r.entries[0]].Job, h)
		}
	}
	return &r
}

// lease is how long claims last here.
const lease = 60 * second

// claimTask takes the next task of a host up.
func (w *world) claimTask(id lifecycle.TaskID, by int) {
	t := w.tasks[id]
	if w.happens(w.entries[t.Entry].Job, t.Host, lifecycle.TaskStarted{Task: id}) {
		w.open(aRun{task: id, hosts: []scheduler.HostID{t.Host}, claimant: by}).started = w.now
	}
}

// group are the entries that start together with one, in order.
func (w *world) group(id scheduler.EntryID) (ids []scheduler.EntryID) {
	for _, other := range w.jobs[w.entries[id].Job].entries {
		if o := w.entries[other]; o.Status == scheduler.StatusStarting && o.Subdir == w.entries[id].Subdir && w.claimedBy(other) == nil {
			ids = append(ids, other)
		}
	}
	return ids
}

func (w *world) claimJob(id scheduler.EntryID, by int) {
	r := aRun{entries: w.group(id), claimant: by}
	for _, e := range r.entries {
		r.hosts = append(r.hosts, w.entries[e].Host)
	}
	if w.happens(w.entries[id].Job, 0, lifecycle.RunClaimed{Entries: r.entries}) {
		w.open(r)
	}
}

// result is how a run ended.
type result struct {
	ok, unusable, again, lost bool
	failed                    int
}

// taskEnds closes the run of a task.
func (w *world) taskEnds(r *aRun, res result) {
	t := w.tasks[r.task]
	w.close(r, res.lost, func() bool {
		return w.happens(w.entries[t.Entry].Job, t.Host, lifecycle.TaskEnded{Task: r.task, OK: res.ok, Lost: res.lost})
	})
}

// jobEnds closes the run of a job.
func (w *world) jobEnds(r *aRun, res result) {
	var events []lifecycle.Event
	if r.state == lifecycle.StateRunning {
		events = append(events, lifecycle.RunEnded{Entries: r.entries})
	}
	if r.state == lifecycle.StateClaimed || res.again {
		events = append(events, lifecycle.Requeued{Entries: r.entries})
	} else {
		events = append(events, lifecycle.Gathered{Entries: r.entries, OK: res.ok, TestsFailed: res.failed, Lost: res.lost, Unusable: res.unusable}, lifecycle.Parsed{Entries: r.entries, OK: res.ok && res.failed == 0})
	}
	w.close(r, res.lost, func() bool { return w.happens(w.entries[r.entries[0]].Job, 0, events...) })
}

func (w *world) close(r *aRun, lost bool, change func() bool) {
	if !change() {
		w.fail("run %d cannot end: %+v", r.id, *r)
	}
	delete(w.runs, r.id)
	for _, h := range r.hosts {
		if lost {
			w.unsure[h] = true
		} else if r.task != 0 {
			delete(w.unsure, h)
		}
	}
}

func (w *world) ends(r *aRun, res result) {
	if r.task != 0 {
		w.taskEnds(r, res)
	} else {
		w.jobEnds(r, res)
	}
}

// picture is what the sweeps look at.
func (w *world) picture() lifecycle.Picture {
	p := lifecycle.Picture{Now: w.now, NoLossBefore: w.away, Rechecked: w.rechecked}
	for _, id := range slices.Sorted(maps.Keys(w.runs)) {
		p.Runs = append(p.Runs, w.sweptRun(w.runs[id]))
	}
	for _, id := range slices.Sorted(maps.Keys(w.jobs)) {
		j := lifecycle.SweptJob{ID: id, SynchCount: w.jobs[id].SynchCount}
		for _, e := range w.jobs[id].entries {
			j.Statuses = append(j.Statuses, w.entries[e].Status)
			if !w.entries[e].Complete {
				p.Entries = append(p.Entries, w.waiting(e))
			}
		}
		p.Jobs = append(p.Jobs, j)
	}
	for _, id := range slices.Sorted(maps.Keys(w.tasks)) {
		if t := w.tasks[id]; t.Active {
			p.Tasks = append(p.Tasks, lifecycle.SweptTask{ID: id, Job: w.entries[t.Entry].Job, Host: t.Host, Claimed: w.runOf(id) != nil})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.hosts)) {
		h := w.hosts[id]
		p.Hosts = append(p.Hosts, lifecycle.SweptHost{ID: id, Status: h.Status, Used: len(w.activeOn(id)) > 0, Tasks: len(w.openTasks(id)), Locked: h.Locked})
	}
	return p
}

func (w *world) sweptRun(r *aRun) lifecycle.Run {
	t := w.tasks[r.task]
	swept := lifecycle.Run{
		ID: r.id, State: r.state, Repair: t.Kind == lifecycle.Repair, LeaseUntil: r.lease, Lease: lease, Claimed: r.claimed, Started: r.started, StopSince: r.stop,
		EntryAborted: w.entries[t.Entry].Aborted,
	}
	for _, e := range r.entries {
		swept.EntryAborted = swept.EntryAborted || w.entries[e].Aborted
		swept.Hard = w.jobs[w.entries[e].Job].hard
	}
	return swept
}

func (w *world) waiting(id scheduler.EntryID) lifecycle.Waiting {
	e := w.entries[id]
	e.Claimed = w.claimedBy(id) != nil
	out := lifecycle.Waiting{ID: id, Job: e.Job, Entry: e, Deadline: w.jobs[e.Job].deadline}
	for _, t := range w.tasks {
		if t.Entry != id || t.Complete || t.Kind == lifecycle.Repair {
			continue
		}
		out.Tasks++
		if t.Active {
			out.Working++
		}
	}
	return out
}

// sweep does what is due.
func (w *world) sweep() {
	d := w.due(w.picture())
	for _, id := range d.Lose {
		if r := w.runs[id]; !w.dead[r.claimant] && r.stop == 0 {
			w.fail("run %d is lost although its claimant lives", id)
		}
		w.ends(w.runs[id], result{lost: true})
	}
	for _, s := range d.Stop {
		if r := w.runs[s.Run]; r != nil {
			r.stop = w.now
		}
	}
	for _, id := range slices.Concat(d.TimedOut, d.Deserted) {
		w.abort(id)
	}
	for _, s := range d.Steps {
		w.happens(s.Job, s.Host, s.Event)
	}
	if d.Recheck {
		w.rechecked = w.now
	}
}

// abort asks for the end of an entry.
func (w *world) abort(id scheduler.EntryID) {
	e := w.entries[id]
	if !e.Complete {
		e.Aborted = true
		w.entries[id] = e
	}
}

// passes lets time pass: claimants that live renew their leases.
func (w *world) passes(d int64) {
	w.now += d
	for _, r := range w.runs {
		if !w.dead[r.claimant] && w.sweptRun(r).MayRenew(w.now) {
			r.lease = w.now + lease
		}
	}
}
