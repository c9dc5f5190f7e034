package scheduler

import (
	"fmt"
	"maps"
	"slices"
)

// activate turns the assigned hosts into assignments of the plan, in queue order. It
// chooses the pre-job tasks; if there are none, the entry becomes Pending, and its
// job is started or stopped (Autotest BaseHostScheduler.schedule_host_job,
// Job.schedule_pre_job_tasks, HostQueueEntry.on_pending).
func (p *planner) activate() {
	jobs := make(map[JobID]*jobState)
	if p.assigned > 0 {
		p.plan.Assignments = make([]Assignment, 0, p.assigned)
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
		// The original assigns the host nevertheless, and then fails an assertion or
		// leaves an entry both active and complete. Here the host counts as assigned
		// until the end of this tick, and other entries can get it in the next one.
		e.host = -1
		e.reason = &Reason{Code: JobStopped, text: fmt.Sprintf("its job was stopped: it can no longer reach synch_count %d", e.job.SynchCount)}
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

// assignment describes the assignment of an entry, which stays Queued if it has pre-job
// tasks. The caller decides the status of an entry without.
func (p *planner) assignment(e *pending) Assignment {
	h := p.hosts[e.host]
	return Assignment{
		Entry: e.entry.ID, Job: e.job.ID, Suite: e.job.Parent, Host: h.ID, Hostname: h.Hostname,
		Round: e.round, Named: e.entry.Host != 0,
		Tasks: p.preJobTasks(e), RequestedBy: e.job.user.ID, Status: StatusQueued,
		Priority: e.job.Priority, QueuedSeconds: p.queuedSeconds(e.job),
	}
}

// queuedSeconds returns how long a job has been waiting. It is negative if unknown.
func (p *planner) queuedSeconds(job *jobInfo) int64 {
	if job.Created == 0 {
		return -1
	}
	return p.s.Now - job.Created
}

// writeChanges copies what became of the entries of synchronous jobs into the plan.
func (p *planner) writeChanges(jobs map[JobID]*jobState) {
	for _, id := range slices.Sorted(maps.Keys(jobs)) {
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
