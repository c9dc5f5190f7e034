package runs

import (
	"context"
	"fmt"
	"time"

	"github.com/hostsched/hostsched/store/sqldb"
)

const (
	// clearEvery is how often what finished jobs left is looked for, as in the original;
	// clearBatch is how much of it is deleted in one go.
	clearEvery = 5 * time.Minute
	clearBatch = 1000
	// ownKept is how long the submitter of a job that is over may still ask what became of
	// it, in milliseconds.
	ownKept = 24 * 60 * 60_000
)

// clear deletes what only jobs need that are not over: which hosts they may not get again, and
// who asks for those that their submitter runs. Sweeps would look at all of it.
func (r *Runs) clear(ctx context.Context, done *Swept) error {
	const over = "NOT EXISTS (SELECT 1 FROM afe_host_queue_entries q WHERE q.complete = 0 AND q.job_id = x.job_id)"
	more := false
	for _, c := range []struct{ what, key, table, condition string }{
		{"the hosts that finished jobs may not get again", "id", "afe_ineligible_host_queues", ""},
		{"who asked for jobs that are over", "job_id", "hostsched_own_jobs", fmt.Sprintf(" AND x.seen < %s - %d", r.lab.DB().Dialect.NowMillis, ownKept)},
	} {
		n, err := r.clearTable(ctx, c.key, c.table, over+c.condition)
		if err != nil {
			return r.lab.Explain(err, "delete "+c.what)
		}
		done.Cleared += n
		more = more || n == clearBatch
	}
	if !more {
		r.lastCleared = time.Now()
	}
	return nil
}

func (r *Runs) clearTable(ctx context.Context, key, table, condition string) (int, error) {
	pool := r.lab.DB().Pool
	ids, err := sqldb.SelectIDs(ctx, pool, fmt.Sprintf("SELECT x.%s FROM %s x WHERE %s ORDER BY x.%s LIMIT %d", key, table, condition, key, clearBatch))
	if err == nil && len(ids) > 0 {
		_, err = pool.ExecContext(ctx, fmt.Sprintf("DELETE FROM %s WHERE %s IN %s", table, key, sqldb.List(ids)))
	}
	return len(ids), err
}
