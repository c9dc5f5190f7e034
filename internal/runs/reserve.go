package runs

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hostsched/hostsched/internal/access"
	"github.com/hostsched/hostsched/internal/jobspec"
	"github.com/hostsched/hostsched/internal/lab"
	"github.com/hostsched/hostsched/internal/labapi"
	"github.com/hostsched/hostsched/store/sqldb"
)

// reservation is a run of that kind that is not closed, as a caller may change it.
func (r *Runs) reservation(ctx context.Context, who access.Caller, id int64) (Run, error) {
	if err := r.check(); err != nil {
		return Run{}, err
	}
	db := r.lab.DB()
	run, err := r.byID(ctx, db.Pool, id, "")
	switch {
	case errors.Is(err, ErrRunLost), err == nil && run.Kind != kindReserve:
		return run, fmt.Errorf("%w: run %d is no reservation", lab.ErrNotFound, id)
	case err != nil:
		return run, err
	case !run.Open():
		return run, fmt.Errorf("%w: the reservation %d is over", lab.ErrConflict, id)
	}
	return run, access.ChangingJobs.Check(who, run.Who == who.Login)
}

// reserve lets a run that was just claimed hold its hosts until the reservation ends: there is
// no process that would renew its lease.
func (c *change) reserve(key claimKey, job, millis int64) error {
	if err := c.exec("UPDATE hostsched_runs SET lease_ms = ?, lease_until = claimed + ? WHERE claim_key = ?", millis, millis, key.hash); err != nil {
		return err
	}
	return c.exec("UPDATE hostsched_own_jobs SET until = (SELECT r.lease_until FROM hostsched_runs r WHERE r.claim_key = ?) WHERE job_id = ?", key.hash, job)
}

// Extend makes a reservation end later, and returns when it ends.
func (r *Runs) Extend(ctx context.Context, who access.Caller, id int64, by time.Duration) (labapi.Run, error) {
	run, err := r.reservation(ctx, who, id)
	if err != nil {
		return labapi.Run{}, err
	}
	if by <= 0 {
		return labapi.Run{}, fmt.Errorf("%w: a reservation is extended by some time, like 1h", lab.ErrInput)
	}
	db := r.lab.DB()
	err = r.lab.Change(ctx, "extend a reservation", func(tx *sql.Tx) error {
		var until, now int64
		query := "SELECT o.until, " + db.Dialect.NowMillis + " FROM hostsched_own_jobs o WHERE o.job_id = ? AND o.until IS NOT NULL" + db.Dialect.ForUpdate
		if err := tx.QueryRowContext(ctx, query, run.Job).Scan(&until, &now); err != nil {
			return err
		}
		until += by.Milliseconds()
		if most := jobspec.LongestReserve; until > now+most.Milliseconds() {
			return fmt.Errorf("%w: a reservation ends at the latest %v from now; extend it again later", lab.ErrInput, most)
		}
		for _, change := range []struct {
			query string
			args  []any
		}{
			{"UPDATE hostsched_runs SET lease_until = ?, hard_ms = hard_ms + ? WHERE id = ? AND state IN " + lab.OpenRuns, []any{until, by.Milliseconds(), id}},
			{"UPDATE hostsched_own_jobs SET until = ? WHERE job_id = ?", []any{until, run.Job}},
			{"UPDATE afe_jobs SET max_runtime_mins = max_runtime_mins + ? WHERE id = ?", []any{int64((by + time.Minute - 1) / time.Minute), run.Job}},
		} {
			if _, err := tx.ExecContext(ctx, change.query, change.args...); err != nil {
				return err
			}
		}
		return r.lab.Note(ctx, tx, lab.Event{Kind: "run.extended", Job: run.Job, Who: who.Login, Subject: fmt.Sprint("run ", id), Reason: "by " + by.String()})
	})
	if err != nil {
		return labapi.Run{}, err
	}
	return r.Get(ctx, id)
}

// Release ends a reservation; its hosts are cleaned.
func (r *Runs) Release(ctx context.Context, who access.Caller, id int64) (labapi.Run, error) {
	run, err := r.reservation(ctx, who, id)
	if err == nil {
		run.Who = who.Login
		err = r.endReservation(ctx, run)
	}
	if err != nil {
		return labapi.Run{}, err
	}
	return r.Get(ctx, id)
}

func (r *Runs) endReservation(ctx context.Context, run Run) error {
	if _, err := r.Finish(ctx, run, labapi.RunFinish{Result: resultPassed}); err != nil {
		return fmt.Errorf("end reservation %d: %w", run.ID, err)
	}
	return nil
}

// endReservations ends those whose time is over, or whose job somebody aborted: there is no
// process that could be asked to.
func (r *Runs) endReservations(ctx context.Context, done *Swept) error {
	db := r.lab.DB()
	ids, err := sqldb.SelectIDs(ctx, db.Pool, "SELECT r.id FROM hostsched_runs r JOIN hostsched_own_jobs o ON o.job_id = r.job_id WHERE r.kind = 'reserve' AND r.state IN "+lab.OpenRuns+
		" AND (o.until <= "+db.Dialect.NowMillis+" OR EXISTS (SELECT 1 FROM afe_host_queue_entries q WHERE q.job_id = r.job_id AND q.aborted = 1))")
	if err != nil {
		return r.lab.Explain(err, "look for reservations that are over")
	}
	var errs []error
	for _, id := range ids {
		run, err := r.byID(ctx, db.Pool, id, "")
		if err == nil && run.Open() {
			run.Who = sweeper
			err = r.endReservation(ctx, run)
		}
		if err == nil {
			done.Released++
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
