package store

import (
	"cmp"
	"slices"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// jobRows is what is kept of the jobs of pending entries. The jobs themselves are
// in the snapshot, by id; those that no pending entry has any more are forgotten,
// so that a job that is there is one that was refreshed ever since.
type jobRows struct {
	spare []scheduler.Job          // room for the next list
	bad   map[scheduler.JobID]bool // a value is no integer
	// several are the jobs with more than one entry.
	several map[scheduler.JobID]bool
	// suites are the parents of the jobs whose minimums were read.
	suites []int64
	texts  sqldb.Interned
	owners owners
}

// readJobs reads the jobs of pending entries that are not known, and those of
// entries whose row was read, and tells whether any job is different.
func (lab *labRows) readJobs(r *sqldb.Reader, read []int) (changed bool) {
	if lab.jobs.bad == nil {
		lab.jobs.bad, lab.jobs.several, lab.jobs.texts = make(map[scheduler.JobID]bool), make(map[scheduler.JobID]bool), make(sqldb.Interned)
		lab.jobs.owners.forget(nil)
	}
	due := lab.keepNeededJobs()
	known := jobFinder{jobs: lab.snapshot.Jobs}
	for _, at := range read {
		if job := lab.queue.live[at].entry.Job; known.find(job) != nil {
			due = append(due, int64(job))
		}
	}
	if len(due) == 0 {
		return false
	}
	slices.Sort(due)
	due = slices.Compact(due)
	changed = lab.readJobRows(r, due)
	return lab.readJobLinks(r, due) || changed
}

// keepNeededJobs forgets the jobs that no pending entry has any more, and returns
// those that an entry has and that are not known. Forgetting a job changes no
// plan.
func (lab *labRows) keepNeededJobs() (unknown []int64) {
	s := &lab.snapshot
	needed := make([]bool, len(s.Jobs))
	known := jobFinder{jobs: s.Jobs}
	for i := range lab.queue.pending {
		id := lab.queue.pending[i].Job
		if known.find(id) == nil {
			unknown = append(unknown, int64(id))
			continue
		}
		needed[known.at] = true
	}
	lab.forgetJobs(func(i int, _ scheduler.JobID) bool { return !needed[i] })
	return unknown
}

// forgetJobs forgets the jobs that gone names, given their positions and ids, with
// everything that is known of them. It tells whether there are any.
func (lab *labRows) forgetJobs(gone func(i int, id scheduler.JobID) bool) (any bool) {
	i := -1
	lab.snapshot.Jobs = slices.DeleteFunc(lab.snapshot.Jobs, func(job scheduler.Job) bool {
		if i++; !gone(i, job.ID) {
			return false
		}
		delete(lab.jobs.bad, job.ID)
		delete(lab.jobs.several, job.ID)
		any = true
		return true
	})
	return any
}

// jobFinder finds jobs by id in a sorted list. Jobs that are looked for are mostly
// the next in the list, because entries are in order of their ids, too.
type jobFinder struct {
	jobs []scheduler.Job
	at   int // where the job that was found last is
}

// find returns a job, nil if it is not in the list.
func (f *jobFinder) find(id scheduler.JobID) *scheduler.Job {
	for range 2 {
		if f.at < len(f.jobs) && f.jobs[f.at].ID == id {
			return &f.jobs[f.at]
		}
		f.at++
	}
	at, found := slices.BinarySearchFunc(f.jobs, id, func(job scheduler.Job, id scheduler.JobID) int { return cmp.Compare(job.ID, id) })
	f.at = at
	if !found {
		return nil
	}
	return &f.jobs[at]
}

// readJobRows reads jobs, whose ids are sorted, and tells whether any is different.
func (lab *labRows) readJobRows(r *sqldb.Reader, ids []int64) (changed bool) {
	s, j := &lab.snapshot, &lab.jobs
	known := jobFinder{jobs: s.Jobs}
	found := make([]bool, len(ids))
	var added []scheduler.Job
	if len(s.Jobs) == 0 {
		added = make([]scheduler.Job, 0, len(ids))
	}
	for where := range sqldb.Ranges("j.id", ids) {
		r.Rows("SELECT j.id, j.owner, j.priority, j.parent_job_id, j.synch_count, j.run_verify, j.run_reset, j.reboot_before, "+r.Dialect.Age("j.created_on")+" FROM afe_jobs j WHERE "+where, func(v sqldb.Row) {
			at, wanted := slices.BinarySearch(ids, v.Int(0).N)
			if !wanted {
				return
			}
			found[at] = true
			job, bad := jobRow(v, s.Now, &j.owners)
			if bad != j.bad[job.ID] {
				changed = true
			}
			if bad {
				j.bad[job.ID] = true
			} else {
				delete(j.bad, job.ID)
			}
			have := known.find(job.ID)
			if have == nil {
				added = append(added, job)
				return
			}
			job.Deps = have.Deps
			changed = changed || jobDiffers(have, &job)
			*have = job
		})
	}
	if slices.Contains(found, false) && r.Err == nil {
		changed = lab.forgetJobs(func(_ int, id scheduler.JobID) bool {
			at, wanted := slices.BinarySearch(ids, int64(id))
			return wanted && !found[at]
		}) || changed
	}
	if len(added) == 0 {
		return changed
	}
	slices.SortFunc(added, func(a, b scheduler.Job) int { return cmp.Compare(a.ID, b.ID) })
	s.Jobs, j.spare = mergeJobs(j.spare[:0], s.Jobs, added), s.Jobs
	return true
}

// jobDiffers tells whether a plan could be different with the other row of a job.
func jobDiffers(a, b *scheduler.Job) bool {
	return a.Owner != b.Owner || a.User != b.User || a.Priority != b.Priority || a.Parent != b.Parent || a.SynchCount != b.SynchCount ||
		a.RunVerify != b.RunVerify || a.RunReset != b.RunReset || a.RebootBefore != b.RebootBefore
}

// mergeJobs merges two sorted lists into one.
func mergeJobs(to, a, b []scheduler.Job) []scheduler.Job {
	to = slices.Grow(to, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0].ID < b[0].ID {
			to, a = append(to, a[0]), a[1:]
		} else {
			to, b = append(to, b[0]), b[1:]
		}
	}
	return append(append(to, a...), b...)
}

// jobRow decodes a row of afe_jobs; bad is true if a value is no integer.
func jobRow(v sqldb.Row, now int64, owners *owners) (job scheduler.Job, bad bool) {
	id, priority, parent, synch, verify, reset, reboot, age := v.Int(0), v.Int(2), v.Int(3), v.Int(4), v.Int(5), v.Int(6), v.Int(7), v.Int(8)
	owner, user := owners.of(v, 1)
	job = scheduler.Job{
		ID: scheduler.JobID(id.N), Owner: owner, User: user,
		Priority: priority.N, Parent: scheduler.JobID(parent.N), SynchCount: int(synch.N),
		RunVerify: verify.N != 0, RunReset: reset.N != 0, RebootBefore: rebootBefore(reboot.N),
	}
	if !priority.Valid {
		job.Priority = scheduler.NoPriority
	}
	if age.Valid {
		job.Created = now - age.N
	}
	return job, sqldb.AnyBad(&id, &priority, &parent, &synch, &verify, &reset, &reboot)
}

// linksPerJob is room for the labels of a usual job.
const linksPerJob = 6

// readJobLinks reads which labels the jobs depend on, and which jobs have more than
// one entry, and tells whether any are different. In one query: the latter come as
// negative numbers.
func (lab *labRows) readJobLinks(r *sqldb.Reader, ids []int64) (changed bool) {
	jobs := lab.snapshot.Jobs
	known := jobFinder{jobs: jobs}
	deps := newGrouped[scheduler.LabelID](linksPerJob * len(ids))
	several := make(map[scheduler.JobID]bool)
	for where := range sqldb.Ranges("job_id", ids) {
		r.Rows("SELECT job_id, label_id FROM afe_jobs_dependency_labels WHERE job_id > 0 AND "+where+
			" UNION ALL SELECT -job_id, NULL FROM afe_host_queue_entries WHERE job_id > 0 AND "+where+" GROUP BY job_id HAVING COUNT(*) > 1", func(v sqldb.Row) {
			job := v.Int(0).N
			if job < 0 {
				several[scheduler.JobID(-job)] = true
				return
			}
			// The labels of a job come one after the other.
			if known.find(scheduler.JobID(job)) != nil {
				// A label that is no integer stays as one that does not exist: the
				// entry must not run as if it had no such dependency.
				deps.add(int32(known.at), scheduler.LabelID(v.Int(1).N))
			}
		})
	}
	of := deps.lists()
	known = jobFinder{jobs: jobs}
	for _, id := range ids {
		job := scheduler.JobID(id)
		have := known.find(job)
		if have == nil {
			continue
		}
		changed = renew(&have.Deps, of(int32(known.at)), same) || changed
		if several[job] == lab.jobs.several[job] {
			continue
		}
		changed = true
		if several[job] {
			lab.jobs.several[job] = true
		} else {
			delete(lab.jobs.several, job)
		}
	}
	return changed
}

// readMinimums reads the suite_min_duts keyvals of the suites that have pending
// jobs, and tells whether any is different. There may be millions of keyvals, with
// an index by job only.
func (lab *labRows) readMinimums(r *sqldb.Reader, stale func(tables ...string) bool, jobs bool) (changed bool) {
	keyvals := stale("afe_job_keyvals")
	if !keyvals && !jobs {
		return false
	}
	s, j := &lab.snapshot, &lab.jobs
	suites := suitesOf(s.Jobs)
	if !keyvals && slices.Equal(suites, j.suites) {
		return false
	}
	j.suites = suites
	var minimums []scheduler.Minimum
	for chunk := range slices.Chunk(suites, sqldb.MaxListed) {
		r.Rows("SELECT job_id, value FROM afe_job_keyvals WHERE `key` = 'suite_min_duts' AND job_id IN "+sqldb.List(chunk)+" ORDER BY id", func(v sqldb.Row) {
			minimums = append(minimums, scheduler.Minimum{Suite: scheduler.JobID(v.Int(0).N), Value: v.Text(1)})
		})
	}
	return renew(&s.Minimums, minimums, same)
}

// suitesOf lists the parents of jobs, sorted. Neighbours mostly have the same.
func suitesOf(jobs []scheduler.Job) []int64 {
	var suites []int64
	var last scheduler.JobID
	for i := range jobs {
		if parent := jobs[i].Parent; parent != last {
			last = parent
			suites = append(suites, int64(parent))
		}
	}
	slices.Sort(suites)
	suites = slices.Compact(suites)
	if len(suites) > 0 && suites[0] == 0 {
		suites = suites[1:]
	}
	return suites
}

// readSiblings reads the other entries of jobs that have several, and tells whether
// any is different. jobs tells whether the entries or the jobs are.
func (lab *labRows) readSiblings(r *sqldb.Reader, stale func(tables ...string) bool, jobs bool) (changed bool) {
	s, several := &lab.snapshot, lab.jobs.several
	if !jobs && !stale("afe_host_queue_entries") || len(several) == 0 && len(s.Siblings) == 0 {
		return false
	}
	ids := make([]int64, 0, len(several))
	for job := range several {
		ids = append(ids, int64(job))
	}
	slices.Sort(ids)
	known := jobFinder{jobs: s.Jobs}
	var siblings []scheduler.Sibling
	for where := range sqldb.Ranges("job_id", ids) {
		r.Rows("SELECT id, job_id, host_id, "+sqldb.Spelled("status", scheduler.EntryStatuses...)+", execution_subdir FROM afe_host_queue_entries WHERE "+where+" ORDER BY id", func(v sqldb.Row) {
			entry, id, host := scheduler.EntryID(v.Int(0).N), scheduler.JobID(v.Int(1).N), v.Int(2)
			if !several[id] || lab.queue.isPending(entry) {
				return
			}
			job := known.find(id)
			if job == nil || !host.Valid && job.SynchCount <= 1 {
				return
			}
			siblings = append(siblings, scheduler.Sibling{
				ID: entry, Job: id, Host: scheduler.HostID(host.N), Status: scheduler.EntryStatus(lab.jobs.texts.Text(v, 3)), Subdir: v.Text(4),
			})
		})
	}
	return renew(&s.Siblings, siblings, same)
}
