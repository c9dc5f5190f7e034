package runs

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/hostsched/hostsched/internal/lifecycle"
	"github.com/hostsched/hostsched/store/sqldb"
)

// taskTarget is what a change of a special task is about: its host, and its entry's job.
func (r *Runs) taskTarget(ctx context.Context, task int64) (t target, err error) {
	var host, entry int64
	var kind lifecycle.Kind
	db := r.lab.DB()
	err = db.Pool.QueryRowContext(ctx, "SELECT host_id, task, COALESCE(queue_entry_id, 0) FROM afe_special_tasks WHERE id = ?", task).Scan(&host, &kind, &entry)
	if errors.Is(err, sql.ErrNoRows) {
		return t, fmt.Errorf("%w: there is no task %d", ErrOfferGone, task)
	}
	if err == nil && entry != 0 {
		t, err = r.entryTarget(ctx, entry)
	}
	t.history = true
	t.hosts = append(t.hosts, host)
	return t, err
}

// entryTarget is what a change of an entry is about.
func (r *Runs) entryTarget(ctx context.Context, entry int64) (target, error) {
	var job int64
	db := r.lab.DB()
	err := db.Pool.QueryRowContext(ctx, "SELECT job_id FROM afe_host_queue_entries WHERE id = ?", entry).Scan(&job)
	if errors.Is(err, sql.ErrNoRows) {
		return target{}, fmt.Errorf("%w: there is no entry %d", ErrOfferGone, entry)
	}
	if err != nil {
		return target{}, err
	}
	return r.jobTarget(ctx, job, []int64{entry})
}

// jobTarget is what a change of some entries of a job is about: of all of them, if the job's
// entries start together.
func (r *Runs) jobTarget(ctx context.Context, job int64, entries []int64) (target, error) {
	t := target{job: job, entries: entries}
	var synch int
	db := r.lab.DB()
	if err := db.Pool.QueryRowContext(ctx, "SELECT synch_count FROM afe_jobs WHERE id = ?", job).Scan(&synch); err != nil {
		return t, err
	}
	where := "id IN " + sqldb.List(entries)
	if t.together = synch > 1; t.together {
		where = fmt.Sprintf("job_id = %d", job)
	}
	hosts, err := sqldb.SelectIDs(ctx, db.Pool, "SELECT host_id FROM afe_host_queue_entries WHERE complete = 0 AND host_id IS NOT NULL AND "+where)
	t.hosts = hosts
	return t, err
}

// runTarget is what a change of a run is about.
func (r *Runs) runTarget(ctx context.Context, run Run) (t target, err error) {
	if run.isTask() {
		t, err = r.taskTarget(ctx, run.Task)
		return t, lostIfGone(err)
	}
	var entries, hosts []int64
	db := r.lab.DB()
	err = sqldb.EachRow(ctx, db.Pool, "SELECT host_id, entry_id FROM hostsched_run_hosts WHERE run_id = ?", []any{run.ID}, func(scan sqldb.Scanner) error {
		var host, entry int64
		err := scan(&host, &entry)
		entries, hosts = append(entries, entry), append(hosts, host)
		return err
	})
	if err != nil {
		return t, err
	}
	t, err = r.jobTarget(ctx, run.Job, entries)
	t.hosts = append(t.hosts, hosts...)
	return t, err
}

// lostIfGone says what it means for a run that its rows are gone.
func lostIfGone(err error) error {
	if errors.Is(err, ErrOfferGone) {
		return fmt.Errorf("%w: what it was for was deleted", ErrRunLost)
	}
	return err
}
