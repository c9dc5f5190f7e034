package store

import (
	"maps"
	"slices"

	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// jobRows is what a Snapshots remembers of the jobs of pending entries; the jobs
// themselves are in its snapshot.
type jobRows struct {
	num map[scheduler.JobID]int32 // id -> position
	bad map[scheduler.JobID]bool  // a value is no integer
	// several are the jobs with more than one entry.
	several map[scheduler.JobID]bool
	// suites are the parents of the jobs; asked are those whose minimums were read.
	suites map[int64]bool
	asked  []int64
	texts  sqldb.Interned
}

// readJobs reads the jobs of entries that are new, or whose turn it is.
func (t *Snapshots) readJobs(r *sqldb.Reader) {
	j := &t.jobs
	if j.num == nil {
		j.num, j.bad, j.several = make(map[scheduler.JobID]int32), make(map[scheduler.JobID]bool), make(map[scheduler.JobID]bool)
		j.suites, j.texts = make(map[int64]bool), make(sqldb.Interned)
	}
	t.purgeJobs()
	if due := t.jobsDue(); len(due) > 0 {
		t.readJobRows(r, due)
		t.readLinks(r, due)
	}
	t.leaveBadJobsOut()
	keyvals := t.tables.stale(r, "afe_job_keyvals")
	if keyvals || t.changed {
		t.readMinimums(r, keyvals)
	}
	if t.queue.stale || t.changed {
		t.readSiblings(r)
	}
}

// purgeJobs forgets jobs without pending entries once they are the majority.
func (t *Snapshots) purgeJobs() {
	s, j := t.last, &t.jobs
	if len(s.Jobs) <= 2*len(s.Entries)+t.keptJobs {
		return
	}
	needed := make(map[scheduler.JobID]bool, len(s.Entries))
	for i := range s.Entries {
		needed[s.Entries[i].Job] = true
	}
	kept := make([]scheduler.Job, 0, len(needed))
	clear(j.num)
	clear(j.suites)
	for i := range s.Jobs {
		id := s.Jobs[i].ID
		if !needed[id] {
			delete(j.bad, id)
			delete(j.several, id)
			continue
		}
		j.num[id] = int32(len(kept))
		kept = append(kept, s.Jobs[i])
		j.suite(&s.Jobs[i])
	}
	s.Jobs = kept
}

// jobsDue lists the jobs to read: those of all entries that were read in this
// snapshot.
func (t *Snapshots) jobsDue() []int64 {
	var due []int64
	for _, at := range t.queue.again {
		if e := &t.queue.live[at]; e.ours {
			due = append(due, int64(e.entry.Job))
		}
	}
	slices.Sort(due)
	return slices.Compact(due)
}

// suite notes the parent of a job.
func (j *jobRows) suite(job *scheduler.Job) {
	if job.Parent != 0 {
		j.suites[int64(job.Parent)] = true
	}
}

func (t *Snapshots) readJobRows(r *sqldb.Reader, ids []int64) {
	s, j := t.last, &t.jobs
	if len(s.Jobs) == 0 {
		s.Jobs = make([]scheduler.Job, 0, len(ids))
		j.num = make(map[scheduler.JobID]int32, len(ids))
	}
	for where := range sqldb.Ranges("j.id", ids) {
		r.Rows("SELECT j.id, j.owner, j.priority, j.parent_job_id, j.synch_count, j.run_verify, j.run_reset, j.reboot_before, "+r.Dialect.Age("j.created_on")+" FROM afe_jobs j WHERE "+where, func(v sqldb.Row) {
			id := v.Int(0).N
			if _, wanted := slices.BinarySearch(ids, id); !wanted {
				return
			}
			job, bad := t.jobRow(v)
			if bad {
				j.bad[job.ID] = true
			} else {
				delete(j.bad, job.ID)
			}
			j.suite(&job)
			i, known := j.num[job.ID]
			if !known {
				j.num[job.ID] = int32(len(s.Jobs))
				s.Jobs = append(s.Jobs, job)
				t.changed = true
				return
			}
			have := &s.Jobs[i]
			job.Deps = have.Deps
			if have.Owner != job.Owner || have.Priority != job.Priority || have.Parent != job.Parent || have.SynchCount != job.SynchCount ||
				have.RunVerify != job.RunVerify || have.RunReset != job.RunReset || have.RebootBefore != job.RebootBefore {
				t.changed = true
			}
			*have = job
		})
	}
}

// jobRow decodes a row of afe_jobs; bad is true if there is nonsense in it.
func (t *Snapshots) jobRow(v sqldb.Row) (job scheduler.Job, bad bool) {
	id, priority, parent, synch, verify, reset, reboot, age := v.Int(0), v.Int(2), v.Int(3), v.Int(4), v.Int(5), v.Int(6), v.Int(7), v.Int(8)
	job = scheduler.Job{
		ID: scheduler.JobID(id.N), Owner: t.jobs.texts.Text(v, 1),
		Priority: priority.N, Parent: scheduler.JobID(parent.N), SynchCount: int(synch.N),
		RunVerify: verify.N != 0, RunReset: reset.N != 0, RebootBefore: rebootBefore(reboot.N),
	}
	if !priority.Valid {
		job.Priority = scheduler.NoPriority
	}
	if age.Valid {
		job.Created = t.last.Now - age.N
	}
	return job, sqldb.AnyBad(&id, &priority, &parent, &synch, &verify, &reset, &reboot)
}

// leaveBadJobsOut reports entries whose job has nonsense in it, and passes them
// over.
func (t *Snapshots) leaveBadJobsOut() {
	s, j := t.last, &t.jobs
	if len(j.bad) == 0 {
		return
	}
	s.Entries = slices.DeleteFunc(s.Entries, func(e scheduler.Entry) bool {
		if !j.bad[e.Job] {
			return false
		}
		t.queue.malformed = append(t.queue.malformed, malformedEntry(&e))
		return true
	})
}

// linksPerJob is room for the labels of a usual job.
const linksPerJob = 6

// readLinks reads which labels the jobs depend on, and which jobs have more than
// one entry. In one query: the latter come as negative numbers.
func (t *Snapshots) readLinks(r *sqldb.Reader, ids []int64) {
	j := &t.jobs
	for _, id := range ids {
		delete(j.several, scheduler.JobID(id))
	}
	deps := newLinks[scheduler.LabelID](linksPerJob * len(ids))
	last, at, known := int64(0), int32(0), false
	for where := range sqldb.Ranges("job_id", ids) {
		r.Rows("SELECT job_id, label_id FROM afe_jobs_dependency_labels WHERE job_id > 0 AND "+where+
			" UNION ALL SELECT -job_id, NULL FROM afe_host_queue_entries WHERE job_id > 0 AND "+where+" GROUP BY job_id HAVING COUNT(*) > 1", func(v sqldb.Row) {
			job := v.Int(0).N
			if job < 0 {
				if _, wanted := slices.BinarySearch(ids, -job); wanted {
					j.several[scheduler.JobID(-job)] = true
				}
				return
			}
			// The labels of a job come one after the other.
			if job != last {
				last = job
				at, known = j.num[scheduler.JobID(job)]
			}
			if known {
				// A label that is no integer stays as one that does not exist: the
				// entry must not run as if it had no such dependency.
				deps.add(at, scheduler.LabelID(v.Int(1).N))
			}
		})
	}
	of := deps.lists()
	for _, id := range ids {
		i, ok := j.num[scheduler.JobID(id)]
		if !ok {
			continue
		}
		renew(t, &t.last.Jobs[i].Deps, of(i), same)
	}
}

// readMinimums reads the suite_min_duts keyvals of the suites that have pending
// jobs, or had lately. There may be millions of keyvals, with an index by job
// only.
func (t *Snapshots) readMinimums(r *sqldb.Reader, keyvals bool) {
	s, j := t.last, &t.jobs
	suites := slices.Sorted(maps.Keys(j.suites))
	if !keyvals && slices.Equal(suites, j.asked) {
		return
	}
	j.asked = suites
	var fresh []scheduler.Minimum
	for chunk := range slices.Chunk(suites, sqldb.MaxListed) {
		r.Rows("SELECT job_id, value FROM afe_job_keyvals WHERE `key` = 'suite_min_duts' AND job_id IN "+sqldb.List(chunk)+" ORDER BY id", func(v sqldb.Row) {
			fresh = append(fresh, scheduler.Minimum{Suite: scheduler.JobID(v.Int(0).N), Value: v.Text(1)})
		})
	}
	renew(t, &s.Minimums, fresh, same)
}

// readSiblings reads the other entries of jobs that have several.
func (t *Snapshots) readSiblings(r *sqldb.Reader) {
	s, j := t.last, &t.jobs
	if len(j.several) == 0 && len(s.Siblings) == 0 {
		return
	}
	var ids []int64
	for i := range s.Entries {
		if job := s.Entries[i].Job; j.several[job] {
			ids = append(ids, int64(job))
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	var fresh []scheduler.Sibling
	for where := range sqldb.Ranges("job_id", ids) {
		r.Rows("SELECT id, job_id, host_id, status, execution_subdir FROM afe_host_queue_entries WHERE "+where+" ORDER BY id", func(v sqldb.Row) {
			entry, job, host := scheduler.EntryID(v.Int(0).N), scheduler.JobID(v.Int(1).N), v.Int(2)
			i, known := j.num[job]
			if !known || !j.several[job] || t.queue.isOurs(entry) || !host.Valid && s.Jobs[i].SynchCount <= 1 {
				return
			}
			fresh = append(fresh, scheduler.Sibling{
				ID: entry, Job: job, Host: scheduler.HostID(host.N), Status: scheduler.EntryStatus(j.texts.Text(v, 3)), Subdir: v.Text(4),
			})
		})
	}
	renew(t, &s.Siblings, fresh, same)
}
