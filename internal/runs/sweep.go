package runs

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/lifecycle"
	"github.com/hostsched/hostsched/scheduler"
	"github.com/hostsched/hostsched/store/sqldb"
)

// wholeEvery is how often a sweep looks at all that waits.
const wholeEvery = 15 * time.Second

// sweeper is who is named where the servers do something by themselves.
const sweeper = "hostsched"

// Swept counts what a sweep did.
type Swept struct {
	Lost, Stopped, Ended, Released, Steps, AtOnce, Cleared int
}

// Any tells whether it did anything.
func (s Swept) Any() bool { return s != Swept{} }

// Sweep does what is due and what nobody reports: it gives up runs whose leases have ended,
// asks for the end of those whose time is over, and looks after what was left behind. Any
// number of servers may sweep at the same time, because each step is looked at again under
// the locks of its rows; but one Runs sweeps once at a time.
func (r *Runs) Sweep(ctx context.Context) (done Swept, err error) {
	if r.Off {
		return done, nil
	}
	if err := r.noteAlive(ctx); err != nil {
		return done, err
	}
	whole := time.Since(r.lastWhole) >= wholeEvery
	p, err := r.picture(ctx, whole)
	if err != nil {
		return done, err
	}
	if whole {
		r.lastWhole = time.Now()
	}
	due := lifecycle.Due(p)
	errs := []error{
		r.loseAll(ctx, due.Lose, "its lease ended, and nobody was heard of", leaseOver(r.lab.DB().Dialect.NowMillis), &done),
		r.loseAll(ctx, due.Unknown, "its agent does not know of it", neverNamed, &done),
		r.stopAll(ctx, due.Stop, &done),
		r.endReservations(ctx, &done),
		r.endEntries(ctx, due.TimedOut, "the time of the job is over", "", &done),
		r.endEntries(ctx, due.Deserted, "whoever submitted the job does not ask for it any more",
			fmt.Sprintf(" AND job_id IN (SELECT o.job_id FROM hostsched_own_jobs o WHERE o.seen < %s - %d)", r.lab.DB().Dialect.NowMillis, lifecycle.OwnPatience), &done),
	}
	for _, step := range due.Steps {
		errs = append(errs, r.step(ctx, step, &done))
	}
	if due.Recheck || p.Rechecked == p.Now {
		errs = append(errs, r.noteRecheck(ctx, p.Now))
	}
	if time.Since(r.lastCleared) >= clearEvery {
		errs = append(errs, r.clear(ctx, &done))
	}
	return done, errors.Join(append(errs, r.atOnce(ctx, &done))...)
}

// noteRecheck notes when the hosts that could not be repaired were looked at.
func (r *Runs) noteRecheck(ctx context.Context, now int64) error {
	return r.lab.Explain(r.setFact(ctx, r.lab.DB().Pool, factRechecked, now), "note when hosts were verified again")
}

// loseAll gives runs up if a condition still holds for them.
func (r *Runs) loseAll(ctx context.Context, ids []lifecycle.RunID, reason, condition string, done *Swept) error {
	var errs []error
	for _, id := range ids {
		run, err := r.byID(ctx, r.lab.DB().Pool, int64(id), "")
		if err == nil && run.Open() {
			err = r.lose(ctx, run, reason, condition)
			done.Lost++
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// stopAll asks runs to stop. Their claimants hear of it with the answer to their next call.
func (r *Runs) stopAll(ctx context.Context, stops []lifecycle.RunStop, done *Swept) error {
	if len(stops) == 0 {
		return nil
	}
	byReason := map[lifecycle.Reason][]int64{}
	for _, s := range stops {
		byReason[s.Reason] = append(byReason[s.Reason], int64(s.Run))
	}
	return r.lab.Change(ctx, "ask runs to stop", func(tx *sql.Tx) error {
		for reason, ids := range byReason {
			if err := r.lab.StopRuns(ctx, tx, string(reason), "id IN "+sqldb.List(ids)); err != nil {
				return err
			}
			done.Stopped += len(ids)
		}
		return nil
	})
}

// endEntries asks for the end of entries that are not complete and for which a condition
// holds, as a person does who aborts them.
func (r *Runs) endEntries(ctx context.Context, ids []scheduler.EntryID, reason, condition string, done *Swept) error {
	if len(ids) == 0 {
		return nil
	}
	in := sqldb.List(sqldb.Int64s(ids))
	return r.lab.Change(ctx, "end jobs whose time is over", func(tx *sql.Tx) error {
		var events []lab.Event
		var still []int64
		query := "SELECT id, job_id, COALESCE(host_id, 0) FROM afe_host_queue_entries WHERE complete = 0 AND aborted = 0 AND id IN " + in + condition + " ORDER BY id" + r.lab.DB().Dialect.ForUpdate
		err := sqldb.EachRow(ctx, tx, query, nil, func(scan sqldb.Scanner) error {
			e := lab.Event{Kind: "entry.aborted", Who: sweeper, Reason: reason}
			err := scan(&e.Entry, &e.Job, &e.Host)
			still, events = append(still, e.Entry), append(events, e)
			return err
		})
		if err != nil || len(still) == 0 {
			return err
		}
		if err := r.lab.MarkAborted(ctx, tx, sweeper, still, true); err != nil {
			return err
		}
		done.Ended += len(still)
		return r.lab.Note(ctx, tx, events...)
	})
}

// step does one event that is due, if it still fits.
func (r *Runs) step(ctx context.Context, s lifecycle.Step, done *Swept) error {
	what := fmt.Sprintf("look after host %d", s.Host)
	if s.Job != 0 {
		what += fmt.Sprintf(" of job %d", s.Job)
	}
	err := r.change(ctx, what, sweeper, func() (target, error) { return r.stepTarget(ctx, s) }, func(c *change) error {
		if err := c.apply(s.Event); err != nil {
			return err
		}
		return c.doneAtOnce()
	})
	switch {
	case err == nil:
		done.Steps++
	case errors.Is(err, lifecycle.ErrNotNow), errors.Is(err, ErrOfferGone):
		return nil // somebody else was faster
	}
	return err
}

func (r *Runs) stepTarget(ctx context.Context, s lifecycle.Step) (t target, err error) {
	switch e := s.Event.(type) {
	case lifecycle.TaskEnded:
		return r.taskTarget(ctx, int64(e.Task))
	case lifecycle.Abort:
		t, err = r.entryTarget(ctx, int64(e.Entry))
	case lifecycle.Stranded:
		t, err = r.entryTarget(ctx, int64(e.Entry))
	case lifecycle.HostlessEnded:
		t, err = r.entryTarget(ctx, int64(e.Entry))
	case lifecycle.Settle:
		t, err = r.pendingTarget(ctx, int64(s.Job))
	default:
		t = target{hosts: []int64{int64(s.Host)}}
	}
	t.history = true
	return t, err
}

// pendingTarget is what a change of the Pending entries of a job is about.
func (r *Runs) pendingTarget(ctx context.Context, job int64) (target, error) {
	ids, err := sqldb.SelectIDs(ctx, r.lab.DB().Pool, "SELECT id FROM afe_host_queue_entries WHERE job_id = ? AND status = ? AND complete = 0", job, string(scheduler.StatusPending))
	if err == nil && len(ids) == 0 {
		err = fmt.Errorf("%w: no entry of job %d is Pending", ErrOfferGone, job)
	}
	if err != nil {
		return target{}, err
	}
	return r.jobTarget(ctx, job, ids)
}

// atOnce counts the special tasks as done that nobody runs, because no agent serves the hosts.
func (r *Runs) atOnce(ctx context.Context, done *Swept) error {
	tasks, err := r.waitingTasks(ctx, r.lab.DB().Pool, "m.agent_id IS NULL")
	if err != nil {
		return r.lab.Explain(err, "look for tasks of hosts without agent")
	}
	for _, t := range tasks {
		err := r.change(ctx, fmt.Sprintf("end task %d", t.id), sweeper, func() (target, error) { return r.taskTarget(ctx, t.id) }, (*change).doneAtOnce)
		if err != nil && !errors.Is(err, ErrOfferGone) {
			return err
		}
		done.AtOnce++
	}
	return nil
}
