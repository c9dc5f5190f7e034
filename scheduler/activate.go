package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// activate turns the assigned hosts into assignments of the plan, in queue order. It
// chooses the pre-job tasks; if there are none, the entry becomes Pending, and its
// job is started or stopped (Autotest BaseHostScheduler.schedule_host_job,
// Job.schedule_pre_job_tasks, HostQueueEntry.on_pending).
func (p *planner) activate() {
	jobs := make(map[JobID]*jobState)
	if p.given > 0 {
		p.plan.Assignments = make([]Assignment, 0, p.given)
	}
	for i := range p.entries {
		e := &p.entries[i]
		if e.host < 0 {
			continue
		}
		if e.job.SynchCount > 1 {
			p.activateSynch(e, p.jobState(jobs, e.job.Job))
			continue
		}
		a := p.assignment(e)
		if a.Tasks == 0 {
			a.Status, a.Subdir = StatusStarting, a.Hostname
		}
		p.plan.Assignments = append(p.plan.Assignments, a)
	}
	p.writeChanges(jobs)
}

// activateSynch activates an entry of a job whose entries start together.
func (p *planner) activateSynch(e *pending, js *jobState) {
	if js.stopped {
		// The original assigns the host nevertheless and fails an assertion, or
		// leaves an entry both active and complete. Other entries can get the host
		// in the next tick; in this one it counts as assigned.
		e.host = -1
		e.reason = &Reason{Code: JobStopped, text: fmt.Sprintf("job %d was stopped: it can no longer reach synch_count %d", e.job.ID, e.job.SynchCount)}
		return
	}
	a := p.assignment(e)
	a.Synch = true
	p.plan.Assignments = append(p.plan.Assignments, a)
	js.assign(e.entry.ID, len(p.plan.Assignments)-1, p.hosts[e.host])
	if a.Tasks == 0 {
		js.onPending(e.entry.ID)
	}
}

func (p *planner) assignment(e *pending) Assignment {
	h := p.hosts[e.host]
	return Assignment{
		Entry: e.entry.ID, Job: e.job.ID, Suite: e.job.Parent, Host: h.ID, Hostname: h.Hostname,
		Round: e.round, Named: e.entry.Host != 0,
		Tasks: p.preJobTasks(e), RequestedBy: e.job.user.ID, Status: StatusQueued,
		Priority: e.job.Priority, QueuedSeconds: p.queuedSeconds(e.job),
	}
}

// queuedSeconds is how long a job has been waiting, negative if unknown.
func (p *planner) queuedSeconds(job *jobInfo) int64 {
	if job.Created == 0 {
		return -1
	}
	return p.s.Now - job.Created
}

// preJobTasks chooses Provision alone, else Reset alone, else Cleanup and/or
// Verify (Autotest scheduler_models.Job.schedule_pre_job_tasks).
func (p *planner) preJobTasks(e *pending) Tasks {
	h, job := p.hosts[e.host], e.job
	if p.needsProvision(e) {
		return Provision
	}
	canVerify := h.Protection != DoNotVerify
	cleanup := job.RebootBefore == RebootAlways || (job.RebootBefore == RebootIfDirty && h.Dirty)
	// Without a reboot there is no cleanup, so a Reset weakens into a Verify.
	verify := canVerify && (job.RunVerify || (job.RunReset && job.RebootBefore == RebootNever))
	if job.RebootBefore != RebootNever && canVerify && (job.RunReset || (cleanup && verify)) {
		return Reset
	}
	var tasks Tasks
	if cleanup {
		tasks |= Cleanup
	}
	if verify {
		tasks |= Verify
	}
	return tasks
}

// needsProvision tells whether a provisionable job label (deps and meta_host)
// is missing among the host's plain labels.
func (p *planner) needsProvision(e *pending) bool {
	missing := false
	check := func(l LabelID) (skip bool) {
		switch p.labels.get(l).kind {
		case labelSkipProvision:
			return true
		case labelProvision:
			if !p.labelHosts.get(int64(l)).has(int(e.host)) {
				missing = true
			}
		}
		return false
	}
	if e.entry.MetaHost != 0 && check(e.entry.MetaHost) {
		return false
	}
	for _, l := range e.job.Deps {
		if check(l) {
			return false
		}
	}
	return missing
}

// jobState follows the entries of a synchronous job through activation.
type jobState struct {
	job     *Job
	entries []*entryState // by entry id
	stopped bool
	groups  int // number of the next group directory
}

type entryState struct {
	id         EntryID
	host       *Host // nil if unknown or none
	hostID     HostID
	from       EntryStatus
	status     EntryStatus
	subdir     string
	assignment int // index into Plan.Assignments, -1 if none
}

func (p *planner) jobState(jobs map[JobID]*jobState, job *Job) *jobState {
	if js := jobs[job.ID]; js != nil {
		return js
	}
	js := &jobState{job: job}
	jobs[job.ID] = js
	for _, sib := range p.siblings[job.ID] {
		es := &entryState{id: sib.ID, hostID: sib.Host, from: sib.Status, status: sib.Status, assignment: -1}
		if num, ok := p.hostNum.get(int64(sib.Host)); ok {
			es.host = p.hosts[num]
		}
		js.entries = append(js.entries, es)
		if n, ok := groupNumber(sib.Subdir); ok {
			js.groups = max(js.groups, n+1)
		}
	}
	for _, e := range p.synchEntries[job.ID] {
		js.entries = append(js.entries, &entryState{id: e.ID, hostID: e.Host, from: StatusQueued, status: StatusQueued, assignment: -1})
	}
	slices.SortFunc(js.entries, func(a, b *entryState) int { return cmp.Compare(a.id, b.id) })
	return js
}

// groupNumber reads the number of an execution_subdir "groupN...".
func groupNumber(subdir string) (int, bool) {
	rest, ok := strings.CutPrefix(subdir, "group")
	if !ok {
		return 0, false
	}
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	n, err := strconv.Atoi(rest[:end])
	return n, err == nil
}

func (js *jobState) assign(id EntryID, assignment int, h *Host) {
	es := js.find(id)
	es.assignment = assignment
	es.host = h
	es.hostID = h.ID
}

func (js *jobState) find(id EntryID) *entryState {
	for _, es := range js.entries {
		if es.id == id {
			return es
		}
	}
	return nil
}

func (js *jobState) count(want func(EntryStatus) bool) int {
	n := 0
	for _, es := range js.entries {
		if want(es.status) {
			n++
		}
	}
	return n
}

// onPending makes the entry Pending, and then starts its job if synch_count
// entries are Pending, or stops it if that can never be.
func (js *jobState) onPending(id EntryID) {
	es := js.find(id)
	es.status = StatusPending
	pending := js.count(func(s EntryStatus) bool { return s == StatusPending })
	if pending >= js.job.SynchCount {
		js.start(es)
		return
	}
	if js.count(EntryStatus.notYetRun) < js.job.SynchCount {
		js.stop()
	}
}

// start moves the entry and as many other Pending ones as the job needs, by
// hostname, to Starting, in a results directory of their own.
func (js *jobState) start(first *entryState) {
	chosen := []*entryState{first}
	var others []*entryState
	for _, es := range js.entries {
		if es != first && es.status == StatusPending {
			others = append(others, es)
		}
	}
	slices.SortStableFunc(others, func(a, b *entryState) int { return compareHostnames(a.host, b.host) })
	if want := js.job.SynchCount - 1; want > 0 {
		chosen = append(chosen, others[:want]...)
	}
	subdir := hostnameOf(first.host)
	if len(chosen) > 1 {
		subdir = fmt.Sprintf("group%d", js.groups)
		js.groups++
	}
	for _, es := range chosen {
		es.status = StatusStarting
		es.subdir = subdir
	}
}

// stop ends all entries of the job that have not begun.
func (js *jobState) stop() {
	js.stopped = true
	for _, es := range js.entries {
		if es.status == StatusPending || es.status == StatusQueued {
			es.status = StatusStopped
		}
	}
}

// writeChanges copies what became of the entries into the plan.
func (p *planner) writeChanges(jobs map[JobID]*jobState) {
	for _, id := range sortedKeys(jobs) {
		for _, es := range jobs[id].entries {
			if es.assignment >= 0 {
				a := &p.plan.Assignments[es.assignment]
				a.Status, a.Subdir = es.status, es.subdir
				continue
			}
			if es.status != es.from {
				p.plan.Changes = append(p.plan.Changes, Change{
					Entry: es.id, Job: id, Host: es.hostID, From: es.from, Status: es.status, Subdir: es.subdir,
				})
			}
		}
	}
}

// compareHostnames orders hosts as Autotest's Host.cmp_for_sort does: names
// that are equal but for trailing digits compare by that number.
func compareHostnames(a, b *Host) int {
	an, bn := strings.ToLower(hostnameOf(a)), strings.ToLower(hostnameOf(b))
	ap, ad := splitDigits(an)
	bp, bd := splitDigits(bn)
	if ap == bp && ad != "" && bd != "" {
		x, errA := strconv.ParseUint(ad, 10, 64)
		y, errB := strconv.ParseUint(bd, 10, 64)
		if errA == nil && errB == nil && x != y {
			return cmp.Compare(x, y)
		}
	}
	return strings.Compare(an, bn)
}

func hostnameOf(h *Host) string {
	if h == nil {
		return ""
	}
	return h.Hostname
}

func splitDigits(name string) (prefix, digits string) {
	end := strings.TrimRight(name, "0123456789")
	return end, name[len(end):]
}
