package scheduler

// preJobTasks chooses the special tasks that run before the entry: Provision alone, or
// else Reset alone, or else any of Cleanup and Verify (Autotest
// scheduler_models.Job.schedule_pre_job_tasks).
func (p *planner) preJobTasks(e *pending) Tasks {
	h, job := p.hosts[e.host], e.job
	if p.needsProvision(e) {
		return Provision
	}
	canVerify := h.Protection != DoNotVerify
	cleanup := job.RebootBefore == RebootAlways || (job.RebootBefore == RebootIfDirty && h.Dirty)
	// A Reset includes a cleanup, which reboots the host. If the job forbids the reboot,
	// only the Verify is left of the Reset.
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
