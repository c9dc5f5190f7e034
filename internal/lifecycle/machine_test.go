package lifecycle_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hostsched/hostsched/internal/lifecycle"
	"github.com/hostsched/hostsched/scheduler"
)

// fail notes what should not have happened.
func (w *world) fail(format string, args ...any) {
	if w.wrong == nil {
		w.wrong = fmt.Errorf(format, args...)
	}
}

// claimants is how many there are.
const claimants = 3

// actions are all that can happen now, each in the same place of the list whenever the same
// is possible. Numbers choose among the variants of one.
func (w *world) actions() []func(n int) {
	var all []func(n int)
	add := func(weight int, f func(n int)) {
		for range weight {
			all = append(all, f)
		}
	}
	if len(w.jobs) < 4 {
		add(2, w.submit)
	}
	for _, id := range slices.Sorted(maps.Keys(w.entries)) {
		if e := w.entries[id]; !e.Complete && !e.Aborted {
			add(1, func(n int) {
				if n%4 == 0 {
					w.abort(id)
				}
			})
		}
		for _, host := range slices.Sorted(maps.Keys(w.hosts)) {
			if w.free(id, host) {
				add(3, func(n int) { w.give(id, host, preJobTasks[n%len(preJobTasks)]...) })
			}
		}
		if w.entries[id].Status == scheduler.StatusStarting && w.claimedBy(id) == nil {
			add(3, func(n int) { w.claimJob(id, n%claimants) })
		}
	}
	for _, host := range slices.Sorted(maps.Keys(w.hosts)) {
		add(1, func(n int) { w.person(host, n) })
		if task, ok := w.nextTask(host); ok {
			add(3, func(n int) { w.claimTask(task, n%claimants) })
		}
		for _, task := range w.openTasks(host) { // also those that nobody offers
			add(1, func(n int) {
				if w.runOf(task) == nil {
					w.claimTask(task, n%claimants)
				}
			})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.runs)) {
		if r := w.runs[id]; !w.dead[r.claimant] {
			add(4, func(n int) { w.report(r, n) })
		}
	}
	add(2, func(n int) { w.dead[n%claimants] = n/claimants%2 == 0 })
	add(3, func(n int) { w.passes([]int64{second, 40 * second, 100 * second, 1000 * second}[n%4]); w.sweep() })
	add(1, func(int) { w.now += 10 * lease; w.away = w.now + lease; w.sweep() }) // the servers were away
	add(1, w.damage)
	return all
}

var preJobTasks = [][]lifecycle.Kind{nil, {lifecycle.Reset}, {lifecycle.Cleanup}, {lifecycle.Verify}, {lifecycle.Provision}, {lifecycle.Cleanup, lifecycle.Verify}}

// submit enters a job.
func (w *world) submit(n int) {
	j := &aJob{
		Job: lifecycle.Job{
			SynchCount: 1 + n%2, RunVerify: n/2%2 == 0, RunReset: n/4%2 == 0, RebootAfter: lifecycle.RebootAfter(n / 8 % 3), Owner: owner,
		},
		deadline: w.now + 3600*second, ineligible: map[scheduler.HostID]bool{}, hard: 600 * second,
	}
	id := scheduler.JobID(len(w.jobs) + 1)
	w.jobs[id] = j
	for i := range j.SynchCount + n/24%2 {
		e := lifecycle.Entry{Job: id, Status: scheduler.StatusQueued, AnyHost: true}
		if n/48%3 == 0 {
			e.AnyHost, e.Host = false, scheduler.HostID(1+(n/144+i)%len(w.hosts))
		}
		entry := scheduler.EntryID(len(w.entries) + 1)
		j.entries = append(j.entries, entry)
		w.entries[entry] = e
	}
}

// person locks a host, unlocks it, or asks for a task.
func (w *world) person(host scheduler.HostID, n int) {
	h := w.hosts[host]
	switch n % 4 {
	case 0:
		h.Locked = !h.Locked
		w.hosts[host] = h
	case 1:
		w.addTask(lifecycle.Task{Kind: lifecycle.Verify, Host: host, RequestedBy: owner})
	case 2:
		w.addTask(lifecycle.Task{Kind: lifecycle.Repair, Host: host, RequestedBy: owner})
	}
}

// report is a claimant's next call about a run.
func (w *world) report(r *aRun, n int) {
	res := result{ok: n%2 == 0, failed: n / 2 % 2, unusable: n/4%8 == 0, again: n/4%8 == 1}
	switch {
	case r.task != 0:
		w.taskEnds(r, res)
	case r.state == lifecycle.StateClaimed && n%4 == 0:
		w.jobEnds(r, res) // given back
	case r.state == lifecycle.StateClaimed:
		if w.happens(w.entries[r.entries[0]].Job, 0, lifecycle.RunStarted{Entries: r.entries}) {
			r.state, r.started = lifecycle.StateRunning, w.now
		}
	case r.state == lifecycle.StateRunning && n%2 == 0:
		if !w.happens(w.entries[r.entries[0]].Job, 0, lifecycle.RunEnded{Entries: r.entries}) {
			w.fail("run %d cannot finish", r.id)
		}
		r.state = lifecycle.StateFinishing
	default:
		w.jobEnds(r, res)
	}
}

// damage is what people do to rows by hand: tasks that wait go, and runs that have begun.
// (Of one that had not, nothing tells that somebody may begin it.)
func (w *world) damage(n int) {
	if tasks := slices.Sorted(maps.Keys(w.tasks)); n%2 == 0 && len(tasks) > 0 {
		if id := tasks[n/2%len(tasks)]; !w.tasks[id].Active && !w.tasks[id].Complete {
			delete(w.tasks, id)
		}
	}
	if runs := slices.Sorted(maps.Keys(w.runs)); n%8 == 1 && len(runs) > 0 {
		r := w.runs[runs[n/8%len(runs)]]
		if r.task == 0 && r.state == lifecycle.StateClaimed {
			return
		}
		delete(w.runs, r.id)
		for _, h := range r.hosts {
			w.unsure[h] = true
		}
	}
}

// comesToAnEnd lets all that was begun end: everybody lives, and everything succeeds.
func (w *world) comesToAnEnd() {
	w.dead = map[int]bool{}
	for id, h := range w.hosts {
		h.Locked = false
		w.hosts[id] = h
	}
	for range 300 {
		if w.quiet() {
			return
		}
		for _, id := range slices.Sorted(maps.Keys(w.runs)) {
			w.report(w.runs[id], 30) // ok, nothing failed
		}
		for _, host := range slices.Sorted(maps.Keys(w.hosts)) {
			if task, ok := w.nextTask(host); ok {
				w.claimTask(task, 0)
			}
			for _, id := range slices.Sorted(maps.Keys(w.entries)) {
				if w.free(id, host) {
					w.give(id, host, lifecycle.Reset)
				}
				if w.entries[id].Status == scheduler.StatusStarting && w.claimedBy(id) == nil {
					w.claimJob(id, 0)
				}
			}
		}
		w.passes(60 * second)
		w.sweep()
	}
}

// quiet tells whether everything has ended.
func (w *world) quiet() bool {
	for _, e := range w.entries {
		if !e.Complete {
			return false
		}
	}
	for id, h := range w.hosts {
		if h.Status != scheduler.HostReady || len(w.openTasks(id)) > 0 {
			return false
		}
	}
	return len(w.runs) == 0
}

// invariant is something that is true of every lab after whatever happened, with a mutant of
// the rules that is broken in just this respect.
type invariant struct {
	name   string
	holds  func(w *world) error
	mutant machine
}

// afterwards is a mutant that goes wrong after an event of a type.
func afterwards[E lifecycle.Event](change func(s *lifecycle.State, ev E)) machine {
	m := original
	m.next = func(before lifecycle.State, ev lifecycle.Event) (lifecycle.State, error) {
		after, err := lifecycle.Next(before, ev)
		if e, ok := ev.(E); ok && err == nil {
			change(&after, e)
		}
		return after, err
	}
	return m
}

// forgets is a mutant whose sweeps leave something out.
func forgets(change func(d *lifecycle.Decisions)) machine {
	m := original
	m.due = func(p lifecycle.Picture) lifecycle.Decisions {
		d := lifecycle.Due(p)
		change(&d)
		return d
	}
	return m
}

// forgetsSteps is one whose sweeps leave out events of a type.
func forgetsSteps[E lifecycle.Event]() machine {
	return forgets(func(d *lifecycle.Decisions) {
		d.Steps = slices.DeleteFunc(d.Steps, func(s lifecycle.Step) bool { _, ok := s.Event.(E); return ok })
	})
}

// blind is a mutant that lets a task start whatever else goes on.
func blind() machine {
	m := original
	m.next = func(before lifecycle.State, ev lifecycle.Event) (lifecycle.State, error) {
		start, ok := ev.(lifecycle.TaskStarted)
		if !ok {
			return lifecycle.Next(before, ev)
		}
		after := before
		after.Tasks, after.Hosts = maps.Clone(before.Tasks), maps.Clone(before.Hosts)
		t := after.Tasks[start.Task]
		if t.Active || t.Complete || t.Kind == "" {
			return lifecycle.Next(before, ev)
		}
		t.Active = true
		after.Tasks[start.Task] = t
		return after, nil
	}
	return m
}

var invariants = []invariant{
	{"flags follow the status", (*world).flags, afterwards(func(s *lifecycle.State, ev lifecycle.RunEnded) {
		e := s.Entries[ev.Entries[0]]
		e.Active = false
		s.Entries[ev.Entries[0]] = e
	})},
	{"one run for a host", (*world).oneRun, blind()},
	{"one active entry for a host", (*world).oneEntry, afterwards(func(s *lifecycle.State, ev lifecycle.TaskEnded) {
		if id := s.Tasks[ev.Task].Entry; id != 0 && !ev.OK {
			e := s.Entries[id]
			e.Host, e.Active, e.Status = s.Tasks[ev.Task].Host, true, scheduler.StatusPending
			s.Entries[id] = e
		}
	})},
	{"nothing changes after the end", (*world).fine, afterwards(func(s *lifecycle.State, ev lifecycle.TaskEnded) {
		for id, e := range s.Entries {
			if e.Complete {
				e.Status = lifecycle.StatusFailed
				s.Entries[id] = e
			}
		}
	})},
	{"no job runs where a lost one may begin", (*world).fine, afterwards(func(s *lifecycle.State, _ lifecycle.Requeued) {
		for id, h := range s.Hosts {
			h.Status = scheduler.HostReady
			s.Hosts[id] = h
		}
		maps.DeleteFunc(s.Tasks, func(id lifecycle.TaskID, _ lifecycle.Task) bool { return id < 0 })
	})},
	{"no job runs where a lost task may be at work", (*world).fine, func() machine {
		m := original
		m.next = func(before lifecycle.State, ev lifecycle.Event) (lifecycle.State, error) {
			if e, ok := ev.(lifecycle.TaskEnded); ok {
				e.Lost = false
				ev = e
			}
			return lifecycle.Next(before, ev)
		}
		return m
	}()},
	{"a host that ran a job is dirty", (*world).dirt, afterwards(func(s *lifecycle.State, ev lifecycle.RunStarted) {
		h := s.Hosts[s.Entries[ev.Entries[0]].Host]
		h.Dirty = false
		s.Hosts[s.Entries[ev.Entries[0]].Host] = h
	})},
	{"somebody looks after every host", (*world).looksAfter, forgetsSteps[lifecycle.Sweep]()},
	{"entries go on whose tasks or runs are gone", (*world).goesOn, forgetsSteps[lifecycle.Stranded]()},
	{"everything ends: Stranded", (*world).ended, forgetsSteps[lifecycle.Stranded]()},
	{"everything ends: Abort", (*world).ended, forgetsSteps[lifecycle.Abort]()},
	{"everything ends: tasks without run", (*world).ended, forgetsSteps[lifecycle.TaskEnded]()},
	{"everything ends: hosts", (*world).ended, forgetsSteps[lifecycle.Sweep]()},
	{"a job's time ends", (*world).punctual, forgets(func(d *lifecycle.Decisions) { d.TimedOut = nil })},
	{"hosts are given back in time", (*world).settled, forgetsSteps[lifecycle.Settle]()},
	{"runs end whose claimant is gone", (*world).leases, forgets(func(d *lifecycle.Decisions) { d.Lose = nil })},
	{"nothing is lost while the servers are away", (*world).fine, func() machine {
		m := original
		m.due = func(p lifecycle.Picture) lifecycle.Decisions {
			p.NoLossBefore = 0
			return lifecycle.Due(p)
		}
		return m
	}()},
}

func (w *world) fine() error { return w.wrong }

func (w *world) flags() error {
	for id, e := range w.entries {
		given := e.Status == scheduler.StatusQueued && e.Active && e.Host != 0
		if e.Complete != lifecycle.Complete(e.Status) || !given && e.Active != lifecycle.Active(e.Status) {
			return fmt.Errorf("entry %d: %+v", id, e)
		}
		if e.Active && e.Host == 0 || e.Finished && !e.Complete || e.Complete && e.Started != e.Finished {
			return fmt.Errorf("entry %d: %+v", id, e)
		}
	}
	return nil
}

func (w *world) oneRun() error {
	users := map[scheduler.HostID]string{}
	use := func(h scheduler.HostID, who string) error {
		if users[h] != "" {
			return fmt.Errorf("host %d is used by %s and %s", h, users[h], who)
		}
		users[h] = who
		return nil
	}
	var errs []error
	for id, t := range w.tasks {
		if t.Active {
			errs = append(errs, use(t.Host, fmt.Sprintf("task %d", id)))
		}
	}
	for id, e := range w.entries {
		if e.Status == lifecycle.StatusRunning || e.Status == lifecycle.StatusGathering {
			errs = append(errs, use(e.Host, fmt.Sprintf("entry %d", id)))
		}
	}
	return errors.Join(errs...)
}

func (w *world) oneEntry() error {
	for host := range w.hosts {
		if active := w.activeOn(host); len(active) > 1 {
			return fmt.Errorf("host %d has the active entries %v", host, active)
		}
	}
	return nil
}

func (w *world) dirt() error {
	for id, h := range w.hosts {
		if h.Status == lifecycle.HostRunning && !h.Dirty {
			return fmt.Errorf("host %d runs and is not dirty", id)
		}
	}
	return nil
}

// looksAfter holds after a sweep.
func (w *world) looksAfter() error {
	w.sweep()
	for id, h := range w.hosts {
		if lifecycle.Passing(h.Status) && len(w.activeOn(id)) == 0 && len(w.openTasks(id)) == 0 {
			return fmt.Errorf("host %d is %s", id, h.Status)
		}
	}
	return w.wrong
}

// goesOn holds after a sweep.
func (w *world) goesOn() error {
	w.sweep()
	for id, e := range w.entries {
		r := w.claimedBy(id)
		if (e.Status == lifecycle.StatusRunning || e.Status == lifecycle.StatusGathering || e.Status == lifecycle.StatusParsing) && r == nil {
			return fmt.Errorf("entry %d is %s", id, e.Status)
		}
	}
	return w.wrong
}

// settled holds after two sweeps: the first one ends entries for which others waited.
func (w *world) settled() error {
	w.sweep()
	w.sweep()
	for id, j := range w.jobs {
		pending := 0
		for _, e := range j.entries {
			if w.entries[e].Status == scheduler.StatusPending {
				pending++
			}
		}
		if pending >= j.SynchCount {
			return fmt.Errorf("job %d waits although it can start", id)
		}
	}
	for id, e := range w.entries {
		if e.Status == scheduler.StatusPending && !slices.ContainsFunc(w.jobs[e.Job].entries, func(other scheduler.EntryID) bool {
			o := w.entries[other]
			return other != id && !o.Complete && !lifecycle.Complete(o.Status)
		}) {
			return fmt.Errorf("entry %d waits for entries that have ended", id)
		}
	}
	return w.wrong
}

// punctual holds after two sweeps when the time of all jobs is over: the first one queues entries
// again whose tasks are gone.
func (w *world) punctual() error {
	w.passes(3601 * second)
	w.sweep()
	w.sweep()
	for id, e := range w.entries {
		if !e.Complete && !e.Aborted {
			return fmt.Errorf("entry %d goes on", id)
		}
	}
	return w.wrong
}

// leases holds when all claimants have been dead for long enough.
func (w *world) leases() error {
	for c := range claimants {
		w.dead[c] = true
	}
	w.now = max(w.now, w.away)
	w.passes(lease + lifecycle.LossGrace(lease) + 1)
	w.sweep()
	if len(w.runs) > 0 {
		return fmt.Errorf("%d runs are left", len(w.runs))
	}
	return w.wrong
}

// ended holds after everything was given the time to end.
func (w *world) ended() error {
	w.comesToAnEnd()
	if !w.quiet() {
		return fmt.Errorf("some of it does not end: %+v, %+v, %+v", w.entries, w.hosts, w.runs)
	}
	return w.wrong
}

// histories are lists of numbers, each of which chooses one of the things that can happen.
func histories() *rapid.Generator[[]uint32] {
	return rapid.SliceOfN(rapid.Uint32(), 50, 200)
}

// spread makes large numbers of all that rapid prefers, so that it chooses evenly.
func spread(n uint32) int {
	n = (n ^ n>>16) * 0x45d9f3b
	n = (n ^ n>>16) * 0x45d9f3b
	return int(n ^ n>>16)
}

// play lets a history happen. What holds at every moment is looked at at every moment.
func play(m machine, history []uint32, holds func(*world) error) error {
	w := newWorld(m, 3)
	w.hosts[3] = lifecycle.Host{Hostname: "host3", Status: scheduler.HostReady, Protection: scheduler.DoNotVerify}
	for _, number := range history {
		n, actions := spread(number), w.actions()
		actions[n%len(actions)](n / len(actions))
		for _, always := range []func() error{w.fine, w.flags, w.oneRun, w.oneEntry, w.dirt} {
			if err := always(); err != nil {
				return err
			}
		}
	}
	return holds(w)
}

// TestInvariants: what holds at every moment, and what holds in the end.
func TestInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		history := histories().Draw(t, "history")
		for _, holds := range []func(*world) error{(*world).looksAfter, (*world).goesOn, (*world).settled, (*world).punctual, (*world).leases, (*world).ended} {
			if err := play(original, history, holds); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// mutantTries is how many histories are tried before a mutant counts as survivor.
const mutantTries = 5000

// TestMutants breaks the rules in one respect at a time: an invariant must fail.
func TestMutants(t *testing.T) {
	gen := histories()
	for _, i := range invariants {
		t.Run(i.name, func(t *testing.T) {
			for seed := range mutantTries {
				if err := play(i.mutant, gen.Example(seed), i.holds); err != nil {
					t.Logf("killed by history %d: %v", seed, err)
					return
				}
			}
			t.Fatalf("the mutant survived %d histories", mutantTries)
		})
	}
}
