package runs

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/internal/lifecycle"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// ownJob is a job that whoever submitted it runs himself.
type ownJob struct {
	kind, owner string
	minutes     int64
	open        int
	entries     []int64
	// deserted means that it was ended because nobody had asked for it.
	deserted bool
}

// ClaimOwn takes a job up that the caller submitted to run it himself, as soon as all its
// hosts are there. It does not wait: as long as they are not, the answer says only that. What
// keeps the job is for lab.ExplainJob to say.
func (r *Runs) ClaimOwn(ctx context.Context, who access.Caller, job int64, in labapi.OwnClaimInput) (out labapi.OwnClaimed, err error) {
	if err := r.check(); err != nil {
		return out, err
	}
	own, err := r.ownJob(ctx, who, job)
	if err != nil {
		return out, err
	}
	out.Deserted = own.deserted
	if own.open == 0 {
		return r.ownState(ctx, job, out)
	}
	key := keyOf(who.Login, in.ClaimKey)
	claimed, err := r.claimOnce(ctx, key, func() error { return r.claimOwnJob(ctx, who, key, job, own) })
	switch {
	case err == nil:
		out.Claimed = &claimed
	case !errors.Is(err, ErrOfferGone):
		return out, err
	}
	return r.ownState(ctx, job, out)
}

// ownState adds the state of the job.
func (r *Runs) ownState(ctx context.Context, job int64, out labapi.OwnClaimed) (labapi.OwnClaimed, error) {
	j, err := r.lab.Job(ctx, job)
	out.State = j.State
	if out.Claimed == nil && (j.State == labapi.JobQueued || j.State == labapi.JobRunning) {
		out.Waiting = "not all hosts of the job are ready"
	}
	return out, err
}

// ownJob reads such a job, and notes that somebody asks for it.
func (r *Runs) ownJob(ctx context.Context, who access.Caller, job int64) (own ownJob, err error) {
	db := r.lab.DB()
	err = db.Pool.QueryRowContext(ctx, "SELECT o.kind, COALESCE(j.owner, ''), j.max_runtime_mins FROM hostsched_own_jobs o JOIN afe_jobs j ON j.id = o.job_id WHERE o.job_id = ?", job).Scan(&own.kind, &own.owner, &own.minutes)
	if errors.Is(err, sql.ErrNoRows) {
		return own, fmt.Errorf("%w: no job %d was submitted to be run by who submits it; 'hostsched run' does that", lab.ErrNotFound, job)
	}
	local := who.Local() && own.owner == lab.FirstAdmin // in whose name that caller submits
	if err == nil && own.owner != who.Login && !local {
		return own, fmt.Errorf("%w: job %d is %s's, who alone may run it", access.ErrDenied, job, own.owner)
	}
	aborted := false
	if err == nil {
		err = sqldb.EachRow(ctx, db.Pool, "SELECT id, COALESCE(complete, 0), aborted FROM afe_host_queue_entries WHERE job_id = ? ORDER BY id", []any{job}, func(scan sqldb.Scanner) error {
			var id int64
			var complete, ends bool
			err := scan(&id, &complete, &ends)
			own.entries, aborted = append(own.entries, id), aborted || ends
			if !complete {
				own.open++
			}
			return err
		})
	}
	if err == nil && aborted {
		own.deserted, err = r.deserted(ctx, job)
	}
	// Whoever asks again after a lost answer is to hear the same.
	if err == nil && !own.deserted {
		_, err = db.Pool.ExecContext(ctx, "UPDATE hostsched_own_jobs SET seen = "+db.Dialect.NowMillis+" WHERE job_id = ?", job)
	}
	return own, r.lab.Explain(err, fmt.Sprintf("read job %d", job))
}

// deserted tells whether a sweep ended a job because nobody had asked for it, and no person did.
func (r *Runs) deserted(ctx context.Context, job int64) (yes bool, err error) {
	system, err := r.lab.SystemUser(ctx)
	if err != nil {
		return false, err
	}
	db := r.lab.DB()
	query := "SELECT EXISTS (SELECT 1 FROM hostsched_own_jobs o JOIN afe_host_queue_entries q ON q.job_id = o.job_id WHERE o.job_id = ? AND q.aborted = 1 AND o.seen < " + db.Dialect.NowMillis + " - ?)" +
		" AND NOT EXISTS (SELECT 1 FROM afe_aborted_host_queue_entries a JOIN afe_host_queue_entries q ON q.id = a.queue_entry_id WHERE q.job_id = ? AND a.aborted_by_id <> ?)"
	err = db.Pool.QueryRowContext(ctx, query, job, lifecycle.OwnPatience, job, system).Scan(&yes)
	return yes, err
}

func (r *Runs) claimOwnJob(ctx context.Context, who access.Caller, key claimKey, job int64, own ownJob) error {
	find := func() (target, error) {
		t, err := r.jobTarget(ctx, job, own.entries)
		t.history = true
		return t, err
	}
	ready := false
	err := r.change(ctx, fmt.Sprintf("claim job %d", job), who.Login, find, func(c *change) error {
		if err := c.doneAtOnce(); err != nil {
			return err
		}
		run := newRun{key: key, kind: kindJob, login: who.Login, hard: own.minutes * 60_000, entries: map[scheduler.HostID]scheduler.EntryID{}}
		if own.kind == labapi.OwnReserve {
			run.kind = kindReserve
		}
		if ready = c.takeStarting(&run); !ready {
			return nil // what was done at once stays done
		}
		if err := c.claimEntries(run); err != nil {
			return err
		}
		if own.kind != labapi.OwnReserve {
			return nil
		}
		return c.reserve(key, job, run.hard)
	})
	if err == nil && !ready {
		err = fmt.Errorf("%w: not all hosts of job %d are ready", ErrOfferGone, job)
	}
	return err
}

// takeStarting gives a run all entries of the job, if all that are not complete can start.
func (c *change) takeStarting(run *newRun) bool {
	for id, e := range c.state.Entries {
		switch {
		case e.Complete:
		case e.Status != scheduler.StatusStarting, e.Claimed, e.Aborted:
			return false
		default:
			run.entries[e.Host], run.hosts = id, append(run.hosts, e.Host)
		}
	}
	return len(run.hosts) > 0
}
